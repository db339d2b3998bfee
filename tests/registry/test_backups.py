"""Backups: copies of the database and of the blobs from different moments, and the report of the differences."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import secrets
import shutil
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.documents import blocks, carry_out, here, section
from tests.support.images import sha256
from tests.support.programs import (
    PostgresServer,
    TemporaryFolder,
    environment_for,
    require,
    require_postgres,
    run,
    search_path,
    wait_until,
)
from tests.support.s3 import CREDENTIALS
from tests.support.server import SOURCE, LiveServer
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]

EARLY, LATE = os.urandom(2_000), os.urandom(3_000)


def push(server: LiveServer, tag: str, data: bytes) -> None:
    api = server.api()
    assert api.push_blob(data) == 201
    assert api.push_manifest(tag, data) == 201


def backup(server: LiveServer, name: str, *parts: str) -> None:
    """Copy parts of the data directory while no server runs."""
    (server.folder / name).mkdir(exist_ok=True)
    for part in parts:
        source = server.data / part
        copy = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, server.folder / name / part)


def restore(server: LiveServer, **parts: str) -> None:
    """Stop the server and replace its data by a database and blobs of these backups."""
    server.end()
    for leftover in server.data.glob("kcr.sqlite3*"):
        leftover.unlink()
    shutil.copy2(server.folder / parts["database"] / "kcr.sqlite3", server.data / "kcr.sqlite3")
    shutil.rmtree(server.data / "storage")
    shutil.copytree(server.folder / parts["blobs"] / "storage", server.data / "storage")


def verify(server: LiveServer) -> tuple[int, dict[str, int], str]:
    result = run(
        server.command("verifystorage", "--full"), environment=server.environment, directory=SOURCE, succeeds=None
    )
    return result.status, json.loads(result.output), result.errors


@pytest.fixture(scope="module")
def server():
    """A server with two backups, before and after the push of ``late``."""
    with LiveServer("backups", {"KCR_WEB_WORKERS": "1"}) as running:
        running.people()
        push(running, "early", EARLY)
        running.end()
        backup(running, "first", "kcr.sqlite3", "storage")
        running.serve()
        push(running, "late", LATE)
        running.end()
        backup(running, "second", "kcr.sqlite3", "storage")
        yield running


def test_database_older_than_the_blobs_has_orphans_and_serves_its_images(server):
    restore(server, database="first", blobs="second")
    for path in (server.data / "storage" / "blobs").glob("*/*"):
        os.utime(path, (0, 0))  # only old files are orphans: a young one may belong to a running push
    status, counts, said = verify(server)
    assert (status, counts) == (1, {"blobs": 1, "missing": 0, "short": 0, "damaged": 0, "orphan": 1})
    assert said.count("orphan:") == 1
    server.serve()
    api = server.api()
    assert api.ask("GET", "manifests/early")[0] == 200
    assert api.ask("GET", f"blobs/{sha256(EARLY)}")[2] == EARLY
    assert api.ask("GET", "manifests/late")[0] == 404
    push(server, "late", LATE)
    assert api.ask("GET", f"blobs/{sha256(LATE)}")[2] == LATE


def test_database_newer_than_the_blobs_reports_missing_blobs_until_the_next_push(server):
    restore(server, database="second", blobs="first")
    status, counts, said = verify(server)
    assert (status, counts) == (1, {"blobs": 2, "missing": 1, "short": 0, "damaged": 0, "orphan": 0})
    assert f"missing: {sha256(LATE)}" in said
    server.serve()
    api = server.api()
    assert api.ask("GET", f"blobs/{sha256(EARLY)}")[2] == EARLY
    assert api.ask("GET", f"blobs/{sha256(LATE)}")[0] == 404
    assert api.ask("HEAD", f"blobs/{sha256(LATE)}")[0] == 404  # so that clients push it again
    push(server, "late", LATE)
    assert api.ask("GET", f"blobs/{sha256(LATE)}")[2] == LATE
    server.end()
    assert verify(server)[:2] == (0, {"blobs": 2, "missing": 0, "short": 0, "damaged": 0, "orphan": 0})


# ── The commands of docs/operate/backup.md ───────────────────────────────────────────────────────────────────────────
@contextlib.contextmanager
def pushing(server: LiveServer) -> Iterator[dict[str, bytes]]:
    """Push images all the time, and begin when there is one. Yield what was pushed, by tag."""
    over, pushed = threading.Event(), dict[str, bytes]()

    def go_on() -> None:
        for number in itertools.count():
            if over.is_set():
                return
            data = os.urandom(50_000)
            push(server, f"meanwhile-{number}", data)
            pushed[f"meanwhile-{number}"] = data

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        assert wait_until(lambda: bool(pushed), timeout=30)
        yield pushed
    finally:
        over.set()
        thread.join()


def assert_restored(server: LiveServer, before: dict[str, bytes], meanwhile: dict[str, bytes]) -> None:
    """What was there before the backup is there. What came later is whole, or unknown and can be pushed again."""
    api = server.api()
    for tag, data in before.items():
        assert api.ask("GET", f"manifests/{tag}").status == 200
        assert api.ask("GET", f"blobs/{sha256(data)}").body == data
    push(server, "late", LATE)
    for tag, data in meanwhile.items():
        if api.ask("GET", f"manifests/{tag}").status == 200:
            assert api.ask("GET", f"blobs/{sha256(data)}").body == data
        else:
            push(server, tag, data)


class Drill(LiveServer):
    """The installation that the commands of the drill restore and start."""

    commands = ""

    def start(self) -> None:
        """Run the commands. The last one is the server."""
        *before, last = self.commands.splitlines()
        script = "\n".join([*before, f"exec {last}"])
        self.launch(["sh", "-ec", script], environment_for(self.folder), cwd=SOURCE)
        if not self.await_ready(self.is_ready):
            pytest.fail(f"the drill failed:\n{self.said()}")


def test_backup_of_sqlite_while_images_are_pushed_and_its_drill(tmp_path):
    folders = {name: f"{tmp_path}{name}" for name in ("/backup", "/elsewhere")}
    for folder in folders.values():
        Path(folder).mkdir()
    environment = environment_for(tmp_path, PATH=f"{Path(require('sqlite3')).parent}:{search_path()}")
    with LiveServer("backed-up", {"KCR_WEB_WORKERS": "1"}) as server:
        key = server.people().key
        server.visitor("owner@acme.test", "--role", "owner")
        push(server, "early", EARLY)
        with pushing(server) as meanwhile:
            before = {"early": EARLY, **meanwhile}
            (commands,) = blocks("backup.md", "SQLite")
            commands = here(commands, {**folders, "/srv/kcr": str(server.data)})
            run(["sh", "-ec", commands], environment=environment, directory=SOURCE)
    drill = Drill("drill")
    (commands,) = blocks("backup.md", "Drill")
    drill.commands = here(commands, {**folders, "/tmp/drill": str(drill.data), "18080": str(drill.port)})
    with drill:
        counts = json.loads(next(line for line in drill.said(lines=1000).splitlines() if line.startswith('{"blobs"')))
        assert counts.pop("blobs") >= len(before)
        assert set(counts.values()) == {0}
        drill.key = key
        assert_restored(drill, before, meanwhile)
        Visitor(drill, "owner@acme.test")


class Restored(LiveServer):
    """A server that starts when its data is there."""

    def start(self) -> None:
        """Nothing."""


def reach(database: PostgresServer) -> dict[str, str]:
    """Return the variables by which programs of PostgreSQL find this server, as inside its container."""
    return {"PGHOST": "127.0.0.1", "PGPORT": str(database.port)}


#: In place of Docker: runs what a container of web or postgres would run on this machine. ``up`` does nothing. Docker
#: reads the standard input that it gets, so this fails when that is the pipe of the script.
DOCKER = """#!/bin/sh -e
case "$2" in
    up) exit ;;
    exec) [ "$3 $4" = "-T postgres" ]; shift 4 ;;
    run) [ "$3" = "-T" ]; while [ "$1" != web ]; do shift; done; shift ;;
