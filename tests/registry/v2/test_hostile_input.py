"""Hostile values in every field of a request: the answer is a client error, never a server error.

Each field gets each value, from an anonymous client and from an owner.
"""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import dataclass
from ipaddress import ip_network
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from registry.models import BlobLease, Image, Manifest, Tag, UploadSession
from registry.storage.filesystem import FileSystemBlobStorage
from tests.support import images
from tests.support.docker_client import PROJECT_HOST, DockerClient
from tests.support.images import descriptor, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.registry_client import Answer

TEN_MEGABYTES = "ten megabytes"
PUSHED = images.Image(layers=[b"a layer"])
DIGEST = sha256(b"a layer")
BAD_REQUESTS = range(400, 500)

# As written in a URL. Values that begin with + are appended to a valid value, the others replace it.
VALUES = {
    "NUL": "+%00",
    "a newline at the end": "+%0A",
    "a carriage return and a header": "+%0D%0AX-Evil:%201",
    "dots": "..",
    "many dots": "../../../../etc/passwd",
    "encoded dots": "%2e%2e",
    "encoded dots and slashes": "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "overlong dots": "%C0%AE%C0%AE%C0%AF",
    "a slash that is encoded twice": "+%252f",
    "dots that are encoded twice": "%252e%252e%252f",
    "as much as the server lets through": "a" * 8_000,
    TEN_MEGABYTES: "a" * 10_000_000,
    "a lone surrogate": "+%ED%A0%80",
    "an escaped lone surrogate": "+%5Cud800",
    "a digit of another alphabet": "+%D9%A3",
    "a letter that looks like another": "+%D0%B0",
    "no UTF-8": "+%FF%FE",
    "half an escape": "+%",
    "an escape that is none": "+%zz",
    "a quotation mark": "+%22",
    "a quotation mark and SQL": "+'%22%20OR%20'1'='1",
    "a space": "+%20",
    "nothing": "",
}


@dataclass(frozen=True)
class Field:
    """A place in a request for a value; ``good`` is a valid value."""

    method: str
    path: str
    good: str
    expected: Callable[[int], bool] = BAD_REQUESTS.__contains__
    accepts: frozenset[str] = frozenset()
    exists: bool = True

    def values(self) -> Iterator[tuple[str, str]]:
        for name, value in VALUES.items():
            if name not in self.accepts:
                yield name, self.good + value[1:] if value.startswith("+") else value


def anything(status: int) -> bool:
    """Any value is accepted, and none may cause an error."""
    return status < 500


def exactly(*statuses: int) -> Callable[[int], bool]:
    return lambda status: status in statuses


