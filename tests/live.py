"""A client of a running server for tests that cut, delay and kill: plain requests with one token."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.server import AccessKey, Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def sha256(data: bytes) -> str:
    """The digest of the data."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class LiveServer(Server):
    """A server with one project, one repository and one member with a key: enough for faults."""

    key: AccessKey

    def people(self) -> LiveServer:
        """Make them."""
        self.manage("createorganization", "acme")
        self.manage("createproject", "acme", "demo")
        self.manage("createrepository", "demo/web")
        self.manage("adduser", "member@acme.test", "--organization", "acme", "--project", "demo:member")
        self.key = self.access_key("member@acme.test")
        return self

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    def restart(self, **settings: str) -> None:
        """Kill everything and serve again on the same data, with these further settings."""
        self.crash()
        self.settings = {name: value for name, value in self.settings.items() if name != "KCR_FAILPOINT"} | settings
        self.serve()

    def api(self) -> Api:
        """A client with a token for pushing to demo/web."""
        challenge = {
            "realm": f"{self.url}/token",
            "service": self.host,
            "scope": "repository:demo/web/app:pull,push,delete",
        }
        return Api(self, self.client(self.key).token(challenge))


class Api:
    """Requests below /v2/demo/web/app/, or to a whole path."""

    def __init__(self, server: Server, token: str) -> None:
        self.server = server
        self.headers = {"Authorization": f"Bearer {token}", "Host": server.host}

    @contextmanager
    def open(
        self, method: str, path: str, body: bytes | Iterable[bytes] | None = None, **headers: str
    ) -> Iterator[http.client.HTTPResponse]:
        """One request; its answer is still to be read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        path = path if path.startswith("/") else f"/v2/demo/web/app/{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, self.headers | named)
            with connection.getresponse() as answer:
                yield answer
        finally:
            connection.close()

    def ask(
        self, method: str, path: str, body: bytes | Iterable[bytes] | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """One request; status, headers and body of its answer."""
        with self.open(method, path, body, **headers) as answer:
            return answer.status, dict(answer.headers), answer.read()

    def start(self) -> str:
        """Open an upload; its location."""
        return self.ask("POST", "blobs/uploads/")[1]["Location"]

    def push_blob(self, data: bytes, location: str = "") -> int:
        """Push a blob as docker does; the status of the last request."""
        status, headers, _ = self.ask("PATCH", location or self.start(), iter([data]))
        if status != 202:
            return status
        return self.ask("PUT", f"{headers['Location']}?digest={sha256(data)}")[0]

    def push_manifest(self, tag: str, *layers: bytes) -> int:
        """Push a manifest of pushed blobs (the first is the config) under a tag; the status."""
        parts: list[dict[str, Any]] = [
            {"mediaType": "application/octet-stream", "digest": sha256(data), "size": len(data)} for data in layers
        ]
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": parts[0], "layers": parts[1:]}
        return self.ask("PUT", f"manifests/{tag}", json.dumps(document).encode(), Content_Type=OCI_MANIFEST)[0]

    def raw(self, text: str, body: bytes = b"", *, end: bool = False, wait: float = 5) -> bytes:
        """Send a request line, headers and body as they are, and read what comes back until the end or ``wait``."""
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=wait) as connection:
            head = text.replace("\n", "\r\n") + "".join(f"\r\n{k}: {v}" for k, v in self.headers.items())
            connection.sendall(head.encode() + b"\r\n\r\n" + body)
            if end:
                connection.shutdown(socket.SHUT_WR)
            said = b""
            try:
                while block := connection.recv(65536):
                    said += block
            except TimeoutError:
                pass
            return said
