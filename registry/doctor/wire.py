"""HTTP to the deployed address, with control over when bytes are sent, and sight of when they arrive."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from urllib.parse import SplitResult

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 10.0
MAX_BODY = 2 * 1024 * 1024
BAD_TLS = ssl.CERT_NONE  # the probe of the certificate reports a bad one; the others go on


@dataclass(frozen=True, slots=True)
class Address:
    """Scheme, host and port of an HTTP server; ``netloc`` as a client writes it in Host."""

    scheme: str
    host: str
    port: int
    netloc: str

    @classmethod
    def of(cls, url: SplitResult) -> Address:
        """The address of a URL."""
        is_https = url.scheme == "https"
        return cls(url.scheme, url.hostname or "", url.port or (443 if is_https else 80), url.netloc)

    @property
    def is_https(self) -> bool:
        """Whether clients use TLS."""
        return self.scheme == "https"

    def at(self, netloc: str) -> Address:
        """The same scheme and port at another host."""
        host = netloc.rpartition(":")[0] if netloc.rpartition(":")[2].isdigit() else netloc
        return Address(self.scheme, host, self.port, netloc)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. ``seconds``: from the request to its head. ``spread``: from the first byte of the body to the last.

    ``port``: that of our side of the connection.
    """

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float
    spread: float
    port: int


def resolve(host: str) -> list[str]:
    """The addresses of a host. Names below localhost are this machine (RFC 6761). Raises OSError."""
    if host == "localhost" or host.endswith(".localhost"):
        return ["127.0.0.1"]
    return sorted({str(row[4][0]) for row in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})


@contextmanager
def connected(address: Address, seconds: float = CONNECT_SECONDS, *, verified: bool = False) -> Iterator[socket.socket]:
    """Yield a connection, with TLS for https. ``verified``: check the certificate. Raises OSError, ssl.SSLError."""
    context = ssl.create_default_context()
    if not verified:
        context.check_hostname, context.verify_mode = False, BAD_TLS
    with closing(_connect(address, seconds)) as plain:
        if not address.is_https:
            yield plain
            return
        with context.wrap_socket(plain, server_hostname=address.host) as secure:
            yield secure


def _connect(address: Address, seconds: float) -> socket.socket:
    refusal: OSError = OSError(f"{address.host} has no address")
    for found in resolve(address.host):
        try:
            return socket.create_connection((found, address.port), seconds)
        except OSError as error:
            refusal = error
    raise refusal


def ask(
    address: Address,
    method: str,
    path: str,
    headers: Mapping[str, str] | None = None,
    body: Iterable[bytes] | None = None,
    seconds: float = ANSWER_SECONDS,
) -> Answer:
    """Send a request and read the answer. A body without Content-Length in ``headers`` is sent in chunks.

    Raises OSError, http.client.HTTPException.
    """
    with connected(address) as sock:
        sock.settimeout(seconds)
        connection = http.client.HTTPConnection(address.host, address.port, timeout=seconds)
        connection.sock = sock
        given = {"Host": address.netloc, "User-Agent": "kcr-doctor", **(headers or {})}
        is_chunked = body is not None and "Content-Length" not in given
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in {**given, **({"Transfer-Encoding": "chunked"} if is_chunked else {})}.items():
            connection.putheader(name, value)
        connection.endheaders()
        began = time.monotonic()
        try:
            for block in body or ():
                connection.send(b"%x\r\n%s\r\n" % (len(block), block) if is_chunked else block)
            if is_chunked:
                connection.send(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):  # an answer may have come before the end of the body
            pass
        return _read(connection, began, sock.getsockname()[1])


def _read(connection: http.client.HTTPConnection, began: float, port: int) -> Answer:
    response = connection.getresponse()
    seconds, body, first, last = time.monotonic() - began, bytearray(), 0.0, 0.0
    while len(body) < MAX_BODY and (block := response.read1(64 * 1024)):
        last = time.monotonic()
        first = first or last
        body += block
    return Answer(response.status, response.headers, bytes(body), seconds, last - first, port)