esac
[ ! -p /dev/stdin ]
exec "$@"
"""


@pytest.mark.parametrize("kind", ["machines", "containers"])
def test_backup_of_postgresql_and_s3_while_images_are_pushed(seaweed, tmp_path, kind):
    """docs/operate/backup.md, "PostgreSQL and S3": two blocks for machines, two for containers."""
    shared = {"KCR_SECRET_KEY": secrets.token_hex(32), "KCR_WEB_WORKERS": "1", **CREDENTIALS}
    url = seaweed.url(f"backed-up-{kind}")
    bucket = f"restored-{kind}"
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o700)
    folders = (tmp_path, Path(sys.executable).parent, Path(require_postgres("pg_dump")).parent)
    programs = ":".join([*map(str, folders), search_path()])
    copying, copying_containers, restoring, restoring_containers = blocks("backup.md", "PostgreSQL and S3")
    if kind == "containers":
        copying, restoring = copying_containers, restoring_containers
    with TemporaryFolder("backup") as backup, PostgresServer() as database, PostgresServer() as other_database:
        written = {"/backup": str(backup.folder)}
        with LiveServer("backed-up", shared | {"KCR_DATABASE_URL": database.url, "KCR_STORAGE_URL": url}) as server:
            key = server.people().key
            push(server, "early", EARLY)
            with pushing(server) as meanwhile:
                before = {"early": EARLY, **meanwhile}
                carry_out(here(copying, written), server, PATH=programs, **reach(database))
        restored = {
            "KCR_DATABASE_URL": other_database.url,
            "KCR_STORAGE_URL": url.replace("s3://blobs/", f"s3://{bucket}/"),
        }
        with Restored("restored", shared | restored) as server:
            printed = carry_out(here(restoring, written), server, PATH=programs, **reach(other_database))
            said = [json.loads(line) for line in printed.output.splitlines() if line.startswith("{")]
            assert said[0] == {"bucket": bucket, "created": True}
            assert said[-1].pop("blobs") >= len(before)
            assert set(said[-1].values()) == {0}
            server.serve()
            server.key = key
            assert_restored(server, before, meanwhile)


def test_backup_of_postgresql_with_files_while_images_are_pushed(tmp_path):
    """docs/operate/backup.md, "PostgreSQL", then "Restore" with its commands, on another machine."""
    programs = f"{Path(require_postgres('pg_dump')).parent}:{search_path()}"
    (copying,) = blocks("backup.md", "PostgreSQL")
    steps = section("backup.md", "Restore")
    restoring = re.findall(r"`(pg_restore [^`]*)`", steps) + re.findall(r"`(manage\.py [^`]*)`", steps)
    assert len(restoring) == 3
    backup = tmp_path / "backup"
    backup.mkdir()
    with PostgresServer() as database, PostgresServer() as other_database:
        with LiveServer("backed-up", {"KCR_WEB_WORKERS": "1", "KCR_DATABASE_URL": database.url}) as server:
            key = server.people().key
            push(server, "early", EARLY)
            with pushing(server) as meanwhile:
                before = {"early": EARLY, **meanwhile}
                carry_out(here(copying, {"/backup": str(backup), "/srv/kcr": str(server.data)}), server, PATH=programs)
            secret = (server.data / "secret_key").read_bytes()
        with Restored("restored", {"KCR_WEB_WORKERS": "1", "KCR_DATABASE_URL": other_database.url}) as server:
            server.data.mkdir(mode=0o700)
            (server.data / "secret_key").write_bytes(secret)
            shutil.copytree(backup / "storage", server.data / "storage")
            commands = "\n".join(restoring).replace("manage.py", ".venv/bin/python manage.py")
            printed = carry_out(here(commands, {"kcr.dump": f"{backup}/kcr.dump"}), server, PATH=programs).output
            said = json.loads(printed.splitlines()[-1])
            assert said.pop("blobs") >= len(before)
            assert set(said.values()) == {0}
            server.serve()
            server.key = key
            assert_restored(server, before, meanwhile)
