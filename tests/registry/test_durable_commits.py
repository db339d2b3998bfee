"""Power cuts between SQLite's commits and their syncs: what was answered as done is in the database afterwards.

The log of the database is cut to what was synced last. SQLite recovers from that what it would after a power cut.
Each row and each column must be there, apart from those of MAY_BE_LOST.
"""

from __future__ import annotations

import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest
from django.db import OperationalError, connection

from registry.database.sqlite import log
from registry.database.sqlite.base import DatabaseWrapper
from registry.database.transactions import may_be_lost
from tests.support.images import Image, sha256
from tests.support.programs import wait_until
from tests.support.server import LiveServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.sqlite_only

# What a power cut may undo after it was answered, by table: None for whole rows.
MAY_BE_LOST: dict[str, set[str] | None] = {
    "registry_uploadsession": {"offset", "prefix_digest", "stored_as", "expires_at"},  # of PATCH: the bytes are synced
    "accounts_accesskey": {"last_used_at", "last_used_address", "last_used_client"},
    "accounts_formersecret": {"last_used_at", "last_used_address", "last_used_client"},
    "registry_tagday": None,  # pulls and pushes of a day
    "registry_projectday": None,
    "registry_manifest": {"last_pushed_at"},
    "registry_image": {"pulled_at", "pushed_at"},  # pushed_at: of a digest that was there
}
HEADER = 32  # bytes of the log

Rows = set[tuple[object, ...]]


class UnluckyServer(LiveServer):
    """A server that can tell what a power cut would leave of its database. Its commands can, too."""

    def command(self, *arguments: str) -> list[str]:
        return self.python("-m", "tests.workers.power", *arguments)

    def now(self) -> dict[str, Rows]:
        """The rows of each table as they are."""
        return rows_of(self.data / "kcr.sqlite3")

    def after_power_cut(self, folder: Path) -> dict[str, Rows]:
        """The rows of each table if the power were cut now."""
        folder.mkdir()
        database, left = self.data / "kcr.sqlite3", folder / "kcr.sqlite3"
        shutil.copy(database, left)
        present = database.with_name("kcr.sqlite3-wal").read_bytes()
        copy = database.with_name("kcr.sqlite3-synced")
        synced = copy.read_bytes() if copy.exists() else b""
        if synced[:HEADER] != present[:HEADER]:  # SQLite began the log again, after it had synced the database
            synced = present[:HEADER]
        left.with_name("kcr.sqlite3-wal").write_bytes(synced)
        return rows_of(left)


