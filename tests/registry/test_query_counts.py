"""Queries of each request, compared with a committed baseline (query_counts.json).

After an intended change, delete the file and write it again; the diff shows the changes:
``KCR_TEST_WRITE_BASELINE=1 .venv/bin/python -m pytest tests/registry/test_query_counts.py``
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from registry.models import Image, Manifest, Tag
from tests.support import images
from tests.support.images import sha256

if TYPE_CHECKING:
    from tests.support.docker_client import DockerClient

BASELINE = Path(__file__).with_name("query_counts.json")
WRITE = os.environ.get("KCR_TEST_WRITE_BASELINE") == "1"
NOTHING = f"sha256:{'0' * 64}"
PUSHED = images.Image(layers=[b"a layer"])
WRITES = re.compile(
    r"\s*(INSERT|UPDATE|DELETE|REPLACE|MERGE|SELECT .* FOR (UPDATE|SHARE|NO KEY|KEY))\b", re.IGNORECASE | re.DOTALL
)

PULLS = {
    "GET manifest by tag": ("GET", "manifests/1.0", 200),
    "HEAD manifest by tag": ("HEAD", "manifests/1.0", 200),
    "GET manifest by a tag's past": ("GET", "manifests/1.0--at-20260901t1200z", 200),
    "HEAD manifest by a tag's past": ("HEAD", "manifests/1.0--at-20260901t1200z", 200),
    "GET manifest by digest": ("GET", f"manifests/{PUSHED.digest}", 200),
    "HEAD manifest by digest": ("HEAD", f"manifests/{PUSHED.digest}", 200),
    "GET blob": ("GET", f"blobs/{sha256(b'a layer')}", 200),
    "HEAD blob": ("HEAD", f"blobs/{sha256(b'a layer')}", 200),
}
OTHERS = {
    "GET root": ("GET", "/v2/", 200),
    "GET catalog": ("GET", "/v2/_catalog", 200),
    "GET tags": ("GET", "tags/list", 200),
    "GET referrers": ("GET", f"referrers/{PUSHED.digest}", 200),
    "GET referrers of nothing": ("GET", f"referrers/{NOTHING}", 200),
    "GET manifest that is not there": ("GET", "manifests/none", 404),
    "GET blob that is not there": ("GET", f"blobs/{NOTHING}", 404),
}
PUSHES = {
    "HEAD blob by a pusher": ("HEAD", f"blobs/{sha256(b'a layer')}", 200),
    "POST upload": ("POST", "blobs/uploads/", 202),
    "PATCH upload": ("PATCH", "blobs/uploads/{upload}", 202),
    "PUT upload": ("PUT", f"blobs/uploads/{{upload}}?digest={sha256(b'a new layer')}", 201),
    "PUT manifest again": ("PUT", "manifests/1.0", 201),
    "PUT manifest under a new tag": ("PUT", "manifests/2.0", 201),
    "DELETE tag": ("DELETE", "manifests/1.0", 202),
}
# persona, repository, kind of credentials
VISITORS = {
    "member, token": ("member", "web", "token"),
    "member, key": ("member", "web", "key"),
    "viewer, token": ("viewer", "web", "token"),
    "viewer, key": ("viewer", "web", "key"),
    "anonymous, token": (None, "public", "token"),
}


def credentials(client: DockerClient, way: str, name: str, actions: str = "pull") -> dict[str, str]:
    if way == "key":
        return client.basic()
    return {"Authorization": f"Bearer {client.token(f'repository:{name}:{actions} registry:catalog:*')}"}


def measured(client: DockerClient, method: str, path: str, status: int, headers: dict[str, str]) -> list[str]:
    """Return the queries of one request without savepoints."""
    body = b""
    if method == "PUT" and "/manifests/" in path:
        body, headers = PUSHED.manifest, headers | {"Content-Type": PUSHED.media_type}
    elif method in {"PUT", "PATCH"}:
        body = b"a new layer"
    with CaptureQueriesContext(connection) as queries:
        answer = client.raw(method, path, body=body, headers=headers)
    assert answer.status == status, f"{method} {path}: {answer.status} {answer.body[:300]!r}"
    transactions = ("SAVEPOINT", "RELEASE", "ROLLBACK", "BEGIN", "COMMIT")
    return [query["sql"] for query in queries if not query["sql"].startswith(transactions)]


def compare(counts: dict[str, int]) -> None:
    """Compare with the baseline, or write it."""
    known = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    if WRITE:
        BASELINE.write_text(json.dumps(known | counts, indent=2, sort_keys=True) + "\n")
        return
    changed = {name: f"{count}, not {known.get(name)}" for name, count in counts.items() if known.get(name) != count}
    assert changed == {}, "if this is meant: KCR_TEST_WRITE_BASELINE=1 writes tests/registry/query_counts.json"


@pytest.fixture
def pushed(docker) -> None:
    """web/app:1.0 and public/app:1.0 were pushed long ago, and the caches of the process are filled."""
    for repository in ("web", "public"):
        docker("member").push(f"{repository}/app", "1.0", PUSHED)
    Tag.objects.update(started_at=datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("visitor", VISITORS)
def test_a_pull_costs_at_most_two_queries_and_never_writes(docker, pushed, visitor):
    name, repository, way = VISITORS[visitor]
    client, counts = docker(name), {}
    headers = credentials(client, way, f"{repository}/app")
    for words, (method, path, status) in PULLS.items():
        queries = measured(client, method, f"/v2/{repository}/app/{path}", status, headers)
        assert [sql for sql in queries if WRITES.match(sql)] == []
        assert len(queries) <= 2, queries
        counts[f"{words}, {visitor}"] = len(queries)
    compare(counts)


@pytest.mark.parametrize("visitor", VISITORS)
def test_other_reads_never_write(docker, pushed, visitor):
    name, repository, way = VISITORS[visitor]
    client, counts = docker(name), {}
    headers = credentials(client, way, f"{repository}/app")
    for words, (method, path, status) in OTHERS.items():
        whole = path if path.startswith("/") else f"/v2/{repository}/app/{path}"
        queries = measured(client, method, whole, status, headers)
        assert [sql for sql in queries if WRITES.match(sql)] == []
        counts[f"{words}, {visitor}"] = len(queries)
    compare(counts)


@pytest.mark.sqlite_only  # PostgreSQL needs more queries to lock rows
@pytest.mark.parametrize("way", ["token", "key"])
def test_push_costs_the_queries_of_the_baseline(docker, pushed, way):
    client, counts = docker("member"), {}
    headers = credentials(client, way, "web/app", "pull,push,delete")
    upload = client.start("web/app").headers["Docker-Upload-UUID"]
    for words, (method, path, status) in PUSHES.items():
        whole = f"/v2/web/app/{path}".replace("{upload}", upload)
        if words == "PUT upload":  # the chunk was sent by PATCH
            with CaptureQueriesContext(connection) as captured:
                assert client.raw(method, whole, headers=headers).status == status
            queries = [one["sql"] for one in captured if not one["sql"].startswith(("SAVEPOINT", "RELEASE"))]
        else:
            queries = measured(client, method, whole, status, headers)
        counts[f"{words}, member, {way}"] = len(queries)
    compare(counts)


@pytest.mark.parametrize("name", ["member", "stranger", None])
def test_login_costs_the_queries_of_the_baseline(docker, pushed, name):
    client = docker(name)
    service = f"service={client.host}"
    counts = {}
    for words, query in (
        ("no scope", ""),
        ("one scope", "&scope=repository:web/app:pull,push"),
        ("two scopes", "&scope=repository:web/app:pull&scope=repository:public/app:pull"),
        ("a scope for nothing", "&scope=repository:missing/app:pull"),
    ):
        queries = measured(client, "GET", f"/token?{service}{query}", 200, client.basic())
        assert [sql for sql in queries if WRITES.match(sql)] == []
        counts[f"token, {words}, {name or 'anonymous'}"] = len(queries)
    compare(counts)


# ── Lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def add_tags(image: Image, manifest: Manifest, first: int, last: int) -> None:
    Tag.objects.bulk_create(Tag(image=image, name=f"t{number}", manifest=manifest) for number in range(first, last))


def add_images(image: Image, manifest: Manifest, first: int, last: int) -> None:
    repository = image.repository
    Image.objects.bulk_create(
        Image(repository=repository, name=f"i{number}", path=f"{repository}/i{number}") for number in range(first, last)
    )


def add_referrers(image: Image, manifest: Manifest, first: int, last: int) -> None:
    Manifest.objects.bulk_create(
        Manifest(
            image=image,
            digest=sha256(f"{number}".encode()),
            media_type=PUSHED.media_type,
            artifact_type="test/signature",
            subject=manifest.digest,
            annotations={"number": f"{number}"},
            content=b"{}",
            size=2,
            total_size=2,
        )
        for number in range(first, last)
    )


LISTS = {
    "tags": (add_tags, "/v2/web/app/tags/list", lambda document: document["tags"]),
    "a page of tags": (add_tags, "/v2/web/app/tags/list?n=5&last=t1", lambda document: document["tags"]),
    "catalog": (add_images, "/v2/_catalog", lambda document: document["repositories"]),
    "a page of the catalog": (add_images, "/v2/_catalog?n=5&last=web/i1", lambda document: document["repositories"]),
    "referrers": (add_referrers, f"/v2/web/app/referrers/{PUSHED.digest}", lambda document: document["manifests"]),
    "referrers of a type": (
        add_referrers,
        f"/v2/web/app/referrers/{PUSHED.digest}?artifactType=test/signature",
        lambda document: document["manifests"],
    ),
}


@pytest.mark.parametrize("way", ["token", "key"])
@pytest.mark.parametrize("what", LISTS)
def test_list_costs_the_same_queries_for_10_and_300_rows(docker, pushed, what, way):
    add, path, rows = LISTS[what]
    image = Image.objects.get(path="demo/web/app")
    manifest = Manifest.objects.get(image=image)
    client = docker("viewer")
    headers = credentials(client, way, "web/app")
    add(image, manifest, 0, 10)
    few = measured(client, "GET", path, 200, headers)
    shown = len(rows(client.raw("GET", path, headers=headers).json()))
    add(image, manifest, 10, 300)
    many = measured(client, "GET", path, 200, headers)
    more = len(rows(client.raw("GET", path, headers=headers).json()))
    assert more >= 100 if "n=" not in path else more == 5
    assert shown >= 5
    assert len(many) == len(few), many
    compare({f"GET {what}, 300 rows, viewer, {way}": len(many)})


def test_every_line_of_the_baseline_is_measured():
    """The file has no line of a removed request."""
    if WRITE:
        return
    expected = {f"{words}, {visitor}" for words in PULLS | OTHERS for visitor in VISITORS}
    expected |= {f"{words}, member, {way}" for words in PUSHES for way in ("token", "key")}
    expected |= {f"GET {what}, 300 rows, viewer, {way}" for what in LISTS for way in ("token", "key")}
    expected |= {
        f"token, {words}, {name}"
        for words in ("no scope", "one scope", "two scopes", "a scope for nothing")
        for name in ("member", "stranger", "anonymous")
    }
    assert set(json.loads(BASELINE.read_text())) == expected


def test_measurement_counts_writes(docker, pushed):
    """Control: a push writes, and the pattern finds the statement."""
    client = docker("member")
    headers = credentials(client, "key", "web/app")
    queries = measured(client, "POST", "/v2/web/app/blobs/uploads/", 202, headers)
    assert [sql for sql in queries if WRITES.match(sql)]
