"""Many at once: each change happens once, and each limit holds exactly."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.integrity import assert_integrity
from tests.live import OCI_MANIFEST, LiveServer, sha256
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
        # The server has the first bytes when it holds the lock: ask with nothing, which changes nothing, until it says so.
        second = server.api()
        for _ in range(100):
            if second.ask("PATCH", location, b"")[0] == 416:
                break
        status, headers, _ = second.ask("PATCH", location, b"c" * 50)
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


# ── Quotas ───────────────────────────────────────────────────────────────────────────────────────────────────────────
CROWD = 100
OF_QUOTAS = {
    "repositories": ("repository_limit", "Repository.objects.live()"),
    "images": ("image_limit", "Image.objects.live().filter(repository__name='web')"),
    "tags": ("tag_limit", "Tag.objects.live().filter(image__name='app')"),
}
LEAVE_ROOM_FOR_ONE = """
from accounts.models import Project; from registry.models import *
Project.objects.update({limit}={rows}.count() + 1)
"""
COUNT = "from registry.models import *; print({rows}.count())"


@pytest.mark.parametrize("what", OF_QUOTAS)
def test_of_a_hundred_at_the_quota_minus_one_exactly_one_lands(server, what):
    limit, rows = OF_QUOTAS[what]
    land = {"repositories": made_repositories, "images": pushed_images, "tags": pushed_tags}[what](server)
    server.manage("shell", "-v0", "-c", LEAVE_ROOM_FOR_ONE.format(limit=limit, rows=rows))
    before = server.manage("shell", "-v0", "-c", COUNT.format(rows=rows))
    try:
        landed = at_once(CROWD, land)
    finally:
        server.manage("shell", "-v0", "-c", f"from accounts.models import *; Project.objects.update({limit}=1000)")
    assert sorted(landed) == [False] * (CROWD - 1) + [True]
    assert server.manage("shell", "-v0", "-c", COUNT.format(rows=rows)) == before + 1
    check(server)


def made_repositories(server):
    """Make repositories in the console; each says whether it was made, or refused for the quota."""
    owner = server.visitor("owner@acme.test", "--role", "owner")
    action, fields = owner.filled("/projects/demo/repositories/new", name="")

    def make(number):
        status, _, page = patiently(lambda: owner.post(action, fields | {"name": f"crowd-{number}"}))
        assert status == 302 or (status == 200 and "is full" in page), status
        return status == 302

    return make


def pushed_images(server):
    """Push into images that are new each, with Basic."""
    part = {"mediaType": "application/octet-stream", "digest": sha256(b"{}"), "size": 2}
    document = json.dumps({"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": part, "layers": []}).encode()
    assert server.api().push_blob(b"{}") == 201
    clients = [server.client(server.key) for _ in range(CROWD)]

    def push(number):
        headers = {"Content-Type": OCI_MANIFEST, "Authorization": f"Basic {clients[number].basic}"}
        url = f"{server.url}/v2/demo/web/crowd{number}/manifests/1"
        answer = patiently(lambda: clients[number].exchange("PUT", url, document, headers))
        return said_of_quota(answer.status, answer.body)

    return push


def pushed_tags(server):
    """Push tags of one image that are new each."""
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


def said_of_quota(status, body):
    """Whether a push landed; it may have been refused for the quota only."""
    assert status == 201 or (status == 403 and json.loads(body)["errors"][0]["detail"]["quota"]), (status, body)
    return status == 201


def patiently(ask):
    """Ask again when the server says that it has too much to do: what a client does with Retry-After."""
    while True:
        answer = ask()
        if getattr(answer, "status", None) != 503 and (not isinstance(answer, tuple) or answer[0] != 503):
            return answer
        time.sleep(random.random())