NAME = "web/app"
URL_FIELDS = {
    **{
        f"name of {words}": Field(method, f"/v2/{{}}/{path}", NAME)
        for words, method, path in (
            ("tags", "GET", "tags/list"),
            ("a manifest", "GET", "manifests/1.0"),
            ("a manifest to push", "PUT", "manifests/1.0"),
            ("a manifest to delete", "DELETE", "manifests/1.0"),
            ("a blob", "GET", f"blobs/{DIGEST}"),
            ("a blob to delete", "DELETE", f"blobs/{DIGEST}"),
            ("an upload", "POST", "blobs/uploads/"),
            ("an open upload", "PATCH", "blobs/uploads/{upload}"),
            ("referrers", "GET", f"referrers/{DIGEST}"),
        )
    },
    "repository alone": Field("GET", "/v2/{}/app/tags/list", "web"),
    "image alone": Field("GET", "/v2/web/{}/tags/list", "app"),
    **{
        f"tag to {method}": Field(method, "/v2/web/app/manifests/{}", "1.0") for method in ("GET", "HEAD", "PUT", "DELETE")
    },
    **{
        f"digest to {method}": Field(method, "/v2/web/app/manifests/{}", PUSHED.digest)
        for method in ("GET", "HEAD", "PUT", "DELETE")
    },
    **{
        f"digest of a blob to {method}": Field(method, "/v2/web/app/blobs/{}", DIGEST)
        for method in ("GET", "HEAD", "DELETE")
    },
    "digest of referrers": Field("GET", "/v2/web/app/referrers/{}", DIGEST),
    **{
        f"upload to {method}": Field(method, f"/v2/web/app/blobs/uploads/{{}}?digest={DIGEST}", "{upload}")
        for method in ("GET", "HEAD", "PATCH", "PUT", "DELETE")
    },
    "digest at the end of an upload": Field("PUT", "/v2/web/app/blobs/uploads/{upload}?digest={}", DIGEST),
    "digest of an upload at once": Field(
        "POST", "/v2/web/app/blobs/uploads/?digest={}", DIGEST, accepts=frozenset({"nothing"})
    ),
    "digest-algorithm": Field(
        "POST", "/v2/web/app/blobs/uploads/?digest-algorithm={}", "sha256", accepts=frozenset({"nothing"})
    ),
    "mount": Field("POST", "/v2/web/app/blobs/uploads/?mount={}&from=web/app", DIGEST, exactly(202)),
    "source of a mount": Field(
        "POST", f"/v2/web/app/blobs/uploads/?mount={DIGEST}&from={{}}", "web/app", exactly(202)
    ),
    "tag in the query": Field("PUT", f"/v2/web/app/manifests/{PUSHED.digest}?tag={{}}", "2.0"),
    "n of tags": Field("GET", "/v2/web/app/tags/list?n={}", "1"),
    "n of the catalog": Field("GET", "/v2/_catalog?n={}", "1"),
    "n of referrers": Field("GET", f"/v2/web/app/referrers/{DIGEST}?n={{}}", "1"),
    "last of tags": Field("GET", "/v2/web/app/tags/list?last={}", "1.0", anything),
    "last of the catalog": Field("GET", "/v2/_catalog?last={}", "web/app", anything),
    "last of referrers": Field("GET", f"/v2/web/app/referrers/{DIGEST}?last={{}}", "1"),
    "artifactType": Field("GET", f"/v2/web/app/referrers/{DIGEST}?artifactType={{}}", "a/b", anything),
    "a parameter that we do not know": Field("GET", "/v2/web/app/tags/list?{}=1", "x", anything),
    "a path that we do not know": Field("GET", "/v2/{}", "nothing", accepts=frozenset({"nothing"}), exists=False),
    "a path above": Field("GET", "/v2/web/app/tags/list/{}", "x", exists=False),
    "service": Field("GET", "/token?service={}", PROJECT_HOST),
    "scope": Field("GET", f"/token?service={PROJECT_HOST}&scope={{}}", "repository:web/app:pull", anything),
    "name in a scope": Field(
        "GET", f"/token?service={PROJECT_HOST}&scope=repository:{{}}:pull", "web/app", anything
    ),
    "actions of a scope": Field(
        "GET", f"/token?service={PROJECT_HOST}&scope=repository:web/app:{{}}", "pull", anything
    ),
    "account": Field("GET", f"/token?service={PROJECT_HOST}&account={{}}", "mina", exactly(200)),
}  # fmt: skip


@pytest.fixture
def upload(docker) -> str:
    """An image web/app:1.0, and an open upload of the member's."""
    docker("member").push("web/app", "1.0", PUSHED)
    return docker("member").start("web/app").headers["Docker-Upload-UUID"]


@pytest.fixture
def storage_calls(monkeypatch) -> list[str]:
    """Record the names of all calls of the storage, in order."""
    calls: list[str] = []

    def recorded(name: str) -> Callable[..., object]:
        as_ever = getattr(FileSystemBlobStorage, name)

        def record(*arguments: object, **named: object) -> object:
            calls.append(name)
            return as_ever(*arguments, **named)

        return record

    for name in (
        "writing",
        "discard",
        "unfinished",
        "address",
        "place",
        "delete",
        "holds",
        "keys",
        "open",
        "exists",
        "size",
    ):
        monkeypatch.setattr(FileSystemBlobStorage, name, recorded(name))
    return calls


def state(storage: Path) -> dict[str, object]:
    """Return all rows that a refused request must not change."""
    return {
        "files": sorted(str(path) for path in storage.rglob("*")),
        "tags": sorted(Tag.objects.live().values_list("name", flat=True)),
        "manifests": Manifest.objects.live().count(),
        "images": Image.objects.live().count(),
        "leases": BlobLease.objects.count(),
        "uploads": sorted(UploadSession.objects.values_list("pk", "offset", "state")),
    }


def complaints(answer: Answer) -> Iterator[str]:
    """Return the problems of an answer: it must be a short registry error without injected headers."""
    if answer.status >= 500:
        yield f"{answer.status} {answer.body[:200]!r}"
        return
    if answer.headers.get("Docker-Distribution-Api-Version") != "registry/2.0":
        yield "not an answer of the registry"
    if len(answer.body) > 10_000:
        yield f"answered with {len(answer.body)} bytes"
    for name, value in answer.headers.items():
        if len(value) > 10_000:
            yield f"{name} has {len(value)} characters"
        elif (name == "WWW-Authenticate" and not CHALLENGE.fullmatch(value)) or re.search(r"[\x00-\x1f]", value):
            yield f"{name}: {value!r}"
    if answer.status >= 400 and answer.body and set(answer.json()["errors"][0]) != {"code", "message", "detail"}:
        yield f"{answer.body[:200]!r}"


