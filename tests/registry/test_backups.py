"""Backups: copies of the database and of the blobs from different moments, and the report of the differences."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from tests.support.images import sha256
from tests.support.programs import run
from tests.support.server import SOURCE, LiveServer

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
