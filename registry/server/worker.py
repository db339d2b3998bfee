"""The gunicorn worker of KCR: one epoll for all connections, and threads only for complete requests."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import sys
import time
from collections import Counter
from functools import partial
from typing import ClassVar

from django.db import close_old_connections
from gunicorn.http.errors import ParseException
from gunicorn.workers import base

from .balance import Balance
from .connections import Connection
from .exchanges import Exchange, Outgoing, arrived, plain_answer
from .heads import has_head, read_head
from .shares import Shares, Turns
from .threads import Threads

TICK = 0.02  # seconds
MAX_CONNECTIONS = 8192
TURNS = 4  # requests of one network that run at a time
CROWD = 64  # connections, or new ones in a second, from which on a worker queues requests before it answers them
RUSH_SECONDS = 1.0
LEAD = 1  # connections that a process may have more than the one with fewest, before it leaves new ones to others
SWITCH_SECONDS = 0.001  # the longest wait for the interpreter lock; Python's default of 5 ms delays events
BUFFER_BYTES = 64 * 1024 * 1024
KEEPS_UP = 0.1  # seconds that a thread waits for a slow reader of a file before it leaves the connection to the epoll
TURN_SECONDS = 1.0
PATIENCE_FOR_THREADS = 60.0  # seconds until a thread takes up a request whose turn it is
STOP_LINGER = 1.0  # seconds that a stopping worker waits for the next request of an idle connection
READ, WRITE = select.EPOLLIN | select.EPOLLONESHOT, select.EPOLLOUT | select.EPOLLONESHOT


class Worker(base.Worker):
    """Serves HTTP/1.1.

    ``waiting``: the connections in the epoll. A thread that removes one (to handle an event, or to close a slow one)
    owns the connection until it puts it back.
    ``resting``: the listeners that the epoll does not watch until the next tick; ``rested``: those of the last tick.
    """

    balance: ClassVar = Balance()  # of all processes that the arbiter forks

    def init_process(self) -> None:
        """Set up the forked process; calls ``run`` at the end."""
        sys.setswitchinterval(SWITCH_SECONDS)
        os.environ.pop("SCRIPT_NAME", None)  # gunicorn would cut it from paths, but KCR lives at the root of its host
        threads = self.cfg.threads
        self.epoll = select.epoll()
        self.listeners: dict[int, socket.socket] = {}
        self.resting: set[int] = set()
        self.rested: set[int] = set()
        self.connections: dict[int, Connection] = {}
        self.waiting: dict[int, Connection] = {}
        self.threads = Threads(self._next_event, self._handle, threads, close_old_connections)
        self.turns: Turns[Connection] = Turns(TURNS)
        self.in_turn: dict[Connection, tuple[str, float]] = {}  # network of the turn, and its start
        self.accepted, self.rush_ends = 0, 0.0  # connections in this second; end of a time with many of them
        self.transfers = Shares(threads - threads // 8, threads // 4)
        self.senders = Shares(threads // 2, threads // 8)
        self.buffers = Shares(BUFFER_BYTES, BUFFER_BYTES // 4)
        files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # A connection uses a socket and perhaps a file; a thread uses up to four files for its database.
        self.max_connections = max(threads, min(MAX_CONNECTIONS, (files - 4 * threads) // 2))
        super().init_process()

    def run(self) -> None:
        """Serve until the arbiter stops the worker; then finish open requests."""
        for listener in self.sockets:
            listener.setblocking(False)
            self.listeners[listener.fileno()] = listener
            self.epoll.register(listener.fileno(), select.EPOLLIN)
        self.threads.start()
        next_second = 0.0
        while self.alive:
            time.sleep(TICK)
            self.threads.watch()
            self._end_rests()
            if time.monotonic() >= next_second:
                next_second = time.monotonic() + 1
                self.accepted = 0
                self.notify()
                self.balance.note(self.age, len(self.connections))
                self._close_overdue()
                self._pass_turns_on()
                if self.ppid != os.getppid():  # the arbiter has died
                    break
        self._stop()

    def _stop(self) -> None:
        self.alive = False
        self.balance.leave(self.age)
        for number, listener in self.listeners.items():
            self.epoll.unregister(number)
            listener.close()
        began = time.monotonic()
        while self.connections and time.monotonic() - began < self.cfg.graceful_timeout:
            self.notify()
            self.threads.watch()
            self._close_overdue()
            self._pass_turns_on()
            if time.monotonic() - began > STOP_LINGER:
                self._close_idle()
            time.sleep(TICK)

    # ── Events ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def _next_event(self) -> int:
        """Wait for an event; return its file descriptor."""
        while True:
            for number, _ in self.epoll.poll(-1, 1):
                return number

    def _handle(self, number: int) -> None:
        """Handle an event of a connection or listener."""
        if number in self.listeners:
            connection = self._accept_all(self.listeners[number])
        else:
            connection = self.waiting.pop(number, None)
        if connection is not None:
            try:
                self._proceed(connection)
            except OSError:  # disconnected, too slow, or above its share
                self._close(connection)
            except Exception:
                self.log.exception("a connection failed")
                self._close(connection)

    def _proceed(self, connection: Connection) -> None:
        """Read from or write to a connection that is ready."""
        if connection.lingers:
            if connection.discard():
                self._wait(connection, READ)
            else:
                self._close(connection)
        elif connection.turn:
            self._answer_all(connection, 0)
        elif connection.is_sending:
            connection.has_waited()
            if not connection.send(0):
                connection.wait_to_send()
                self._wait(connection, WRITE)
            elif self._is_ready_for_more(connection):
                self._answer_all(connection, len(connection.head))
        else:
            data = connection.receive_now()
            if data == b"":
                self._close(connection)
            else:
                arrived(connection, data or b"")
                self._answer_all(connection, len(data or b""))

    def _answer_all(self, connection: Connection, new: int) -> None:
        """Answer all complete requests, then wait for more. ``new``: bytes at the end that are not parsed yet."""
        while True:
            try:
                if not self._has_arrived(connection, new):
                    return self._wait(connection, READ)
                if not self._has_turn(connection):
                    return None
                self._answer(connection)
            except ParseException as error:
                self.handle_error(None, Outgoing(connection), connection.peer, error)  # puts gunicorn's error response
                connection.closes = True
            self._end_turn(connection)
            if not self._deliver(connection):
                return None
            new = len(connection.head)

    def _has_arrived(self, connection: Connection, new: int) -> bool:
        """Whether a complete request has arrived. Raises what gunicorn's parser raises."""
        if connection.exchange is None:
            if not has_head(connection.head, new):
                return False
            connection.exchange = Exchange(
                connection,
                read_head(connection, self.cfg),
                self.cfg,
                give_way=partial(self._give_way, connection),
                transfers=self.transfers,
            )
        return connection.exchange.has_arrived

    def _has_turn(self, connection: Connection) -> bool:
        """Whether the request may run now; if not, ``_end_turn`` of another connection starts it later."""
        if connection.turn:
            return True
        if not self.turns.begin(connection.network, connection):
            return False
        self._begin_turn(connection, connection.network)
        if not self._is_crowded:
            return True
        self._wait_for_turn(connection)
        return False

    @property
    def _is_crowded(self) -> bool:
        """Whether many requests may have arrived before the next one that the epoll reports."""
        return len(self.connections) > CROWD or time.monotonic() < self.rush_ends

    def _wait_for_turn(self, connection: Connection) -> None:
        """Let the epoll report the connection after the events that are there already."""
        connection.deadline = time.monotonic() + PATIENCE_FOR_THREADS
        self._wait(connection, WRITE)

    def _begin_turn(self, connection: Connection, network: str) -> None:
        connection.turn = network
        self.in_turn[connection] = network, time.monotonic()

    def _give_way(self, connection: Connection) -> None:
        """Called before the thread waits for the client: pass on the turn and the lead."""
        self._end_turn(connection)
        self._step_aside()

    def _step_aside(self) -> None:
        """Let another thread lead, and return the database connection, which a leader may have kept."""
        self.threads.step_aside()
        close_old_connections()

    def _end_turn(self, connection: Connection) -> None:
        """End the turn of a connection. If it was not passed on before, pass it on."""
        self._pass_turn_on(connection)
        connection.turn = ""

    def _pass_turn_on(self, connection: Connection) -> None:
        """Give the turn to the next connection of the network; the epoll reports it after earlier events."""
        network, _since = self.in_turn.pop(connection, ("", 0.0))
        if network and (following := self.turns.end(network)):
            self._begin_turn(following, network)
            self._wait_for_turn(following)

    def _pass_turns_on(self) -> None:
        """Pass on turns older than TURN_SECONDS: such a request waits for a disk or a database."""
        now = time.monotonic()
        for connection, (_network, since) in list(self.in_turn.items()):
            if now - since > TURN_SECONDS:
                self._pass_turn_on(connection)

    def _answer(self, connection: Connection) -> None:
        exchange = connection.exchange
        assert exchange is not None
        try:
            exchange.run(self.wsgi, may_stay=self.alive)
        except OSError:
            raise
        except Exception:
            self.log.exception("the application failed")
            if not exchange.has_answered:
                connection.put(plain_answer("500 Internal Server Error"))
            connection.closes = True

    def _deliver(self, connection: Connection) -> bool:
        """Send the response. Return True if it is sent and the next request may come; else the epoll continues."""
        is_sent = connection.send(0)
        if not is_sent and connection.sends_file:
            with self.senders.taken(connection.network) as has_thread:
                if has_thread:
                    self._step_aside()
                    is_sent = connection.send(KEEPS_UP)
        if is_sent:
            return self._is_ready_for_more(connection)
        connection.wait_to_send()
        self._wait(connection, WRITE)
        return False

    def _is_ready_for_more(self, connection: Connection) -> bool:
        if connection.closes:
            connection.linger()
            self._wait(connection, READ)
            return False
        connection.next_request()
        return True

    # ── Connections ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _rests(self, number: int) -> bool:
        """Whether this process leaves new connections to one that has fewer. All are awake: the epoll wakes each.

        It leaves them until the next tick, for the other one may be busy.
        """
        if number in self.rested:
            self.rested.discard(number)
            return False
        if len(self.connections) <= self.balance.least() + LEAD:
            return False
        self.resting.add(number)
        self.epoll.modify(number, 0)
        return True

    def _end_rests(self) -> None:
        while self.resting:
            number = self.resting.pop()
            self.rested.add(number)
            self.epoll.modify(number, select.EPOLLIN)

    def _accept_all(self, listener: socket.socket) -> Connection | None:
        """Accept a connection and return it: its request has often arrived already.

        One at a time, so that the processes share new connections. Where many wait, each would be answered before the
        next is accepted, and those behind a crowd would wait for all of it: then accept this worker's part first.
        """
        if self._rests(listener.fileno()):
            return None
        backlog = _backlog(listener)
        for _ in range(backlog // self.cfg.workers if backlog > CROWD else 0):
            if connection := self._accept(listener):
                self._wait(connection, READ)
        return self._accept(listener)

    def _accept(self, listener: socket.socket) -> Connection | None:
        """Accept a connection; None if none waits or there is no room."""
        try:
            sock, peer = listener.accept()
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                self.log.error("no more files: a waiting connection is closed")
                self._make_room()
                time.sleep(TICK)
            return None
        self.accepted += 1
        if self.accepted > CROWD:
            self.rush_ends = time.monotonic() + RUSH_SECONDS
        connection = Connection(sock, peer, listener.getsockname(), self.buffers)
        if len(self.connections) >= self.max_connections and not self._make_room():
            connection.close()
            return None
        self.connections[connection.fd] = connection
        self.balance.note(self.age, len(self.connections))
        self.epoll.register(connection.fd, 0)
        return connection

    def _wait(self, connection: Connection, event: int) -> None:
        """Return the connection to the epoll. From now on another thread may close it."""
        self.waiting[connection.fd] = connection
        try:
            self.epoll.modify(connection.fd, event)
        except (OSError, ValueError):  # another thread has closed it
            self.waiting.pop(connection.fd, None)

    def _close(self, connection: Connection) -> None:
        if self.connections.pop(connection.fd, None) is connection:
            connection.close()
            self.balance.note(self.age, len(self.connections))
            self._end_turn(connection)

    def _take(self, connection: Connection) -> bool:
        """Remove a connection from ``waiting``; False if another thread owns it."""
        return self.waiting.pop(connection.fd, None) is connection

    def _close_overdue(self) -> None:
        """Close connections whose deadline has passed: slow heads and forms, idle ones, slow readers."""
        now = time.monotonic()
        for connection in list(self.waiting.values()):
            if connection.deadline < now and self._take(connection):
                self._give_up(connection)

    def _give_up(self, connection: Connection) -> None:
        try:
            if (connection.head or connection.exchange) and not connection.lingers:
                connection.put(plain_answer("408 Request Timeout"))
                connection.send(0)
        except OSError:
            pass
        self._close(connection)

    def _close_idle(self) -> None:
        for connection in list(self.waiting.values()):
            is_idle = not (connection.head or connection.exchange or connection.is_sending or connection.lingers)
            if is_idle and self._take(connection):
                self._close(connection)

    def _make_room(self) -> bool:
        """Close the connection with the earliest deadline of the network with the most connections."""
        crowd = Counter(connection.network for connection in list(self.connections.values()))
        for network, _ in crowd.most_common():
            waiting = [connection for connection in list(self.waiting.values()) if connection.network == network]
            for connection in sorted(waiting, key=lambda one: one.deadline):
                if self._take(connection):
                    self._close(connection)
                    return True
        return False


def _backlog(listener: socket.socket) -> int:
    """Number of connections that wait to be accepted (Linux; 0 where the kernel does not say)."""
    if listener.family == socket.AF_UNIX:
        return 0
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
    return int.from_bytes(info[24:28], sys.byteorder)  # struct tcp_info: tcpi_unacked