CHALLENGE = re.compile(r'(Basic|Bearer) ([a-z]+="[^"\\\x00-\x1f]*",)*[a-z]+="[^"\\\x00-\x1f]*"')


def ask(client: DockerClient, method: str, path: str, headers: dict[str, str], **more: str) -> Answer:
    client.http.raise_request_exception = False
    body = b""
    if method == "PUT" and "/manifests/" in path:
        body, headers = PUSHED.manifest, headers | {"Content-Type": PUSHED.media_type}
    elif method in {"PUT", "PATCH"}:
        body = b"a layer"
    return client.raw(method, path, body=body, headers=headers | more)


@pytest.mark.parametrize("where", URL_FIELDS)
def test_any_text_in_an_address_is_answered_without_a_failure(docker, upload, storage_folder, storage_calls, where):
    """No server error, no change, and no storage call for a refused value."""
    field = URL_FIELDS[where]
    member, nobody = docker("member"), docker(None)
    before, wrong, refused = state(storage_folder), {}, True
    good = field.path.replace("{}", field.good).replace("{upload}", upload)
    for name, value in field.values():
        path = field.path.replace("{}", value).replace("{upload}", upload)
        if path == good:
            continue
        if name != TEN_MEGABYTES:
            wrong[f"{name}, by nobody"] = list(complaints(ask(nobody, field.method, path, {})))
        storage_calls.clear()
        answer = ask(member, field.method, path, member.basic())
        wrong[name] = list(complaints(answer))
        if not field.expected(answer.status):
            wrong[name].append(f"{answer.status} {answer.body[:200]!r}")
        refused = refused and answer.status >= 400
        if answer.status >= 400 and storage_calls:
            wrong[name].append(f"{answer.status} after {storage_calls}")
    assert {name: problems for name, problems in wrong.items() if problems} == {}
    if refused:
        assert state(storage_folder) == before
    if field.exists:  # control: only the value was refused
        answer = ask(member, field.method, good, member.basic())
        assert answer.status < 300 or (answer.status == 405 and "blob" in where), answer.body


def test_storage_calls_are_recorded(docker, upload, storage_calls):
    docker("member").get(f"/v2/web/app/blobs/{DIGEST}", 200)
    assert storage_calls


# ── Headers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
# As they come from a server: bytes, read as Latin-1.
HEADER_VALUES = {
    "NUL": "+\0",
    "a newline at the end": "+\n",
    "a header behind": "+\r\nX-Evil: 1",
    "dots": "../../../../etc/passwd",
    "encoded dots": "%2e%2e%2f",
    "as much as the server lets through": "a" * 8_000,
    "a lone surrogate": "+\xed\xa0\x80",
    "a digit of another alphabet": "+\xd9\xa3",
    "a superscript digit": "+\xb2",
    "no UTF-8": "+\xff\xfe",
    "a quotation mark": '+"',
    "a comma": "+,",
    "minus one": "-1",
    "signs": "++5",
    "a number of 5,000 digits": "9" * 5_000,
    "a number with underscores": "1_000",
    "hexadecimal": "0x10",
    "nothing": "",
}
JSON_FORM = "application/x-www-form-urlencoded"
HEADERS = {
    # header: method, path, a good value, the expected statuses, body
    "Content-Type": ("PUT", "/v2/web/app/manifests/1.0", PUSHED.media_type, BAD_REQUESTS.__contains__),
    "Content-Range": ("PATCH", "/v2/web/app/blobs/uploads/{upload}", "0-6", BAD_REQUESTS.__contains__),
    "Content-Length": ("PATCH", "/v2/web/app/blobs/uploads/{upload}", "7", anything),
    "Transfer-Encoding": ("PATCH", "/v2/web/app/blobs/uploads/{upload}", "chunked", anything),
    "Range": ("GET", f"/v2/web/app/blobs/{DIGEST}", "bytes=0-1", exactly(200, 206, 416)),
    "If-Range": ("GET", f"/v2/web/app/blobs/{DIGEST}", f'"{DIGEST}"', exactly(200)),
    "If-None-Match": ("GET", "/v2/web/app/manifests/1.0", f'"{PUSHED.digest}"', exactly(200, 304)),
    "If-Modified-Since": ("GET", "/v2/web/app/manifests/1.0", "Thu, 01 Jan 1970 00:00:00 GMT", exactly(200)),
    "Accept": ("GET", "/v2/web/app/manifests/1.0", PUSHED.media_type, exactly(200)),
    "Accept-Language": ("GET", "/v2/web/app/manifests/1.0", "ko", exactly(200)),
    "Accept-Encoding": ("GET", "/v2/web/app/manifests/1.0", "gzip", exactly(200)),
    "Cookie": ("GET", "/v2/web/app/manifests/1.0", "kcr_session=abc", exactly(200)),
    "Origin": ("GET", "/v2/web/app/manifests/1.0", "https://example.com", exactly(200)),
    "User-Agent": ("GET", "/v2/web/app/manifests/1.0", "docker/27.0", exactly(200)),
    "X-Forwarded-For": ("GET", "/v2/web/app/manifests/1.0", "192.0.2.1", exactly(200)),
    "X-Request-Id": ("GET", "/v2/web/app/manifests/1.0", "abc", exactly(200)),
}


