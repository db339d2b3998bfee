"""An issuer of ID tokens on loopback that signs what it is told, in the shapes of GitHub, GitLab and Kubernetes."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

if TYPE_CHECKING:
    from collections.abc import Iterator

AUDIENCE = "http://localhost:8080"
_RSA = {bits: rsa.generate_private_key(public_exponent=65537, key_size=bits) for bits in (1024, 2048)}


def base64url(content: bytes | dict[str, Any]) -> str:
    """The content, JSON if it is an object, as tokens write it."""
    raw = json.dumps(content).encode() if isinstance(content, dict) else content
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@dataclass
class SigningKey:
    """A private key with its algorithm and name."""

    name: str = "key-1"
    algorithm: str = "RS256"
    bits: int = 2048
    private: Any = None

    def __post_init__(self) -> None:
        if self.private is None:
            made = {
                "RS": lambda: _RSA[self.bits],
                "PS": lambda: _RSA[self.bits],
                "ES": self._curve,
                "Ed": ed25519.Ed25519PrivateKey.generate,
            }
            self.private = made[self.algorithm[:2]]()

    def _curve(self) -> Any:
        curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
        return ec.generate_private_key(curves[self.algorithm])

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key as a JWK."""
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        found = json.loads(algorithm.to_jwk(self.private.public_key()))
        return {**{name: found[name] for name in found if name != "key_ops"}, "kid": self.name, "use": "sig"}

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """A token with these claims; ``header``: further fields of its header."""
        payload, headers = json.dumps(claims).encode(), {"kid": self.name, **header}
        return jwt.PyJWS().encode(payload, self.private, algorithm=self.algorithm, headers=headers)


@dataclass
class Issuer:
    """``keys``: what it publishes. ``requests``: the paths that it was asked for. ``answers``: by path, instead."""

    url: str = "https://issuer.test"
    keys: list[SigningKey] = field(default_factory=lambda: [SigningKey()])
    requests: list[str] = field(default_factory=list)
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    @property
    def jwks(self) -> str:
        """The published keys as JSON."""
        return json.dumps({"keys": [key.jwk for key in self.keys]})

    def answer(self, path: str) -> tuple[int, bytes]:
        """Status and body."""
        self.requests.append(path)
        if path in self.answers:
            return self.answers[path]
        if path == "/.well-known/openid-configuration":
            return 200, json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        return (200, self.jwks.encode()) if path == "/keys" else (404, b"")

    def claims(self, **more: Any) -> dict[str, Any]:
        """Claims that every token has."""
        now = int(time.time())
        times = {"iat": now, "nbf": now, "exp": now + 300}
        return {"iss": self.url, "aud": AUDIENCE, "sub": "job", "jti": uuid.uuid4().hex, **times, **more}

    def token(self, claims: dict[str, Any]) -> str:
        """The claims, signed with the newest key."""
        return self.keys[-1].sign(claims)

    def github(self, **more: Any) -> dict[str, Any]:
        """Claims of a job of GitHub Actions."""
        claims = {
            "sub": "repo:Acme/web:ref:refs/heads/main",
            "repository": "Acme/web",
            "repository_id": "1296269",
            "repository_owner": "Acme",
            "repository_owner_id": "583231",
            "ref": "refs/heads/main",
            "ref_type": "branch",
            "sha": "9d5e0c1b2f6a4e3d8c7b6a5f4e3d2c1b0a9f8e7d",
            "event_name": "push",
            "workflow": "build",
            "job_workflow_ref": "Acme/web/.github/workflows/build.yml@refs/heads/main",
            "run_id": "8675309",
            "run_attempt": "1",
            "actor": "mina",
        }
        return self.claims(**claims | more)

    def gitlab(self, **more: Any) -> dict[str, Any]:
        """Claims of a job of GitLab CI."""
        claims = {
            "sub": "project_path:acme/tools/web:ref_type:branch:ref:main",
            "project_path": "acme/tools/web",
            "project_id": "22",
            "namespace_path": "acme/tools",
            "namespace_id": "72",
            "ref": "main",
            "ref_type": "branch",
            "ref_protected": "true",
            "sha": "9d5e0c1b2f6a4e3d8c7b6a5f4e3d2c1b0a9f8e7d",
            "pipeline_id": "574",
            "job_id": "302",
            "user_login": "mina",
        }
        return self.claims(**claims | more)

    def kubernetes(self, **more: Any) -> dict[str, Any]:
        """Claims of a projected token of a service account of Kubernetes."""
        account = {"name": "builder", "uid": "0c9a1d0e-5b1c-4f6f-9f51-0a3f0a4b1c2d"}
        own = {"namespace": "ci", "pod": {"name": "build-7", "uid": "1"}, "serviceaccount": account}
        return self.claims(**{"sub": "system:serviceaccount:ci:builder", "kubernetes.io": own} | more)


@contextmanager
def serving(issuer: Issuer) -> Iterator[Issuer]:
    """The issuer as a web server on loopback; ``url`` is its address then."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = issuer.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield issuer
        server.shutdown()
        thread.join()
