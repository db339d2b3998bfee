"""No event is lost or gets another id when processes are killed, or when transactions commit out of order."""

from __future__ import annotations

import http.client
import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress

import pytest

from tests.support.programs import PostgresServer, run
from tests.support.server import SOURCE, LiveServer, Server

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]

NUMBER = int(os.environ.get("KCR_TEST_EVENTS", "10000"))
SETTINGS = {"KCR_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8", "KCR_WEB_WORKERS": "1"}


class Installation(Server):
    """An installation without a running server."""

    def start(self) -> None:
        """Create the tables."""
        self.migrate()


@pytest.fixture(scope="module")
def server():
    with LiveServer("events", SETTINGS) as running:
        yield running.people()


def command(function: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "tests.workers", "events", function, *arguments]


def work(server: Server, failpoint: str = "") -> int:
    """Work until all events are sent, or the process dies at the failpoint. Return the exit status."""
    environment = server.environment | ({"KCR_FAILPOINT": f"{failpoint}:die"} if failpoint else {})
    return run(command("work"), environment=environment, directory=SOURCE, succeeds=None).status


def end_leases(server: Server) -> None:
    """Let deliveries of killed workers be taken at once, and not after the lease."""
    with closing(sqlite3.connect(server.data / "kcr.sqlite3", timeout=60)) as database, database:
        database.execute("UPDATE scanning_delivery SET lease_until = NULL")


def written(server: Server, after: int) -> list[tuple[str, str]]:
    """The ids and actions of the committed acts: the push of a digest under a tag is an event of the tag alone."""
    with closing(sqlite3.connect(server.data / "kcr.sqlite3", timeout=60)) as database:
        rows = database.execute(
            "SELECT id, action FROM registry_event WHERE id > ? AND action <> 'image.push' ORDER BY id", [after]
        )
        return [(f"evt_{pk}", action) for pk, action in rows]


def sent(receiver) -> dict[str, set[bytes]]:
    """The bodies that the receiver got, by webhook-id."""
    found: dict[str, set[bytes]] = {}
    for _path, headers, body in receiver.requests:
        assert json.loads(body)["id"] == headers["webhook-id"]
        found.setdefault(headers["webhook-id"], set()).add(body)
    return found


def push(server: LiveServer, tag: str) -> int:
    """Push a manifest under a tag. Return the status, 0 if the server died."""
    with suppress(http.client.HTTPException, OSError):
        api = server.api()
        api.push_blob(b"{}")
        return api.push_manifest(tag, b"{}", tag.encode()) if api.push_blob(tag.encode()) == 201 else 0
    return 0


@pytest.mark.parametrize("name", ["push.before_commit", "push.stored"])
def test_event_of_a_killed_web_process_is_sent_if_its_change_is_there(server, receiver, name):
    start = server.work("events", "listen", receiver.url)
    server.restart(KCR_FAILPOINT=f"{name}:die")
    tag = name.replace(".", "-")
    assert push(server, tag) == 0
    server.restart()
    is_there = server.api().ask("GET", f"manifests/{tag}")[0] == 200
    assert push(server, f"{tag}-2") == 201
    assert work(server) == 0
    expected = written(server, start)
    assert [action for _name, action in expected] == ["tag.add"] * (2 if is_there else 1)
    assert list(sent(receiver)) == [name for name, _action in expected]


@pytest.mark.parametrize("name", ["spread.before_commit", "deliver.claimed", "deliver.answered"])
def test_killed_worker_loses_no_event(server, receiver, name):
    start = server.work("events", "listen", receiver.url)
    for tag in (name.replace(".", "-"), name.replace(".", "-") + "-2"):
        assert push(server, tag) == 201
    assert work(server, name) == 137
    end_leases(server)
    assert work(server) == 0
    expected, found = written(server, start), sent(receiver)
    assert len(expected) == 2
    assert list(found) == [name for name, _action in expected]
    assert all(len(bodies) == 1 for bodies in found.values())
    assert len(receiver.requests) == (3 if name == "deliver.answered" else 2)


@pytest.mark.timeout(1200)
def test_many_events_while_writers_and_workers_are_killed(receiver):
    """Each committed event arrives, under one id and with one body; no other event does."""
    chance = random.Random(7)
    with LiveServer("many-events", SETTINGS) as server:
        server.people()
        start = server.work("events", "listen", receiver.url)
        processes: dict[str, subprocess.Popen[bytes]] = {}
        kills = 0
        try:
            while (left := NUMBER - len(written(server, start))) > 0 or is_open(server):
                for name, arguments in {"write": [str(left)], "work": []}.items():
                    is_over = name not in processes or processes[name].poll() is not None
                    if is_over and (left > 0 or name == "work"):
                        processes[name] = started(server, name, *arguments)
                time.sleep(chance.uniform(10, 30))
                for process in chance.sample(sorted(processes.values(), key=id), k=chance.randint(1, 2)):
                    kills += process.poll() is None
                    process.kill()
                    process.wait()
                end_leases(server)
        finally:
            for process in processes.values():
                process.kill()
                process.wait()
        expected = [name for name, _action in written(server, start)]
    found = sent(receiver)
    assert kills >= 2
    assert len(expected) >= NUMBER
    assert set(found) == set(expected)
    assert {len(bodies) for bodies in found.values()} == {1}


def is_open(server: Server) -> bool:
    """Whether an event has no delivery yet, or a delivery waits."""
    with closing(sqlite3.connect(server.data / "kcr.sqlite3", timeout=60)) as database:
        (last,) = database.execute("SELECT max(id) FROM registry_event").fetchone()
        (position,) = database.execute("SELECT max(position) FROM scanning_subscription").fetchone()
        (waiting,) = database.execute("SELECT count(*) FROM scanning_delivery WHERE state = 'waiting'").fetchone()
    return bool(position < last or waiting)


def started(server: Server, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(*arguments), env=server.environment, cwd=SOURCE)


def test_an_event_that_commits_later_than_a_newer_one_is_not_skipped(receiver):
    with (
        PostgresServer() as database,
        Installation("order", SETTINGS | {"KCR_DATABASE_URL": database.url}) as installation,
    ):
        found = installation.work("events", "commit_out_of_order", receiver.url)
    assert found == {
        "visible": ["second"],
        "early": [[], []],
        "late": ["first", "second"],
        "made": ["first", "second"],
    }