@pytest.mark.parametrize("header", HEADERS)
def test_any_text_in_a_header_is_answered_without_a_failure(docker, upload, header, settings):
    settings.TRUSTED_PROXIES = [ip_network("10.0.0.0/8")]
    method, path, good, expected = HEADERS[header]
    member, wrong = docker("member"), {}
    for name, value in HEADER_VALUES.items():
        text = good + value[1:] if value.startswith("+") else value
        answer = ask(member, method, path.replace("{upload}", upload), member.basic(), **{header: text})
        wrong[name] = list(complaints(answer))
        is_legal = header == "Content-Type" and value in {"", "+\n"}  # the document has its media type
        if not expected(answer.status) and not is_legal:
            wrong[name].append(f"{answer.status} {answer.body[:200]!r}")
        assert answer.headers.get("X-Request-Id") != text
    assert {name: problems for name, problems in wrong.items() if problems} == {}


@pytest.mark.parametrize("scheme", ["Bearer", "Basic", "bearer", "Digest", ""])
@pytest.mark.parametrize("path", ["/v2/", "/v2/web/app/manifests/1.0", "/v2/public/app/tags/list"])
def test_any_text_in_the_authorization_is_answered_without_a_failure(docker, upload, scheme, path):
    values = {
        **HEADER_VALUES,
        "base 64 of NUL": base64.b64encode(b"\0:\0").decode(),
        "base 64 of a lone surrogate": base64.b64encode(b"a\xed\xa0\x80:b").decode(),
        "base 64 of newlines": base64.b64encode(b"\n:\n").decode(),
        "base 64 without a colon": base64.b64encode(b"KCRK").decode(),
        "base 64 of ten kilobytes": base64.b64encode(b"a:" * 5_000).decode(),
        "half of base 64": "YWI6Yw=",
        "base 64 of another alphabet": "YWI6Y2Q_",
    }
    wrong = {}
    for number, (name, value) in enumerate(values.items()):
        client = DockerClient(None, address=f"10.0.2.{number}")
        text = f"{scheme} {value.removeprefix('+')}".strip()
        answer = ask(client, "GET", path, {"Authorization": text})
        wrong[name] = list(complaints(answer))
        if answer.status != 401:
            wrong[name].append(f"{answer.status} {answer.body[:200]!r}")
    assert {name: problems for name, problems in wrong.items() if problems} == {}


# ── Forms of the token service ───────────────────────────────────────────────────────────────────────────────────────
FORM = {
    "grant_type": 400,
    "service": 400,
    "username": 401,
    "password": 401,
    "scope": None,
    "client_id": None,
    "access_type": None,
}


