"""Concurrent requests: each change happens once, and each limit holds exactly."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import pytest

from registry import uploads
from tests.support.images import OCI_MANIFEST, OCTETS, descriptor, sha256
from tests.support.integrity import assert_integrity
from tests.support.programs import PostgresServer, wait_until
from tests.support.server import LiveServer
from tests.support.threads import at_once

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request):
    if request.param == "sqlite":
        with LiveServer("concurrency") as running:
            yield running.people()
        return
    with PostgresServer() as database, LiveServer("concurrency", {"KCR_DATABASE_URL": database.url}) as running:
        yield running.people()


def check(server):
    if (server.data / "kcr.sqlite3").exists():
        assert_integrity(server.data)


def test_blob_pushed_by_twenty_clients_is_stored_once(server):
    data = random.Random(2).randbytes(300_000)
    clients = [server.api() for _ in range(20)]
    assert at_once(*(partial(client.push_blob, data) for client in clients)) == [201] * 20
    files = [path for path in (server.data / "storage" / "blobs").glob("*/*") if path.stat().st_size == len(data)]
    assert len(files) == 20  # one belongs to the blob; nineteen are in the trash
    if (server.data / "kcr.sqlite3").exists():
        with closing(sqlite3.connect(server.data / "kcr.sqlite3")) as database:
            rows = database.execute("SELECT storage_key FROM registry_blob WHERE digest = ?", [sha256(data)]).fetchall()
            trash = {row[0] for row in database.execute("SELECT storage_key FROM registry_objecttrash")}
        assert len(rows) == 1
        keys = {str(path.relative_to(server.data / "storage")) for path in files}
        assert len(keys & trash) == 19
    check(server)


def test_one_of_two_writers_of_an_upload_continues(server):
    api = server.api()
    location = api.start()
    started, go_on = threading.Event(), threading.Event()

    def slowly():
        yield b"a" * 3_000_000
        started.set()
        go_on.wait(20)
        yield b"b" * 100_000

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(api.ask, "PATCH", location, slowly())
        assert started.wait(20)
        # The server stores bytes by the megabyte, under the lock. A request before the first one would take the lock.
        staged = server.data / "storage" / "staging" / location.rpartition("/")[2].partition("?")[0]
        assert wait_until(lambda: staged.exists() and staged.stat().st_size > 0, timeout=20)
        second = server.api()
        status, headers, _ = second.ask("PATCH", location, b"c" * 50)
        go_on.set()
        assert first.result()[0] == 202
    assert status == 416
    assert headers["Range"] == "0-0"
    data = b"a" * 3_000_000 + b"b" * 100_000
    assert api.ask("PUT", f"{location}?digest={sha256(data)}")[0] == 201


def test_twenty_simultaneous_tags_of_a_new_image_are_all_stored(server):
    clients = [server.api() for _ in range(20)]
    assert clients[0].push_blob(b"{}") == 201
    assert (
        at_once(*(partial(client.push_manifest, f"t{number:02}", b"{}") for number, client in enumerate(clients)))
        == [201] * 20
    )
    _, _, body = clients[0].ask("GET", "tags/list")
    assert all(f'"t{number:02}"' in body.decode() for number in range(20))
    check(server)


def test_tag_moved_by_ten_clients_at_once_has_one_digest(server):
    clients = [server.api() for _ in range(10)]
    layers = [f"layer {number}".encode() for number in range(10)]
    for layer in layers:
        assert clients[0].push_blob(layer) == 201
    assert (
        at_once(*(partial(client.push_manifest, "moved", layer) for client, layer in zip(clients, layers, strict=True)))
        == [201] * 10
    )
    check(server)
    events = server.work("concurrency", "tag_intervals", "moved")
    assert len(events) == 10
    assert [ended for _, ended in events].count(None) == 1
    assert all(before[1] == after[0] for before, after in itertools.pairwise(events))


# ── Recovery, purging, collecting ────────────────────────────────────────────────────────────────────────────────────
def test_simultaneous_recovery_and_purge_are_all_or_nothing(server):
    clients = [server.api() for _ in range(2)]
    assert clients[0].push_blob(b"{}") == 201
    assert clients[0].push_manifest("1", b"{}") == 201
    _, headers, manifest = clients[0].ask("GET", "manifests/1")
    basic = {"Authorization": f"Basic {server.client(server.key).basic}", "Content_Type": headers["Content-Type"]}
    for number in range(20):
        for tag in ("1", "2", "3"):
            path = f"/v2/demo/web/doomed-{number:02}/manifests/{tag}"
            assert clients[0].ask("PUT", path, manifest, **basic)[0] == 201
    found = server.work("concurrency", "restore_against_purge")
    assert len(found) == 20
    for each in found:
        if each["said"][0] == 1:
            assert each == {"said": [1, "RecoveryGone"], "tags": 3, "manifests": 1, "rows": 1, "deletions": 0}
        else:
            assert each == {
                "said": ["RecoveryGone", "purged"],
                "tags": 0,
                "manifests": 0,
                "rows": 0,
                "deletions": 0,
            }
    check(server)


def test_four_collectors_on_one_run_delete_each_blob_once(server):
    found = server.work("concurrency", "collect_in_four_threads")
    assert (found["runs"], found["new"], found["asked"], found["done"]) == (1, 1, 1, 1)
    assert (found["state"], found["reviewed"]) == ("done", found["total"])
    assert (found["collected"], found["size"], found["left"], found["trash"]) == (500, 5_000, 0, 500)


# ── Quotas ───────────────────────────────────────────────────────────────────────────────────────────────────────────
CROWD = 100


@pytest.mark.parametrize("what", ["repositories", "images", "tags", "digests"])
def test_one_of_a_hundred_requests_gets_the_last_place_of_a_quota(server, what):
    land = {"repositories": made_repositories, "images": pushed_images, "tags": pushed_tags, "digests": pushed_digests}[
        what
    ](server)
    before = server.work("concurrency", "leave_room_for_one", what)
    try:
        landed = at_once(*(partial(land, number) for number in range(CROWD)))
    finally:
        server.work("concurrency", "lift_limit", what)
    assert sorted(landed) == [False] * (CROWD - 1) + [True]
    assert server.work("concurrency", "count", what) == before + 1
    check(server)


def made_repositories(server):
    """Return a function that creates a repository in the console, and returns False if the quota refuses it."""
    owner = server.visitor("owner@acme.test", "--role", "owner")
    action, fields = owner.filled("/projects/demo/repositories/new", name="")

    def make(number):
        status, _, page = patiently(lambda: owner.post(action, fields | {"name": f"crowd-{number}"}))
        assert status == 302 or (status == 200 and "is full" in page), status
        return status == 302

    return make


def pushed_images(server):
    """Return a function that pushes into a new image with Basic."""
    part = descriptor(b"{}", OCTETS)
    document = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": part, "layers": []}).encode()
    assert server.api().push_blob(b"{}") == 201
    clients = [server.client(server.key) for _ in range(CROWD)]

    def push(number):
        headers = {"Content_Type": OCI_MANIFEST, "Authorization": f"Basic {clients[number].basic}"}
        path = f"/v2/demo/web/crowd{number}/manifests/1"
        answer = patiently(lambda: clients[number].ask("PUT", path, document, **headers))
        return said_of_quota(answer.status, answer.body)

    return push


def pushed_tags(server):
    """Return a function that pushes a new tag of one image."""
    api = server.api()
    assert api.push_blob(b"{}") == 201
    assert api.push_manifest("first", b"{}") == 201
    _, headers, manifest = api.ask("GET", "manifests/first")

    def push(number):
        kind = headers["Content-Type"]
        path = f"manifests/crowd-{number}"
        status, _, body = patiently(lambda: api.ask("PUT", path, manifest, Content_Type=kind))
        return said_of_quota(status, body)

    return push


def pushed_digests(server):
    """Return a function that pushes a new manifest of one image by digest."""
    api = server.api()
    assert api.push_blob(b"{}") == 201
    assert api.push_manifest("first", b"{}") == 201
    _, headers, manifest = api.ask("GET", "manifests/first")

    def push(number):
        content = json.dumps(json.loads(manifest) | {"annotations": {"number": str(number)}}).encode()
        kind = headers["Content-Type"]
        path = f"manifests/{sha256(content)}"
        status, _, body = patiently(lambda: api.ask("PUT", path, content, Content_Type=kind))
        return said_of_quota(status, body)

    return push


def test_hundred_simultaneous_uploads_respect_the_limit(server):
    server.work("concurrency", "delete_uploads")
    api = server.api()

    def start():
        status, headers, _ = patiently(lambda: api.ask("POST", "blobs/uploads/"))
        assert status == 202 or (status == 429 and headers["Retry-After"]), status
        return status == 202

    assert all(at_once(*[start] * 60))
    assert at_once(*[start] * CROWD).count(True) == uploads.OPEN_SESSIONS - 60
    assert server.work("concurrency", "count_open_uploads") == uploads.OPEN_SESSIONS
    server.work("concurrency", "delete_uploads")


def said_of_quota(status, body):
    """Return whether a push was accepted. The only permitted refusal is that of the quota."""
    assert status == 201 or (status == 403 and json.loads(body)["errors"][0]["detail"]["quota"]), (status, body)
    return status == 201


def patiently(ask):
    """Repeat the request while the server answers 503, as clients do with Retry-After."""
    while True:
        answer = ask()
        if getattr(answer, "status", None) != 503 and (not isinstance(answer, tuple) or answer[0] != 503):
            return answer
        time.sleep(random.random())
