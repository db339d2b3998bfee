"""Clients of a running server: plain requests with one token, for tests that cut, delay and kill; a console's visitor."""

from __future__ import annotations

import hashlib
import json
import socket
from contextlib import closing, contextmanager
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from tests.support.programs import run
from tests.support.server import ORGANIZATION, AccessKey, Server

if TYPE_CHECKING:
    import http.client
    from collections.abc import Iterable, Iterator

PASSWORD = "correct horse battery"
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

    def visitor(self, email: str, *options: str) -> Visitor:
        """A new person, see ``Visitor.new``."""
        return Visitor.new(self, email, *options)

    def restart(self, **settings: str) -> None:
        """Kill everything and serve again on the same data, with these further settings."""
        self.crash()
        self.settings = {name: value for name, value in self.settings.items() if name != "KCR_FAILPOINT"} | settings
        self.serve()

    def api(self, image: str = "demo/web/app") -> Api:
        """A client with a token for pushing to this image."""
        challenge = {
            "realm": f"{self.url}/token",
            "service": self.host,
            "scope": f"repository:{image}:pull,push,delete",
        }
        return Api(self, self.client(self.key).token(challenge), image)


class Api:
    """Requests below /v2/ and the name of an image, or to a whole path."""

    def __init__(self, server: Server, token: str, image: str = "demo/web/app") -> None:
        self.server, self.image = server, image
        self.headers = {"Authorization": f"Bearer {token}", "Host": server.host}

    @contextmanager
    def open(
        self, method: str, path: str, body: bytes | Iterable[bytes] | None = None, **headers: str
    ) -> Iterator[http.client.HTTPResponse]:
        """One request; its answer is still to be read."""
        connection = self.server.connect()
        path = path if path.startswith("/") else f"/v2/{self.image}/{path}"
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


class Visitor:
    """Somebody who signed in to the console with a browser that has no scripts: pages, forms, one cookie for each."""

    def __init__(self, server: Server, email: str) -> None:
        self.server, self.cookies = server, SimpleCookie()
        status, _, _ = self.send("/sign-in", email=email, password=PASSWORD)
        assert status == 302, f"{email} cannot sign in"

    @classmethod
    def new(cls, server: Server, email: str, *options: str) -> Visitor:
        """A new person of the organization with these options of ``adduser``, signed in."""
        command = server.command("adduser", email, "--organization", ORGANIZATION, *options, "--password-stdin")
        run(command, environment=server.environment, text_input=PASSWORD)
        return cls(server, email)

    def see(self, path: str) -> str:
        """The page of this path."""
        status, _, page = self.ask("GET", path)
        assert status == 200, f"{path}: {status}"
        return page

    def send(self, path: str, **fields: str) -> tuple[int, str, str]:
        """Fill in the form of a page that has these fields, and send it; status, where it leads, and the answer's page.

        What the form was shown with is sent as well; checkboxes and radio buttons only when they are checked.
        """
        return self.post(*self.filled(path, **fields))

    def filled(self, path: str, **fields: str) -> tuple[str, dict[str, str]]:
        """Where such a form goes, and all its fields."""
        found = _Forms(self.see(path)).found
        action, shown = next((action, shown) for action, shown, names in found if names >= fields.keys())
        return action or path, shown | fields

    def post(self, path: str, fields: dict[str, str]) -> tuple[int, str, str]:
        """Send fields; status, where it leads, and the answer's page."""
        status, headers, page = self.ask("POST", path, urlencode(fields))
        return status, headers.get("Location", ""), page

    def ask(self, method: str, path: str, body: str | None = None) -> tuple[int, dict[str, str], str]:
        """One request; status, headers and page."""
        cookies = "; ".join(f"{name}={cookie.value}" for name, cookie in self.cookies.items())
        headers = {"Host": self.server.host, "Cookie": cookies, "Origin": self.server.url}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        with closing(self.server.connect(timeout=600)) as connection:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            for cookie in answer.headers.get_all("Set-Cookie", ()):
                self.cookies.load(cookie)
            return answer.status, dict(answer.headers), answer.read().decode()


class _Forms(HTMLParser):
    """The forms of a page that are sent by POST: where each goes, what it was shown with, and the names of its fields."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str], set[str]]] = []
        self._is_open = False
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag == "form":
            self._is_open = given.get("method") == "post"
            if self._is_open:
                self.found.append((given.get("action") or "", {}, set()))
        elif self._is_open and (name := given.get("name")):
            _, shown, names = self.found[-1]
            names.add(name)
            is_choice = given.get("type") in {"checkbox", "radio", "submit"} or tag == "button"
            if tag == "input" and (not is_choice or "checked" in given):
                shown[name] = given.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        self._is_open = self._is_open and tag != "form"
