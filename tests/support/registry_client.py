"""A client of a running registry over plain HTTP: single requests, and pushes as real clients make them.

client = server.client(people.member)
client.request("GET", "/v2/demo/web/app/tags/list")    # with the token handshake
client.push("demo/web/app", Image.random("seed"), "1.0")
client.ask("GET", "/healthz")                          # one request, exactly as given

api = server.api("demo/web/app")                       # has a token for this image
api.push_blob(b"bytes")                                # the status
api.ask("GET", "manifests/1.0")                        # paths without a slash in front are below the image
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import urllib.parse
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support.images import MANIFEST_TYPES, OCI_MANIFEST, OCTETS, canonical_json, descriptor, sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.support.images import Blob, Pushable
    from tests.support.server import AccessKey, Server


class Answer(NamedTuple):
    """An answer of a registry."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The JSON of the body."""
        return json.loads(self.body)

    @property
    def codes(self) -> list[str]:
        """The codes of the errors in the body."""
        return [error["code"] for error in self.json()["errors"]]

    @property
    def message(self) -> str:
        """The message of the first error in the body."""
        return str(self.json()["errors"][0]["message"])

    @property
    def next_page(self) -> str:
        """The address in the Link header, "" without one."""
        if "Link" not in self.headers:
            return ""
        address, _, relation = self.headers["Link"].partition(";")
        assert relation.strip() == 'rel="next"'
        assert address[0] + address[-1] == "<>"
        return address[1:-1]


