"""Whatever stands in a field of a request: the answer is an error of the client's, never a failure of ours.

Each field gets each value, from somebody without login and from somebody who may do nearly everything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from registry.models import BlobLease, Image, Manifest, Tag, UploadSession
from tests import docker_client
from tests.docker_client import PROJECT_HOST, Answer, DockerClient, sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MEGABYTES = "a" * 10_000_000
PUSHED = docker_client.Image(layers=[b"a layer"])
DIGEST = sha256(b"a layer")
BAD_REQUESTS = range(400, 500)

# As they are written in a URL. Those that begin with + are put behind a good value, the others stand alone.
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
    "ten megabytes": MEGABYTES,
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
    """A place in a request for a value; ``good`` is what clients write there."""

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
    """The field may hold whatever it likes; it must not break anything."""
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
            ("an open upload", "PATCH", "blobs/uploads/00000000-0000-4000-8000-000000000000"),
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


def state(storage: Path) -> dict[str, object]:
    """What a refused request must not change."""
    return {
        "files": sorted(str(path) for path in storage.rglob("*")),
        "tags": sorted(Tag.objects.live().values_list("name", flat=True)),
        "manifests": Manifest.objects.live().count(),
        "images": Image.objects.live().count(),
        "leases": BlobLease.objects.count(),
        "uploads": sorted(UploadSession.objects.values_list("pk", "offset", "state")),
    }


def complaints(answer: Answer) -> Iterator[str]:
    """What is wrong with an answer: it must be one of the registry's, short, and carry nothing into a header."""
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


def ask(client: DockerClient, method: str, path: str, headers: dict[str, str]) -> Answer:
    client.http.raise_request_exception = False
    body = b""
    if method == "PUT" and "/manifests/" in path:
        body, headers = PUSHED.manifest, headers | {"Content-Type": PUSHED.media_type}
    elif method in {"PUT", "PATCH"}:
        body = b"a layer"
    return client.raw(method, path, body=body, headers=headers)


@pytest.mark.parametrize("where", URL_FIELDS)
def test_any_text_in_any_field_of_an_address(docker, upload, storage_folder, where):
    field = URL_FIELDS[where]
    member, nobody = docker("member"), docker(None)
    before, wrong, refused = state(storage_folder), {}, True
    good = field.path.replace("{}", field.good).replace("{upload}", upload)
    for name, value in field.values():
        path = field.path.replace("{}", value).replace("{upload}", upload)
        if path == good:
            continue
        wrong |= {f"{name}, by nobody": problem for problem in complaints(ask(nobody, field.method, path, {}))}
        answer = ask(member, field.method, path, member.basic())
        wrong |= {name: problem for problem in complaints(answer)}
        if not field.expected(answer.status):
            wrong[name] = f"{answer.status} {answer.body[:200]!r}"
        refused = refused and answer.status >= 400
    assert wrong == {}
    if refused:
        assert state(storage_folder) == before
    if field.exists:  # control: it is the value that was refused
        answer = ask(member, field.method, good, member.basic())
        assert answer.status < 300 or (answer.status == 405 and "blob" in where), answer.body