@pytest.mark.parametrize("field", [*FORM, "refresh_token"])
def test_any_text_in_a_form_is_answered_without_a_failure(world, field):
    wrong = {}
    for number, (name, value) in enumerate(VALUES.items()):
        good = {
            "grant_type": "password",
            "service": PROJECT_HOST,
            "username": world.member.key.identifier,
            "password": world.member.secret,
            "scope": "repository:web/app:pull",
            "client_id": "docker",
            "access_type": "online",
        }
        if field == "refresh_token":
            good["grant_type"] = "refresh_token"
        text = good.get(field, "kcrr_a") + value[1:] if value.startswith("+") else value
        form = "&".join(f"{key}={quote(one, safe='')}" for key, one in good.items() if key != field)
        client = DockerClient(None, address=f"10.0.2.{number}")
        client.http.raise_request_exception = False
        answer = client.raw(
            "POST", "/token", body=f"{form}&{field}={text}".encode(), headers={"Content-Type": JSON_FORM}
        )
        wrong[name] = list(complaints(answer))
        expected = 401 if field == "refresh_token" else FORM[field]
        # NUL in a name or secret is dropped, and the rest must still be right.
        # After ten wrong secrets for one key further ones are refused.
        if name == TEN_MEGABYTES:
            expected = 413
        if expected and answer.status not in {expected, 400, 429} and name != "NUL":
            wrong[name].append(f"{answer.status} {answer.body[:200]!r}")
    assert {name: problems for name, problems in wrong.items() if problems} == {}


# ── Documents ────────────────────────────────────────────────────────────────────────────────────────────────────────
TEXTS = {
    "NUL": "a\0",
    "a newline at the end": "a\n",
    "dots": "../../../../etc/passwd",
    "encoded dots": "%2e%2e%2f",
    "a lone surrogate": "a\ud800",
    "surrogates in the wrong order": "\udc00\ud800",
    "a digit of another alphabet": "a\u0663",
    "ten megabytes": "a" * 10_000_000,
    "a hundred kilobytes": "a" * 100_000,
    "markup": "<img src=x onerror=alert(1)>",
    "a private letter": "\ue000",
    "a letter beyond the basic plane": "\U0001f433",
    "nothing": "",
}
CONFIG, LAYER = PUSHED.config, PUSHED.layers[0]
SUBJECT = descriptor(b"subject", PUSHED.media_type)


def document(**more: object) -> dict[str, object]:
    return json.loads(images.Image(layers=[LAYER], more={"subject": SUBJECT, **more}).manifest)


PLACES = {
    # place of a text in a manifest, and whether every text is refused there
    "mediaType": (lambda text: document(mediaType=text), True),
    "artifactType": (lambda text: document(artifactType=text), False),
    "value of an annotation": (lambda text: document(annotations={"key": text}), False),
    "key of an annotation": (lambda text: document(annotations={text: "value"}), False),
    "an unknown key": (lambda text: document(**{f"x{text}": 1}), False),
    "an unknown value": (lambda text: document(unknown={"deep": [text]}), False),
    "mediaType of the config": (lambda text: document(config=descriptor(CONFIG, text)), False),
    "digest of the config": (lambda text: document(config={**descriptor(CONFIG, "a/b"), "digest": text}), True),
    "digest of a layer": (lambda text: document(layers=[{**descriptor(LAYER, "a/b"), "digest": text}]), True),
    "digest with more behind": (
        lambda text: document(layers=[{**descriptor(LAYER, "a/b"), "digest": DIGEST + text}]),
        True,
    ),
    "mediaType of a layer": (lambda text: document(layers=[descriptor(LAYER, text)]), False),
    "annotation of a layer": (lambda text: document(layers=[descriptor(LAYER, "a/b", annotations={"a": text})]), False),
    "url of a layer": (lambda text: document(layers=[descriptor(LAYER, "a/b", urls=[text])]), True),
    "platform": (lambda text: document(config=descriptor(CONFIG, "a/b", platform={"os": text})), False),
    "digest of the subject": (lambda text: document(subject={**SUBJECT, "digest": text}), True),
    "mediaType of the subject": (lambda text: document(subject={**SUBJECT, "mediaType": text}), False),
    "size": (lambda text: document(config={**descriptor(CONFIG, "a/b"), "size": text}), True),
    "schemaVersion": (lambda text: document(schemaVersion=text), True),
    "config": (lambda text: document(config=text), True),
    "layers": (lambda text: document(layers=text), True),
    "annotations": (lambda text: document(annotations=text), True),
}