class RegistryClient:
    """A client of one person (without a key: anonymous) on one host of a server.

    ``image`` is PROJECT/REPOSITORY/NAME; paths without a leading slash are below ``/v2/IMAGE/``. ``headers``
    are sent with every request. Connections always go to the server's port on the loopback address.
    """

    def __init__(self, server: Server, key: AccessKey | None = None, *, host: str = "", image: str = "") -> None:
        self.server, self.host, self.image = server, host or server.host, image
        self.basic = base64.b64encode(f"{key.id}:{key.secret}".encode()).decode() if key else None
        self.headers = {"Host": self.host}

    # ── One request ──────────────────────────────────────────────────────────────────────────────────────────────
    @contextmanager
    def open(
        self, method: str, path: str, body: bytes | Iterable[bytes] | None = None, **headers: str
    ) -> Iterator[http.client.HTTPResponse]:
        """Send a request and return its unread response. ``path`` may be an address from the registry."""
        named = self.headers | {name.replace("_", "-"): value for name, value in headers.items()}
        if "://" in path:
            parts = urllib.parse.urlsplit(path)
            assert parts.port == self.server.port, f"{path} leads to another server than {self.server.host}"
            named["Host"], path = parts.netloc, path.partition(parts.netloc)[2]
        elif not path.startswith("/"):
            path = f"/v2/{self.image}/{path}"
        connection = self.server.connect()
        try:
            connection.request(method, path, body, named)
            with connection.getresponse() as answer:
                yield answer
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: bytes | Iterable[bytes] | None = None, **headers: str) -> Answer:
        """Send a request. Return its answer."""
        with self.open(method, path, body, **headers) as answer:
            return Answer(answer.status, dict(answer.headers), answer.read())

    def raw(self, text: str, body: bytes = b"", *, end: bool = False, wait: float = 5) -> bytes:
        """Send raw bytes, and read the answer until its end or ``wait`` seconds."""
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

    # ── The handshake ────────────────────────────────────────────────────────────────────────────────────────────
    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request. After a challenge fetch a token and repeat the request."""
        first = self.ask(method, path, body, **headers)
        challenge = first.headers.get("WWW-Authenticate", "")
        if first.status != http.client.UNAUTHORIZED or not challenge.startswith("Bearer "):
            return first
        told = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        return self.ask(method, path, body, **headers, Authorization=f"Bearer {self.token(told)}")

    def expect(self, status: int, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """As ``request``. Raises AssertionError with the answer for another status."""
        answer = self.request(method, path, body, **headers)
        assert answer.status == status, f"{method} {path}: {answer.status}, not {status}\n{answer}"
        return answer

    def token(self, challenge: Mapping[str, str]) -> str:
        """Return a token for a challenge."""
        asked = {name: challenge[name] for name in ("service", "scope") if name in challenge}
        headers = {"Authorization": f"Basic {self.basic}"} if self.basic is not None else {}
        answer = self.ask("GET", f"{challenge['realm']}?{urllib.parse.urlencode(asked)}", None, **headers)
        assert answer.status == http.client.OK, f"no token: {answer}"
        return str(answer.json()["token"])

    def authorized(self) -> RegistryClient:
        """Fetch a token for pulls, pushes and deletions of the image. Return this client."""
        scope = f"repository:{self.image}:pull,push,delete"
        challenge = {"realm": f"{self.server.url}/token", "service": self.host, "scope": scope}
        self.headers["Authorization"] = f"Bearer {self.token(challenge)}"
        return self

    # ── Requests about the image ─────────────────────────────────────────────────────────────────────────────────
    def start(self) -> str:
        """Open an upload. Return its location."""
        return self.ask("POST", "blobs/uploads/").headers["Location"]

    def push_blob(self, data: bytes, location: str = "") -> int:
        """Push a blob as docker does. Return the status of the last request."""
        status, headers, _ = self.ask("PATCH", location or self.start(), iter([data]))
        if status != http.client.ACCEPTED:
            return status
        return self.ask("PUT", f"{headers['Location']}?digest={sha256(data)}").status

    def push_manifest(self, tag: str, *blobs: bytes) -> int:
        """Push a manifest of pushed blobs (the first is the config) under a tag. Return the status."""
        parts = [descriptor(data, OCTETS) for data in blobs]
        document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": parts[0], "layers": parts[1:]}
        return self.ask("PUT", f"manifests/{tag}", canonical_json(document), Content_Type=OCI_MANIFEST).status

    # ── Whole images ─────────────────────────────────────────────────────────────────────────────────────────────
    def push(self, name: str, thing: Pushable, tag: str | None = None) -> Answer:
        """Push an object of ``tests.support.images`` under a tag, or by digest. Return the answer to its manifest."""
        for part in thing.parts[:-1]:
            if part.media_type in MANIFEST_TYPES:
                self._put_manifest(name, part)
            else:
                self._put_blob(name, part)
        return self._put_manifest(name, thing.manifest, tag)

    def _put_blob(self, name: str, blob: Blob) -> None:
        if self.request("HEAD", f"/v2/{name}/blobs/{blob.digest}").status == http.client.OK:
            return
        location = self.expect(http.client.ACCEPTED, "POST", f"/v2/{name}/blobs/uploads/").headers["Location"]
        joiner = "&" if "?" in location else "?"
        self.expect(http.client.CREATED, "PUT", f"{location}{joiner}digest={blob.digest}", blob, Content_Type=OCTETS)

    def _put_manifest(self, name: str, manifest: Blob, reference: str | None = None) -> Answer:
        path = f"/v2/{name}/manifests/{reference or manifest.digest}"
        return self.expect(http.client.CREATED, "PUT", path, manifest, Content_Type=manifest.media_type)

    def manifest(self, name: str, reference: str) -> Answer:
        """Return the answer to a request for a manifest."""
        return self.request("GET", f"/v2/{name}/manifests/{reference}", Accept=", ".join(MANIFEST_TYPES))

    def referrers(self, name: str, digest: str, artifact_type: str | None = None) -> Answer:
        """Return the list of referrers of a digest."""
        query = f"?{urllib.parse.urlencode({'artifactType': artifact_type})}" if artifact_type else ""
        return self.request("GET", f"/v2/{name}/referrers/{digest}{query}")
