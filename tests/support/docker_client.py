"""A client of the registry without a network: token handshake, pushes in every shape and pulls, with expected statuses.

    docker = DockerClient(world.member)
    docker.push("web/app", "1.0")                      # pushes blobs and manifest of a new image, returns it
    docker.pull("web/app", "1.0")                      # (manifest, media type), every blob fetched and verified
    docker.get("web/app/manifests/none", expect=404)   # any request, with a token for what the challenge asks

Names are those of the client's host: ``demo.kr-central-2.kcr.localhost:8080`` unless another one is given, so the
repository web of project demo is ``web/…`` here and ``demo/web/…`` on the bare host ``localhost:8080``.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from django.test import Client

from tests.support.both_ways import BothWays
from tests.support.images import MANIFEST_TYPES, OCI_MANIFEST, OCTETS, Image, sha256
from tests.support.registry_client import Answer

if TYPE_CHECKING:
    from django.http import HttpResponseBase

    from tests.support.images import Pushable
    from tests.support.personas import Persona

PROJECT_HOST = "demo.kr-central-2.kcr.localhost:8080"
BARE_HOST = "localhost:8080"
SHAPES = ("patch", "chunks", "put", "post")


class DockerClient:
    """A client of one person (None: without login) on one host."""

    def __init__(self, persona: Persona | None = None, host: str = PROJECT_HOST, *, address: str = "10.0.0.1") -> None:
        self.persona, self.host = persona, host
        self.http = Client(SERVER_NAME=host.partition(":")[0], REMOTE_ADDR=address, headers={"host": host})
        self.http.handler = BothWays(enforce_csrf_checks=False)
        self.tokens: dict[str, str] = persona.tokens.setdefault(host, {}) if persona else {}
        self.scopes: dict[tuple[str, str], str] = {}

    # ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────────
    def get(self, path: str, expect: int | None = None, **options: Any) -> Answer:
        """GET below /v2/."""
        return self.request("GET", path, expect, **options)

    def head(self, path: str, expect: int | None = None, **options: Any) -> Answer:
        """HEAD below /v2/."""
        return self.request("HEAD", path, expect, **options)

    def post(self, path: str, expect: int | None = None, **options: Any) -> Answer:
        """POST below /v2/."""
        return self.request("POST", path, expect, **options)

    def put(self, path: str, expect: int | None = None, **options: Any) -> Answer:
        """PUT below /v2/."""
        return self.request("PUT", path, expect, **options)

    def patch(self, path: str, expect: int | None = None, **options: Any) -> Answer:
        """PATCH below /v2/."""
        return self.request("PATCH", path, expect, **options)

    def delete(self, path: str, expect: int | None = None, **options: Any) -> Answer:
        """DELETE below /v2/."""
        return self.request("DELETE", path, expect, **options)

    def request(
        self,
        method: str,
        path: str,
        expect: int | None = None,
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        stream: Any = None,
    ) -> Answer:
        """Send a request. After a challenge fetch a token for its scope and repeat the request, as docker does.

        ``path`` is below /v2/, or a whole path as in a Location. Tokens are cached.
        """
        path = path if path.startswith("/") else f"/v2/{path}"
        headers = dict(headers or {})
        kind = method, re.split(r"/(?:manifests|tags|referrers|blobs(?!/uploads/?\?.*from=))/", path)[0]
        known = self._authorization(headers, self.scopes.get(kind, ""))
        answer = self.raw(method, path, body=body, headers=headers | known, stream=stream)
        is_fresh = "Authorization" in headers
        while answer.status == 401 and not is_fresh:
            scope = self.scopes[kind] = _scope_of(answer.headers.get("WWW-Authenticate", ""))
            is_fresh = self._authorization(headers, scope) in ({}, known)
            if is_fresh:
                self.tokens[scope] = self.token(scope)
            known = self._authorization(headers, scope)
            answer = self.raw(method, path, body=body, headers=headers | known, stream=stream)
        if expect is not None:
            assert answer.status == expect, f"{method} {path}: {answer.status}, not {expect}: {answer.body[:500]!r}"
        return answer

    def raw(
        self, method: str, path: str, *, body: bytes = b"", headers: dict[str, str] | None = None, stream: Any = None
    ) -> Answer:
        """Send a request exactly as given. ``stream`` (an object with ``read``) is a chunked body of unknown length."""
        environ = {} if stream is None else {"wsgi.input": stream, "wsgi.input_terminated": True}
        response = self.http.generic(method, path, body, content_type="", headers=headers or {}, **environ)
        return Answer(response.status_code, dict(response.headers), _body_of(response))

    def token(self, scope: str = "", expect: int = 200, **parameters: str) -> str:
        """Return a token of the token service, by GET and Basic."""
        answer = self.token_answer(scope, **parameters)
        assert answer.status == expect, answer.body
        return str(answer.json().get("token", ""))

    def token_answer(self, scope: str = "", **parameters: str) -> Answer:
        """Return the whole answer of the token service."""
        query = {"service": self.host, **({"scope": scope} if scope else {}), **parameters}
        text = "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
        return self.raw("GET", f"/token?{text}", headers=self.basic())

    def basic(self) -> dict[str, str]:
        """Return the Authorization header with key and secret; none for an anonymous client."""
        if self.persona is None:
            return {}
        text = f"{self.persona.key.identifier}:{self.persona.secret}"
        return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}

    def _authorization(self, headers: dict[str, str], scope: str) -> dict[str, str]:
        if "Authorization" in headers or scope not in self.tokens:
            return {}
        return {"Authorization": f"Bearer {self.tokens[scope]}"}

    # ── Blobs ────────────────────────────────────────────────────────────────────────────────────────────────────
    def start(self, name: str, expect: int = 202, query: str = "") -> Answer:
        """Open an upload."""
        return self.post(f"{name}/blobs/uploads/{query}", expect)

    def push_blob(self, name: str, data: bytes, shape: str = "patch", digest: str = "") -> str:
        """Push a blob in the shape of a client (SHAPES). Return its digest."""
        digest = digest or sha256(data)
        octets = {"Content-Type": OCTETS}
        if shape == "post":
            self.post(f"{name}/blobs/uploads/?digest={digest}", 201, body=data, headers=octets)
            return digest
        location = self.start(name).headers["Location"]
        rest = data if shape == "put" else b""
        if shape == "patch":
            location = self.patch(location, 202, body=data, headers=octets).headers["Location"]
        elif shape == "chunks":
            middle = len(data) // 2
            for start, end in ((0, middle), (middle, len(data))):
                if start < end:
                    ranged = octets | {"Content-Range": f"{start}-{end - 1}"}
                    location = self.patch(location, 202, body=data[start:end], headers=ranged).headers["Location"]
        joiner = "&" if "?" in location else "?"
        self.put(f"{location}{joiner}digest={digest}", 201, body=rest, headers=octets)
        return digest

    # ── Images ───────────────────────────────────────────────────────────────────────────────────────────────────
    def push(self, name: str, reference: str, thing: Pushable | None = None, *, shape: str = "post") -> Any:
        """Push an object of ``tests.support.images`` and return it.

        Blobs are pushed in the fewest requests unless ``shape`` is given.
        """
        thing = thing or Image()
        for part in thing.parts[:-1]:
            if part.media_type in MANIFEST_TYPES:
                self.push_manifest(name, part.digest, part, part.media_type)
            else:
                self.push_blob(name, part, shape)
        self.push_manifest(name, reference, thing.manifest, thing.media_type)
        return thing

    def push_manifest(
        self, name: str, reference: str, manifest: bytes, media_type: str = OCI_MANIFEST, expect: int = 201
    ) -> Answer:
        """PUT a manifest."""
        return self.put(f"{name}/manifests/{reference}", expect, body=manifest, headers={"Content-Type": media_type})

    def pull(self, name: str, reference: str) -> tuple[bytes, str]:
        """Fetch and verify a manifest and all its blobs. Return the bytes and media type of the manifest."""
        answer = self.get(f"{name}/manifests/{reference}", 200)
        assert answer.headers["Docker-Content-Digest"] == sha256(answer.body)
        document = answer.json()
        for part in [document.get("config"), *document.get("layers", [])]:
            if part:
                assert sha256(self.get(f"{name}/blobs/{part['digest']}", 200).body) == part["digest"]
        return answer.body, answer.headers["Content-Type"]

    def pages(self, path: str) -> list[Answer]:
        """Return all pages of a list by following its links."""
        found: list[Answer] = []
        while path:
            found.append(self.get(path, 200))
            path = found[-1].next_page
            assert len(found) < 200, "pages without an end"
        return found

    def tags(self, name: str) -> list[str]:
        """Return all tags of an image."""
        return list(self.get(f"{name}/tags/list", 200).json()["tags"])


def _scope_of(challenge: str) -> str:
    match = re.search(r'scope="([^"]*)"', challenge)
    return match[1] if match else ""


def _body_of(response: HttpResponseBase) -> bytes:
    body = b"".join(response) if response.streaming else response.content  # type: ignore[attr-defined]
    return bytes(body)
