"""PostgreSQL backend: no request waits long for a server that is away, be it refusing or silent.

psycopg waits for an answer without end, and a proxy or a frozen server acknowledges what it gets and says nothing: no
timeout of TCP ends that. A limit for the time of a query would end slow queries of a healthy server as well. So a
connection that has waited for PATIENCE asks whether the server answers a new connection. If it does not, the wait ends.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from django.db import OperationalError
from django.db.backends.postgresql import base
from psycopg_pool import ConnectionPool, PoolTimeout

from registry.server.threads import about_to_wait

if TYPE_CHECKING:
    from psycopg.abc import PQGen

logger = logging.getLogger(__name__)

PATIENCE = 1.0  # seconds without an answer, until a connection asks whether the server answers others
ANSWER_SECONDS = 3.0  # for a new connection
BRIEFLY = 0.5  # instead, while the server is known to be silent
FRESH_SECONDS = 1.0  # so long the result of one question answers others
GIVE_UP_SECONDS = 5.0  # after which a question without a result is asked again
POOL_SECONDS = 3.0  # for a connection of a pool whose connections are all in use
PLAN_SECONDS = 60.0  # after which a connection forgets its plans
RESTED_SECONDS = 1.0  # in the pool, after which a connection is asked whether it works
RV = TypeVar("RV")


class Server:
    """What this process knows about the server. While ``is_silent``, requests fail soon."""

    def __init__(self) -> None:
        self.is_silent = False
        self.parameters: dict[str, Any] = {}  # of a connection
        self._lock = threading.Lock()
        self._result: Future[bool] = Future()
        self._asked_at = float("-inf")

    def answers(self) -> bool:
        """Return whether the server answers a new connection in time. Threads that ask at once share the connection."""
        with self._lock:
            if time.monotonic() - self._asked_at > (FRESH_SECONDS if self._result.done() else GIVE_UP_SECONDS):
                result: Future[bool] = Future()
                threading.Thread(target=self._ask, args=(result,), name="is-it-there", daemon=True).start()
                self._result, self._asked_at = result, time.monotonic()
            result, until = self._result, self._asked_at + (BRIEFLY if self.is_silent else ANSWER_SECONDS)
        try:
            return result.result(max(0.0, until - time.monotonic()))
        except TimeoutError:
            self.note("it accepts no connection in time")
            return False

    def _ask(self, result: Future[bool]) -> None:
        """Connect, in a thread of its own: the look-up of a host name has no time limit."""
        try:
            Connection.connect(**self.parameters).close()
        except psycopg.Error:
            result.set_result(not self.is_silent)
        else:
            result.set_result(True)

    def note(self, problem: str) -> None:
        """Note that the server is silent, or with "" that it answers. Log each change."""
        if bool(problem) != self.is_silent:
            self.is_silent = bool(problem)
            if problem:
                logger.error("PostgreSQL does not answer: %s", problem)
            else:
                logger.warning("PostgreSQL answers again")


server = Server()


class Connection(psycopg.Connection[Any]):
    """Ends a wait for an answer if the server does not answer a new connection either."""

    rests_since = float("-inf")  # when it was returned to its pool (time.monotonic)
    planned_at = 0.0  # when it began to keep its present plans

    @classmethod
    def connect(cls, conninfo: str = "", **parameters: Any) -> Any:
        """See psycopg. A refusal by the server, such as of too many clients, is an answer."""
        try:
            made = super().connect(conninfo, **parameters)
        except psycopg.OperationalError as error:
            server.note("" if "FATAL" in str(error) else str(error))
            raise
        server.note("")
        made.planned_at = time.monotonic()
        return made

    def wait(self, gen: PQGen[RV], *arguments: Any, **options: Any) -> RV:
        """See psycopg. Raises OperationalError, and closes the connection, when the server is silent."""
        return super().wait(self._watched(gen), *arguments, **options)

    def _watched(self, gen: PQGen[RV]) -> PQGen[RV]:
        """Wait as ``gen`` does. psycopg wakes a generator ten times a second, without data."""
        try:
            wanted, until = next(gen), time.monotonic() + PATIENCE
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > until:
                    if not server.answers():
                        self.close()
                        raise psycopg.OperationalError("PostgreSQL does not answer")
                    until = time.monotonic() + PATIENCE
                wanted = gen.send(ready)
        except StopIteration as end:
            result: RV = end.value
            return result

    def renew_plans(self) -> None:
        """Forget the plans of prepared statements once they are PLAN_SECONDS old.

        PostgreSQL keeps a plan until its tables are analyzed. A plan that was made for empty tables reads all rows.
        """
        if (now := time.monotonic()) - self.planned_at > PLAN_SECONDS:
            self.execute("DISCARD PLANS")
            self.planned_at = now

    def works(self) -> bool:
        """Whether the connection works, after its time in the pool. An outage of the server may have ended it.

        The question takes longer than the query of a pull, so a connection that was used a moment ago is not asked.
        """
        if time.monotonic() - self.rests_since < RESTED_SECONDS:
            return not self.closed
        try:
            ConnectionPool.check_connection(self)
        except psycopg.Error:
            self.close()
            return False
        return True


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's wrapper. Connections fail at once while the server is silent."""

    kept_at = 0.0  # when the last request of this thread ended (time.monotonic)

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """See Django's. Returns a connection that works. Raises OperationalError, PoolTimeout."""
        server.parameters = conn_params
        if server.is_silent and not server.answers():
            raise OperationalError("PostgreSQL does not answer")
        if not self.pool:
            return super().get_new_connection(conn_params)
        self.pool.connection_class = Connection
        until = time.monotonic() + POOL_SECONDS
        while True:
            try:
                made = super().get_new_connection(conn_params)
            except PoolTimeout:  # of one second, so that the wait ends soon after the server falls silent
                if time.monotonic() > until or not server.answers():
                    raise
                continue
            if made.works():
                return made
            self.pool.putconn(made)  # the pool makes a new one in its place

    def renew_plans(self) -> None:
        """Forget old plans. Call it before each prepared statement."""
        if isinstance(self.connection, Connection):
            self.connection.renew_plans()

    def _close(self) -> None:
        """See Django's."""
        if self.connection is not None and self.pool:
            self.connection.rests_since = time.monotonic()
        super()._close()  # type: ignore[misc]  # the stubs leave it out

    def _commit(self) -> None:
        """See Django's. The server answers when its log is on the disk."""
        about_to_wait()
        super()._commit()  # type: ignore[misc]  # the stubs leave it out
