"""Crashes at any step: acknowledged writes stay, and no partial state remains."""

from __future__ import annotations

import http.client
import random
import re
import sqlite3
import sys
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.support.images import sha256
from tests.support.integrity import assert_integrity, violations
from tests.support.programs import run
from tests.support.server import SOURCE, LiveServer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]

FAILPOINTS = sorted(
    {
        name
        for path in (SOURCE / "registry").rglob("*.py")
        for name in re.findall(r'failpoint\("([a-z_.]+)"\)', path.read_text())
    }
)


@pytest.fixture(scope="module")
def server():
    with LiveServer("crashes", {"KCR_WEB_WORKERS": "1"}) as running:
        yield running.people()


def push_everything(server: LiveServer, data: bytes, tag: str) -> list[int]:
    """Push a blob in two pieces and a manifest that names it. Return the statuses until the first failure."""
    api = server.api()
    try:
        location = api.start()
        half = len(data) // 2
        statuses = [api.ask("PATCH", location, data[:half])[0]]
        statuses.append(api.ask("PUT", f"{location}?digest={sha256(data)}", iter([data[half:]]))[0])
        return [*statuses, api.push_manifest(tag, data)]
    except (http.client.HTTPException, OSError):
        return [0]


OF_PUSHES = [
    *("append.synced", "append.written", "finish.before_commit", "finish.committed", "finish.published"),
    *("publish.renamed", "publish.synced", "push.before_commit", "push.stored"),
]
OF_ENDINGS = [
    *("collect.before_commit", "collect.locked", "discard.forgotten", "purge.piece", "reap.deleted"),
    "restore.before_commit",
]


def test_failpoints_of_the_code_are_all_listed():
    assert sorted(OF_PUSHES + OF_ENDINGS) == FAILPOINTS


@pytest.mark.parametrize("name", OF_PUSHES)
def test_process_killed_at_a_failpoint_leaves_nothing_partial(server, name):
    data = random.Random(name).randbytes(3_000_000)
    tag = name.replace(".", "-")
    server.restart(KCR_FAILPOINT=f"{name}:die")
    assert push_everything(server, data, tag) == [0]
    server.restart()

    assert_integrity(server.data)
    api = server.api()
    status, _, body = api.ask("GET", f"blobs/{sha256(data)}")
    assert (status, sha256(body) == sha256(data)) in {(404, False), (200, True)}
    assert api.ask("GET", f"manifests/{tag}")[0] == 404
    assert push_everything(server, data, tag) == [202, 201, 201]
    assert api.ask("GET", f"blobs/{sha256(data)}")[2] == data
    assert_integrity(server.data)


@pytest.mark.parametrize("name", ["append.written", "append.synced", "publish.renamed", "publish.synced"])
@pytest.mark.parametrize("how", ["fail", "full"])
def test_failing_or_full_disk_commits_nothing(server, name, how):
    data = random.Random(name + how).randbytes(2_000_000)
    server.restart(KCR_FAILPOINT=f"{name}:{how}")
    statuses = push_everything(server, data, "disk")
    assert max(statuses) >= 500
    assert_integrity(server.data)
    assert server.api().ask("HEAD", f"blobs/{sha256(data)}")[0] == 404
    server.restart()
    assert push_everything(server, data, "disk") == [202, 201, 201]
    assert_integrity(server.data)


def test_upload_continues_after_the_server_was_killed(server):
    data = random.Random(1).randbytes(2_000_000)
    api = server.api()
    location = api.start()
    assert api.ask("PATCH", location, data[:1_500_000])[0] == 202
    server.restart()
    api = server.api()
    status, headers, _ = api.ask("GET", location)
    assert (status, headers["Range"]) == (204, "0-1499999")
    assert api.ask("PATCH", location, data[1_500_000:], Content_Range="1500000-1999999")[0] == 202
    assert api.ask("PUT", f"{location}?digest={sha256(data)}")[0] == 201
    assert api.ask("GET", f"blobs/{sha256(data)}")[2] == data


def test_kill_at_any_moment_leaves_nothing_partial(server):
    chance = random.Random(7)
    for turn in range(4):
        data = chance.randbytes(40_000_000)
        pushing = threading.Thread(target=push_everything, args=(server, data, f"turn-{turn}"))
        pushing.start()
        time.sleep(chance.uniform(0.02, 0.5))
        server.restart()
        pushing.join()
        assert_integrity(server.data)
        status, _, body = server.api().ask("GET", f"blobs/{sha256(data)}")
        assert status == 404 or sha256(body) == sha256(data)


@pytest.fixture
def server_to_break():
    with LiveServer("broken") as running:
        yield running.people()


