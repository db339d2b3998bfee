"""SQLite backend: each write transaction, and each write in autocommit, waits for its turn (see turns).

A commit is durable before Django goes on after it (see log), unless the code says that it may be lost
(``registry.database.transactions.may_be_lost``).
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import OperationalError
from django.db.backends.sqlite3 import base

from . import log, turns

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

PATIENCE = 5.0  # seconds, when OPTIONS has no timeout
_WRITES = re.compile(r"\s*(?:INSERT|UPDATE|DELETE|REPLACE|CREATE|DROP|ALTER)\b", re.IGNORECASE)


class Cursor(base.SQLiteCursorWrapper):
    """Waits for its turn before a write in autocommit, and for the disk after it."""

    def __init__(self, database: DatabaseWrapper, connection: sqlite3.Connection) -> None:
        super().__init__(connection)
        self._database = database
        self._commits_late = False

    def execute(self, query: str, params: Any = None) -> Any:
        """See Django's."""
        with self._turn(query):
            return super().execute(query, params)

    def executemany(self, query: str, param_list: Any) -> Any:
        """See Django's."""
        with self._turn(query):
            return super().executemany(query, param_list)

    @contextmanager
    def _turn(self, query: str) -> Iterator[None]:
        if self.connection.in_transaction or not _WRITES.match(query):
            yield
            return
        turn = self._database.take_turn()
        try:
            yield
        finally:
            turn.give()
        if self.description is None:
            self._database.make_durable()
        else:  # with RETURNING, SQLite commits after the last row
            self._commits_late = True

    def close(self) -> None:
        """See sqlite3."""
        super().close()
        if self._commits_late:
            self._commits_late = False
            self._database.make_durable()


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's wrapper. ``timeout`` of OPTIONS also limits the wait for the turn; then raises OperationalError."""

    may_be_lost = False  # whether commits are not waited for
    _turn: turns.Turn | None = None
    _log: log.Log | None = None
    _sync = 0  # the number of the sync of the log that makes the last commit durable; 0: it need not be waited for

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """See Django's. With a write-ahead log, commits do not sync it: this class does."""
        made = super().get_new_connection(conn_params)
        self._log = None
        if made.execute("PRAGMA journal_mode").fetchone() == ("wal",):
            made.execute("PRAGMA synchronous=NORMAL")
            self._log = log.of(Path(f"{self.settings_dict['NAME']}-wal"))
        return made

    def take_turn(self) -> turns.Turn:
        """Wait until this connection may write."""
        options: dict[str, Any] = self.settings_dict.get("OPTIONS") or {}
        try:
            return turns.of(self._file_of_tickets()).take(float(options.get("timeout", PATIENCE)))
        except turns.TookTooLong as error:
            raise OperationalError("database is locked: too many others wait to write") from error

    def _file_of_tickets(self) -> Path | None:
        return None if self.is_in_memory_db() else Path(f"{self.settings_dict['NAME']}-turns")

    def create_cursor(self, name: str | None = None) -> Any:
        """Return a Cursor that waits for turns."""
        return self.connection.cursor(factory=partial(Cursor, self))

    def _start_transaction_under_autocommit(self) -> None:
        turn = self.take_turn()
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]  # the stubs leave it out
        except BaseException:
            turn.give()
            raise
        self._turn = turn

    def _commit(self) -> None:
        try:
            super()._commit()  # type: ignore[misc]  # the stubs leave these out
        finally:
            self._give_turn_when_over()
        self._note_commit()

    def run_and_clear_commit_hooks(self) -> None:
        """See Django's, which calls this after each commit. What the hooks commit shares the sync."""
        try:
            super().run_and_clear_commit_hooks()
        finally:
            self._wait_for_disk()

    def make_durable(self) -> None:
        """Wait until what was committed is on the disk. Raises OperationalError."""
        self._note_commit()
        self._wait_for_disk()

    def _note_commit(self) -> None:
        if self._log is not None and not self.may_be_lost:
            self._sync = self._log.next_sync()

    def _wait_for_disk(self) -> None:
        number, self._sync = self._sync, 0
        if self._log is not None and number:
            try:
                self._log.wait(number)
            except OSError as error:
                raise OperationalError(f"the database cannot be synced: {error}") from error

    def _rollback(self) -> None:
        try:
            super()._rollback()  # type: ignore[misc]
        finally:
            self._give_turn_when_over()

    def _close(self) -> None:
        try:
            super()._close()  # type: ignore[misc]
        finally:
            self._give_turn()

    def _give_turn_when_over(self) -> None:
        """Give the turn unless a failed commit left the transaction open, which Django then rolls back."""
        if self.connection is None or not self.connection.in_transaction:
            self._give_turn()

    def _give_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.give()
