"""The queue of SQLite writers: turns come in order, within a process and between processes, and are never lost."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from django.db import OperationalError, connection, connections

from registry.database.sqlite import log
from registry.database.sqlite import turns as queues
from registry.database.sqlite.base import DatabaseWrapper
from registry.database.sqlite.turns import TookTooLong, Turns, of
from tests.support.programs import wait_until
from tests.support.server import SOURCE
from tests.support.threads import Overtaking

if TYPE_CHECKING:
    from pathlib import Path

WRITERS, PATIENCE = 24, 60


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "database-turns"


def arrive(turns: Turns, act) -> threading.Thread:
    """Start a thread. Return once it waits in the queue."""
    before = turns.waiting
    thread = threading.Thread(target=act)
    thread.start()
    assert wait_until(lambda: turns.waiting > before, timeout=PATIENCE)
    return thread


def next_ticket(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[:8], "little") if path.exists() else 0


# ── Threads ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("has_file", [False, True])
def test_turns_come_in_the_order_of_arrival(path, has_file):
    turns, order = Turns(path if has_file else None), []
    first = turns.take(0)

    def write(number):
        turn = turns.take(PATIENCE)
        order.append(number)
        turn.give()

    threads = [arrive(turns, lambda number=number: write(number)) for number in range(WRITERS)]
    first.give()
    for thread in threads:
        thread.join()
    assert order == list(range(WRITERS))


def test_single_writer_waits_for_each_busy_writer_once(path):
    turns, order, over = Turns(path), [], threading.Event()
    first = turns.take(0)

    def always(number):
        while not over.is_set():
            turn = turns.take(PATIENCE)
            order.append(number)
            turn.give()

    def once():
        turn = turns.take(PATIENCE)
        order.append("once")
        turn.give()
        over.set()

    threads = [arrive(turns, lambda number=number: always(number)) for number in range(WRITERS)]
    threads.append(arrive(turns, once))
    first.give()
    for thread in threads:
        thread.join()
    assert order[: WRITERS + 1] == [*range(WRITERS), "once"]


def test_timed_out_waiter_leaves_the_queue_without_blocking_it(path):
    turns = Turns(path)
    first = turns.take(0)
    with pytest.raises(TookTooLong):
        turns.take(0.01)
    assert turns.waiting == 0
    first.give()
    first.give()  # a repetition changes nothing
    turns.take(0).give()


def test_dropped_turn_is_given_back(path):
    turns = Turns(path)
    turn = turns.take(0)
    del turn
    turns.take(0).give()


# ── Processes ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("how", ["gives", "dies"])
def test_processes_take_turns(path, tmp_path, how):
    """This process takes a second turn immediately, and still comes after the other process, even if that one is killed."""
    turns, order = Turns(path), tmp_path / "order"
    turn = turns.take(0)
    before = next_ticket(path)
    command = [sys.executable, "-m", "tests.workers.turns", str(path), str(order), how]
    with subprocess.Popen(command, cwd=SOURCE) as other:
        assert wait_until(lambda: next_ticket(path) > before, timeout=PATIENCE)
        turn.give()
        turn = turns.take(PATIENCE)
        with order.open("a") as file:
            file.write("this ")
        turn.give()
        assert other.wait() == 0
    assert order.read_text() == "other this "


def test_forked_process_has_no_turn_and_no_waiting_threads():
    turns = of(None)
    turn = turns.take(0)
    waiting = arrive(turns, lambda: turns.take(PATIENCE).give())
    child = os.fork()
    if child == 0:
        try:
            turn.give()  # a copy: neither the turn of the parent nor the next one
            mine = turns.take(0)
            try:
                turns.take(0)
            except TookTooLong:
                mine.give()
                os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert turns.waiting == 1
    turn.give()
    waiting.join()


def test_unusable_queue_file_does_not_prevent_writing(tmp_path, caplog):
    turns = Turns(tmp_path / "no folder" / "turns")
    turns.take(0).give()
    assert "writers of other processes are not waited for" in caplog.text


# ── What the threads of a process share ──────────────────────────────────────────────────────────────────────────────
OF_A_FILE = pytest.mark.parametrize("module", [queues, log], ids=["turns", "log"])


@OF_A_FILE
def test_threads_that_come_at_once_share_what_belongs_to_a_file(module, path, monkeypatch):
    overtaking = Overtaking()

    class Known(dict):
        def __contains__(self, key):
            is_known = super().__contains__(key)
            overtaking.pause()
            return is_known

    monkeypatch.setattr(module, "_known", Known())
    monkeypatch.setattr(module, "_lock_of_known", overtaking)
    one, other = overtaking.run(lambda: module.of(path), lambda: module.of(path))
    assert one is other


@OF_A_FILE
def test_forked_process_waits_for_no_lock_of_a_thread_that_it_lacks(module, path, monkeypatch):
    monkeypatch.setattr(module, "_known", {})
    shared, lock = module.of(path), {queues: "_lock", log: "_changed"}[module]
    held, let_go = threading.Event(), threading.Event()

    def hold():
        with module._lock_of_known, getattr(shared, lock):
            held.set()
            let_go.wait(PATIENCE)

    with ThreadPoolExecutor(1) as threads:
        threads.submit(hold)
        assert held.wait(PATIENCE)
        child = os.fork()
        if child == 0:
            try:
                is_free = module._lock_of_known.acquire(blocking=False) and getattr(shared, lock).acquire(
                    blocking=False
                )
                os._exit(0 if is_free else 2)
            finally:
                os._exit(1)
        let_go.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# ── The backend ──────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def database(db, tmp_path):
    """A separate connection to a separate database."""
    settings = connection.settings_dict | {"NAME": str(tmp_path / "own.sqlite3")}
    options = {"transaction_mode": "IMMEDIATE", "timeout": 0.01}
    made = DatabaseWrapper(settings | {"OPTIONS": options, "CONN_HEALTH_CHECKS": False}, "own")
    made.cursor().execute("CREATE TABLE notes (text)")
    yield made
    made.close()


def is_free(database: DatabaseWrapper) -> bool:
    try:
        database.take_turn().give()
    except OperationalError:
        return False
    return True


def begin(database: DatabaseWrapper) -> None:
    database.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)


@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
def test_transaction_holds_the_turn_until_it_ends(database, end):
    assert is_free(database)
    begin(database)
    assert not is_free(database)
    database.cursor().execute("INSERT INTO notes VALUES (1)")
    database.cursor().execute("SAVEPOINT inner")
    database.cursor().execute("RELEASE SAVEPOINT inner")
    assert not is_free(database)
    getattr(database, end)()
    assert is_free(database)


def test_failed_begin_releases_the_turn(database):
    other = DatabaseWrapper(database.settings_dict, "other")
    with other.connection or other.cursor().connection as raw:
        raw.execute("BEGIN IMMEDIATE")  # a program that does not use the queue
        with pytest.raises(OperationalError, match="locked"):
            begin(database)
        raw.execute("ROLLBACK")
    assert is_free(database)
    other.close()


@pytest.mark.parametrize(
    ("statement", "waits"),
    [
        ("INSERT INTO notes VALUES (1)", True),
        ("  update notes SET text = 2", True),
        ("DELETE FROM notes", True),
        ("SELECT * FROM notes", False),
        ("PRAGMA user_version", False),
    ],
)
def test_autocommit_write_waits_for_its_turn(database, statement, waits):
    turn = database.take_turn()
    if waits:
        with pytest.raises(OperationalError, match="too many others wait"):
            database.cursor().execute(statement)
    else:
        database.cursor().execute(statement)
    turn.give()
    database.cursor().execute(statement)
    assert is_free(database)


@pytest.mark.sqlite_only
def test_the_registry_uses_this_backend(db):
    assert isinstance(connections["default"], DatabaseWrapper)