@pytest.mark.parametrize("place", PLACES)
def test_any_text_in_a_manifest_is_refused_or_stored_unchanged(docker, upload, place):
    """The text is refused, or stored and returned unchanged by pulls and in the list of referrers."""
    make, must_refuse = PLACES[place]
    member, wrong = docker("member"), {}
    member.http.raise_request_exception = False
    headers = {"Content-Type": PUSHED.media_type} | member.basic()
    for name, text in TEXTS.items():
        content = json.dumps(make(text)).encode()
        answer = member.raw("PUT", "/v2/web/app/manifests/hostile", body=content, headers=headers)
        wrong[name] = list(complaints(answer))
        is_legal = text == "" and place in {"digest with more behind", "mediaType"}
        if (must_refuse and not is_legal and answer.status not in BAD_REQUESTS) or answer.status not in {201, 400, 413}:
            wrong[name].append(f"{answer.status} {answer.body[:200]!r}")
        if answer.status == 201:
            assert member.get("web/app/manifests/hostile", 200).body == content
        assert member.get(f"web/app/referrers/{SUBJECT['digest']}").status == 200
    assert {name: problems for name, problems in wrong.items() if problems} == {}


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b'"text"', b"null", b"1", b"\0", b"\xff\xfe{\x00}\x00", b"\xef\xbb\xbf{}", b"[" * 100_000),
        *(b'{"a":' * 5_000, b'{"schemaVersion":' + b"9" * 5_000 + b"}", b'{"schemaVersion":1e400}', b'{"a":NaN}'),
        *(b'{"schemaVersion":2,"schemaVersion":2}', b"a" * 5_000_000, b"{" + b" " * 5_000_000),
    ],
    ids=lambda body: repr(body[:24]),
)
def test_invalid_manifests_are_refused(docker, upload, body):
    answer = docker("member").put("web/app/manifests/1.0", body=body, headers={"Content-Type": PUSHED.media_type})
    assert answer.status in {400, 413}
    assert answer.codes == ["MANIFEST_INVALID"]
    assert docker("member").get("web/app/manifests/1.0", 200).body == PUSHED.manifest


# ── Failed uploads (docs/design/security.md 36, 38) ──────────────────────────────────────────────────────────────────
class Stream(io.RawIOBase):
    """A body that the client stops sending."""

    def __init__(self, *chunks: bytes | Exception) -> None:
        self.chunks = list(chunks)

    def read(self, size: int = -1) -> bytes:
        chunk = self.chunks.pop(0) if self.chunks else b""
        if isinstance(chunk, Exception):
            raise chunk
        return chunk


@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_truncated_body_changes_nothing(docker, upload, method):
    member = docker("member")
    path = f"web/app/blobs/uploads/{upload}"
    query = f"?digest={sha256(b'first and second')}" if method == "PUT" else ""
    member.patch(path, 202, body=b"first and ")
    answer = member.request(method, path + query, stream=Stream(b"sec", ConnectionError("gone")))
    assert answer.status == 400
    assert answer.codes == ["SIZE_INVALID"]
    assert member.get(path, 204).headers["Range"] == "0-9"
    member.get(f"web/app/blobs/{sha256(b'first and second')}", 404)
    member.put(f"{path}?digest={sha256(b'first and second')}", 201, body=b"second")
    assert member.get(f"web/app/blobs/{sha256(b'first and second')}", 200).body == b"first and second"


def test_body_shorter_than_its_content_length_changes_nothing(docker, upload):
    member = docker("member")
    path = f"web/app/blobs/uploads/{upload}"
    answer = member.patch(path, stream=Stream(b"short"), headers={"Content-Length": "50"})
    assert answer.status == 400
    assert answer.codes == ["SIZE_INVALID"]
    assert member.get(path, 204).headers["Range"] == "0-0"
    member.put(f"{path}?digest={sha256(b'whole')}", 201, body=b"whole")


@pytest.mark.parametrize("shape", ["at the end", "in one PUT", "in one POST"])
def test_bytes_with_another_digest_are_discarded(docker, upload, storage_folder, shape):
    member, wrong = docker("member"), sha256(b"not these")
    files = {path for path in storage_folder.rglob("*") if path.is_file()}
    path = f"/v2/web/app/blobs/uploads/{upload}"
    if shape == "in one POST":
        answer = member.post(f"web/app/blobs/uploads/?digest={wrong}", body=b"these")
    else:
        if shape == "at the end":
            member.patch(path, 202, body=b"these")
        answer = member.put(f"{path}?digest={wrong}", body=b"" if shape == "at the end" else b"these")
        member.get(path, 404)
    assert answer.status == 400
    assert answer.codes == ["DIGEST_INVALID"]
    for digest in (wrong, sha256(b"these")):
        member.get(f"web/app/blobs/{digest}", 404)
    assert {path for path in storage_folder.rglob("*") if path.is_file()} == files
    member.push_blob("web/app", b"not these")
    assert member.get(f"web/app/blobs/{wrong}", 200).body == b"not these"
