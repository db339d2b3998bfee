"""Many at once: each change happens once, and each limit holds exactly."""

from __future__ import annotations

import itertools
import random
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.integrity import assert_integrity
from tests.live import LiveServer, sha256
from tests.programs import PostgresServer

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request):
    if request.param == "sqlite":
        with LiveServer("concurrency") as running:
            yield running.people()
        return
    with PostgresServer() as database, LiveServer("concurrency", {"KCR_DATABASE_URL": database.url}) as running:
        yield running.people()


def at_once(count, act):
    """What ``act(number)`` gave in each of so many threads that start together."""
    gate = threading.Barrier(count)

    def run(number):
        gate.wait()
        return act(number)

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


def check(server):
    if (server.data / "kcr.sqlite3").exists():
        assert_integrity(server.data)


def test_the_same_blob_from_twenty_clients_is_kept_once(server):
    data = random.Random(2).randbytes(300_000)
    clients = [server.api() for _ in range(20)]
    assert at_once(20, lambda number: clients[number].push_blob(data)) == [201] * 20
    files = [path for path in (server.data / "storage" / "blobs").glob("*/*") if path.stat().st_size == len(data)]
    assert len(files) == 20  # one is the blob's; nineteen wait in the trash for the collector
    if (server.data / "kcr.sqlite3").exists():
        with closing(sqlite3.connect(server.data / "kcr.sqlite3")) as database:
            rows = database.execute("SELECT storage_key FROM registry_blob WHERE digest = ?", [sha256(data)]).fetchall()
            trash = {row[0] for row in database.execute("SELECT storage_key FROM registry_objecttrash")}
        assert len(rows) == 1
        keys = {str(path.relative_to(server.data / "storage")) for path in files}
        assert len(keys & trash) == 19
    check(server)


def test_of_two_writers_of_one_upload_one_goes_on(server):
    api = server.api()
    location = api.start()
    started, go_on = threading.Event(), threading.Event()

    def slowly():
        yield b"a" * 100_000
        started.set()
        go_on.wait(20)
        yield b"b" * 100_000

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(api.ask, "PATCH", location, slowly())
        assert started.wait(20)
        # The server has the first bytes when it holds the lock; ask until it says so.
        second = server.api()
        for _ in range(100):
            status, headers, _ = second.ask("PATCH", location, b"c" * 50)
            if status == 416:
                break
        go_on.set()
        assert first.result()[0] == 202
    assert status == 416
    assert headers["Range"] == "0-0"
    data = b"a" * 100_000 + b"b" * 100_000
    assert api.ask("PUT", f"{location}?digest={sha256(data)}")[0] == 201


def test_twenty_tags_pushed_at_once_into_a_new_image_all_land(server):
    clients = [server.api() for _ in range(20)]
    assert clients[0].push_blob(b"{}") == 201
    assert at_once(20, lambda number: clients[number].push_manifest(f"t{number:02}", b"{}")) == [201] * 20
    _, _, body = clients[0].ask("GET", "tags/list")
    assert all(f'"t{number:02}"' in body.decode() for number in range(20))
    check(server)


def test_a_tag_that_ten_move_at_once_has_one_meaning(server):
    clients = [server.api() for _ in range(10)]
    layers = [f"layer {number}".encode() for number in range(10)]
    for layer in layers:
        assert clients[0].push_blob(layer) == 201
    assert at_once(10, lambda number: clients[number].push_manifest("moved", layers[number])) == [201] * 10
    check(server)
    events = server.manage(
        "shell",
        "-v0",
        "-c",
        "import json; from registry.models import Tag; t = Tag.objects.filter(name='moved').order_by('pk');"
        "print(json.dumps([[x.started_at.timestamp(), x.ended_at and x.ended_at.timestamp()] for x in t]))",
    )
    assert len(events) == 10
    assert [ended for _, ended in events].count(None) == 1
    assert all(before[1] == after[0] for before, after in itertools.pairwise(events))


@pytest.mark.parametrize(("limit", "what"), [("tag_limit", "tags"), ("image_limit", "images")])
def test_at_the_quota_minus_one_exactly_one_lands(server, limit, what):
    count = {
        "tags": "Tag.objects.filter(ended_at=None, image__name='app')",
        "images": "Image.objects.filter(deletion=None)",
    }
    set_limit = (
        "from accounts.models import Project; from registry.models import Tag, Image;"
        f"Project.objects.update({limit}={count[what]}.count() + 1)"
    )
    clients = [server.api() for _ in range(20)]
    assert clients[0].push_blob(b"{}") == 201
    assert clients[0].push_manifest("first", b"{}") == 201
    server.manage("shell", "-v0", "-c", set_limit)

    def push(number):
        if what == "tags":
            return clients[number].push_manifest(f"quota-{number}", b"{}")
        return push_image(server, number)

    statuses = at_once(20, push)
    server.manage("shell", "-v0", "-c", f"from accounts.models import Project; Project.objects.update({limit}=1000)")
    assert sorted(statuses) == [201] + [403] * 19
    check(server)


def push_image(server, number):
    """A manifest into an image of its own, with Basic."""
    import json

    from tests.live import OCI_MANIFEST

    part = {"mediaType": "application/octet-stream", "digest": sha256(b"{}"), "size": 2}
    document = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": part, "layers": []}).encode()
    client = server.client(server.key)
    headers = {"Content-Type": OCI_MANIFEST, "Authorization": f"Basic {client.basic}"}
    return client.exchange("PUT", f"{server.url}/v2/demo/web/quota{number}/manifests/1", document, headers).status