def rows_of(path: Path) -> dict[str, Rows]:
    """The rows of each table, without the columns that may be lost."""
    found = {}
    with closing(sqlite3.connect(path, timeout=60)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        tables = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        for (table,) in tables.fetchall():
            lost = MAY_BE_LOST.get(table, set())
            columns = [column[1] for column in database.execute(f"PRAGMA table_info({table})")]
            kept = [f'"{column}"' for column in columns if lost is not None and column not in lost]
            if kept:
                found[table] = set(database.execute(f"SELECT {', '.join(kept)} FROM {table}"))
    return found


@pytest.fixture(scope="module")
def server():
    with UnluckyServer("power", {"KCR_WEB_WORKERS": "1"}) as running:
        yield running.people()


@pytest.mark.real
def test_everything_that_was_answered_survives_a_power_cut(server, tmp_path, subtests):
    @contextmanager
    def step(name: str) -> Iterator[None]:
        before = server.now()
        yield
        with subtests.test(name):
            now, left = server.now(), server.after_power_cut(tmp_path / name)
            assert now != before, "nothing was written"
            assert {table: rows - left[table] for table, rows in now.items() if rows != left[table]} == {}

    api, image = server.api(), Image(layers=[b"a layer", b"another"])
    for number, part in enumerate(image.parts[:-1]):
        with step(f"blob {number} by PATCH and PUT"):
            assert api.push_blob(bytes(part)) == 201
    with step("blob by POST"):
        assert api.ask("POST", f"blobs/uploads/?digest={sha256(b'whole')}", b"whole").status == 201
    with step("opened upload"):
        location = api.start()
    with step("cancelled upload"):
        assert api.ask("DELETE", location).status == 204
    for tag in ("1.0", "2.0"):
        with step(f"manifest {tag}"):
            answer = api.ask("PUT", f"manifests/{tag}", bytes(image.manifest), Content_Type=image.media_type)
            assert answer.status == 201
    with step("deleted tag"):
        assert api.ask("DELETE", "manifests/1.0").status == 202
    with step("deleted digest"):
        assert api.ask("DELETE", f"manifests/{image.digest}").status == 202
    with step("sign-in"):
        visitor = server.visitor("mina@acme.test", "--project", "demo:admin")
    with step("new repository"):
        assert visitor.send("/projects/demo/repositories/new", name="more")[0] == 302
    with step("new key"):
        assert visitor.send("/profile/keys/new", name="laptop")[0] in {200, 302}
    with step("changed project"):
        assert visitor.send("/projects/demo/repositories/more/-/settings", description="More of it")[0] == 302
    with step("key of a command"):
        made = server.access_key("member@acme.test", "--name", "other")
    with step("revoked key"):
        server.manage("revokeaccesskey", made.id)
    with step("task"):
        server.manage("collectgarbage")


def test_a_commit_that_may_be_lost_is_durable_with_the_next_one(database, syncs):
    with closing(database()) as one:
        one.may_be_lost = True
        write(one, 1)
        assert syncs == []
        one.may_be_lost = False
        write(one, 2)
        assert [bytes_of(one)] == syncs, "the log is in the order of commits"


# ── The backend ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def database(db, tmp_path) -> Callable[[], DatabaseWrapper]:
    """Opens further connections to a database of its own."""

    def opened() -> DatabaseWrapper:
        made = DatabaseWrapper({**connection.settings_dict, "NAME": str(tmp_path / "own.sqlite3")}, "own")
        made.inc_thread_sharing()
        return made

    with closing(opened()) as first, first.cursor() as cursor:
        cursor.execute("CREATE TABLE t (i integer)")
    return opened


@pytest.fixture
def syncs(monkeypatch) -> list[bytes]:
    """The bytes of each log as they were when it was synced."""
    seen: list[bytes] = []

    def note(path: Path) -> None:
        seen.append(path.read_bytes())
        synced(path)

    synced = log._sync_file
    monkeypatch.setattr(log, "_sync_file", note)
    return seen


def bytes_of(database: DatabaseWrapper) -> bytes:
    return database._log._path.read_bytes()


def write(database: DatabaseWrapper, number: int, returning: str = "") -> None:
    with database.cursor() as cursor:
        cursor.execute(f"INSERT INTO t VALUES (%s) {returning}", [number])


@pytest.mark.parametrize("returning", ["", "RETURNING i"])
def test_write_in_autocommit_is_synced_after_its_commit(database, syncs, returning):
    """With RETURNING, SQLite commits after the last row."""
    with closing(database()) as one:
        write(one, 1, returning)
        assert syncs == [bytes_of(one)]


def test_transaction_is_synced_once_after_its_hooks(database, syncs):
    """So is what the hooks commit: such as the request for the scan of a pushed manifest."""
    with closing(database()) as one:
        one.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
        write(one, 1)
        one.run_on_commit.append((set(), partial(write, one, 2), False))
        assert syncs == []
        one.commit()
        assert syncs == [], "commit() itself does not wait: set_autocommit follows"
        one.set_autocommit(True)
        assert syncs == [bytes_of(one)]


def test_failed_hook_does_not_keep_the_commit_from_being_synced(database, syncs):
    def fail() -> None:
        raise ZeroDivisionError

    with closing(database()) as one:
        one.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
        write(one, 1)
        one.run_on_commit.append((set(), fail, False))
        one.commit()
        with pytest.raises(ZeroDivisionError):
            one.set_autocommit(True)
        assert syncs == [bytes_of(one)]


def test_rollback_and_reads_are_not_synced(database, syncs):
    with closing(database()) as one:
        one.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
        write(one, 1)
        one.rollback()
        one.set_autocommit(True)
        with one.cursor() as cursor:
            assert cursor.execute("SELECT * FROM t").fetchall() == []
        assert syncs == []


def test_log_that_sqlite_made_again_is_synced(database, syncs):
    """SQLite deletes the log with the last connection."""
    for number in range(2):
        with closing(database()) as one:
            write(one, number)
            assert syncs[-1] == bytes_of(one)
        assert not one._log._path.exists()
    assert len(syncs) == 2


def test_database_without_a_log_is_synced_by_sqlite(db, tmp_path, syncs):
    settings = {**connection.settings_dict, "NAME": str(tmp_path / "own.sqlite3")}
    settings["OPTIONS"] = {**settings["OPTIONS"], "init_command": "PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL"}
    with closing(DatabaseWrapper(settings, "own")) as one, one.cursor() as cursor:
        cursor.execute("CREATE TABLE t (i integer)")
        assert cursor.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert syncs == []


def test_failed_sync_is_an_error_for_every_commit_that_shares_it(database, monkeypatch):
    """The kernel reports bytes that it could not write once only: no thread may try again and believe it."""
    begun, go_on, calls = threading.Event(), threading.Event(), []

    def fail(path: Path) -> None:
        calls.append(path)
        begun.set()
        if len(calls) == 1:
            go_on.wait(60)
        elif len(calls) == 2:
            raise OSError("no disk")

    monkeypatch.setattr(log, "_sync_file", fail)
    with ExitStack() as stack, ThreadPoolExecutor(3) as threads:
        ones = [stack.enter_context(closing(database())) for _ in range(3)]
        first = threads.submit(write, ones[0], 0)
        begun.wait(60)
        others = [threads.submit(write, one, 1) for one in ones[1:]]
        assert wait_until(lambda: len(ones[0]._log._changed._waiters) == 2, timeout=60)
        go_on.set()
        first.result()
        for other in others:
            with pytest.raises(OperationalError, match="cannot be synced"):
                other.result()
        write(ones[0], 2)
    assert len(calls) == 3


def test_threads_share_a_sync_that_began_after_their_commits(database, monkeypatch):
    """Not the one that has begun: it may have missed their bytes."""
    begun, go_on, seen = threading.Event(), threading.Event(), []

    def slowly(path: Path) -> None:
        seen.append(path.read_bytes())
        begun.set()
        go_on.wait(60)

    monkeypatch.setattr(log, "_sync_file", slowly)
    with ExitStack() as stack, ThreadPoolExecutor(9) as threads:
        ones = [stack.enter_context(closing(database())) for _ in range(9)]
        first = threads.submit(write, ones[0], 0)
        begun.wait(60)
        others = [threads.submit(write, one, number) for number, one in enumerate(ones[1:], 1)]
        assert wait_until(lambda: len(ones[0]._log._changed._waiters) == 8, timeout=60)
        go_on.set()
        for each in (first, *others):
            each.result()
        assert len(seen) == 2
        assert seen[1] == bytes_of(ones[0])
        assert len(seen[0]) < len(seen[1])


@pytest.mark.django_db
def test_block_of_what_may_be_lost_ends_with_itself():
    assert not connection.may_be_lost
    with may_be_lost():
        with pytest.raises(ZeroDivisionError), may_be_lost():
            raise ZeroDivisionError
        assert connection.may_be_lost
    assert not connection.may_be_lost
