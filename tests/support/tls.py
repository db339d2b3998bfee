"""A server behind a proxy that ends TLS, and its certificate."""

from __future__ import annotations

import http.client
import ssl
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.server import LiveServer

if TYPE_CHECKING:
    from pathlib import Path


def make_certificate(folder: Path, *names: str, days: int = 1) -> Path:
    """Make a self-signed certificate for localhost and these names. Return its file, named as skopeo expects it."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]),
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=days))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(each) for each in ("localhost", *names)]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, plain = folder / "localhost.crt", serialization.NoEncryption()
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    certificate.with_suffix(".key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )
    return certificate


class TlsServer(LiveServer):
    """A server behind an nginx that ends TLS."""

    certificate: Path

    @property
    def url(self) -> str:
        """The address of the console."""
        return f"https://{self.host}"

    def connect(self, timeout: float = 60) -> http.client.HTTPSConnection:
        """Open a connection with TLS."""
        trusted = ssl.create_default_context(cafile=self.certificate)
        return http.client.HTTPSConnection("localhost", self.port, timeout=timeout, context=trusted)

    def is_ready(self) -> bool:
        """Ask the server directly, as the health check of a container does."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.own_port, timeout=5)) as connection:
            try:
                connection.request("GET", "/readyz")
                return connection.getresponse().status == 200
            except (OSError, http.client.HTTPException):
                return False