def test_each_integrity_rule_detects_its_violation(server_to_break):
    """Break each rule and read its violation."""
    server = server_to_break
    data = b"something to break" * 100
    assert push_everything(server, data, "bite") == [202, 201, 201]
    server.crash()
    database = sqlite3.connect(server.data / "kcr.sqlite3")
    key = database.execute("SELECT storage_key FROM registry_blob WHERE digest = ?", [sha256(data)]).fetchone()[0]
    path: Path = server.data / "storage" / key
    assert violations(server.data) == []

    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    assert "not whole" in violations(server.data)[0]
    path.write_bytes(b"X" + whole[1:])
    assert "others" in violations(server.data)[0]
    path.write_bytes(whole)
    stray = path.with_name("00000000-0000-4000-8000-000000000000")
    stray.write_bytes(b"")
    assert "no row owns" in violations(server.data)[0]
    stray.unlink()
    staged = server.data / "storage" / "staging" / stray.name
    staged.write_bytes(b"")
    assert "no upload owns" in violations(server.data)[0]
    staged.unlink()
    with database:
        database.execute(
            "DELETE FROM registry_manifestblob WHERE manifest_id = (SELECT MAX(id) FROM registry_manifest)"
        )
    assert any("other blobs" in broken for broken in violations(server.data))
    database.close()


# ── Deleting, recovering, collecting ─────────────────────────────────────────────────────────────────────────────────
def work(server: LiveServer, function: str, failpoint: str = "") -> int:
    """Call a function of tests.workers.crashes. Return the exit status."""
    return status(server, [sys.executable, "-m", "tests.workers", "crashes", function], failpoint)


def collect(server: LiveServer, failpoint: str = "") -> int:
    """Run ``manage.py collectgarbage``. Return the exit status."""
    return status(server, server.command("collectgarbage"), failpoint)


def status(server: LiveServer, command: list[str], failpoint: str) -> int:
    environment = server.environment | ({"KCR_FAILPOINT": f"{failpoint}:die"} if failpoint else {})
    return run(command, environment=environment, directory=SOURCE, succeeds=None).status


@pytest.fixture(scope="module")
def emptied():
    with LiveServer("endings", {"KCR_WEB_WORKERS": "1"}) as running:
        yield running.people()


@pytest.mark.parametrize("name", ["purge.piece", "collect.locked", "collect.before_commit", "reap.deleted"])
def test_killed_collector_is_continued(emptied, name):
    data = random.Random(name).randbytes(200_000)
    assert push_everything(emptied, data, "doomed") == [202, 201, 201]
    assert work(emptied, "delete_image") == 0
    assert work(emptied, "settle_and_expire_deletions") == 0
    if name == "reap.deleted":
        assert collect(emptied) == 0
        assert work(emptied, "settle") == 0
    assert collect(emptied, name) == 137
    assert_integrity(emptied.data)
    # The first run continues the killed one, the second takes blobs due since, the third deletes their bytes.
    for _ in range(3):
        assert work(emptied, "settle") == 0
        assert collect(emptied) == 0
        assert_integrity(emptied.data)
    with closing(sqlite3.connect(emptied.data / "kcr.sqlite3")) as database:
        for table in ("blob", "manifest", "image", "deletion", "objecttrash"):
            assert database.execute(f"SELECT COUNT(*) FROM registry_{table}").fetchone() == (0,), table
    assert list((emptied.data / "storage" / "blobs").glob("*/*")) == []
    assert push_everything(emptied, data, "again") == [202, 201, 201]
    assert work(emptied, "delete_image") == 0
    assert work(emptied, "settle_and_expire_deletions") == 0
    assert collect(emptied) == 0


def test_killed_cancel_leaves_the_bytes_to_the_collector(emptied):
    api = emptied.api()
    location = api.start()
    assert api.ask("PATCH", location, b"bytes of a push that is given up")[0] == 202
    emptied.restart(KCR_FAILPOINT="discard.forgotten:die")
    with pytest.raises((http.client.HTTPException, OSError)):
        emptied.api().ask("DELETE", location)
    emptied.restart()
    assert emptied.api().ask("GET", location)[0] == 404
    staging = emptied.data / "storage" / "staging"
    assert [path.name for path in staging.iterdir()] == [location.rpartition("/")[2]]
    assert_integrity(emptied.data)
    assert work(emptied, "settle") == 0
    assert collect(emptied) == 0
    assert list(staging.iterdir()) == []


def test_killed_recovery_recovers_nothing(emptied):
    data = random.Random("restore").randbytes(200_000)
    assert push_everything(emptied, data, "kept") == [202, 201, 201]
    assert work(emptied, "delete_image") == 0
    assert work(emptied, "restore_image", "restore.before_commit") == 137
    assert_integrity(emptied.data)
    assert emptied.api().ask("GET", "manifests/kept")[0] == 404
    assert work(emptied, "restore_image") == 0
    assert emptied.api().ask("GET", "manifests/kept")[0] == 200
    assert_integrity(emptied.data)
