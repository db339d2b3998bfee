"""One client's connection: what it has sent so far, what it still has to be sent, and how long it may take."""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from gunicorn.http.unreader import Unreader

from accounts.networks import network_of

if TYPE_CHECKING:
    from .exchanges import Exchange
    from .shares import Shares

PATIENCE = 30.0  # seconds: for a whole head or form; for the next LEAST_BYTES of a body; for the next request
LEAST_BYTES = 64 * 1024
RECEIVE_BYTES = 256 * 1024
UNSENT_BYTES = 512 * 1024
FILE_BYTES = 4 * 1024 * 1024  # of a file that one system call sends at most
MAX_PIECES = 16  # of an answer that one system call sends at most
LINGER_BYTES = 1024 * 1024
LINGER_SECONDS = 2.0


class TooSlow(OSError):
    """The client moved fewer than LEAST_BYTES while the server waited PATIENCE seconds for it."""


class BufferFull(OSError):
    """The client makes the server keep more bytes for it in memory than its share."""


class Pace:
    """Whether a client keeps up. Only the time counts in which the server waits for the client."""

    def __init__(self) -> None:
        self._waited, self._moved = 0.0, 0

    @property
    def seconds_left(self) -> float:
        """How much longer the client may keep the server waiting."""
        return PATIENCE - self._waited

    def waited(self, seconds: float) -> None:
        """The server has waited for the client."""
        self._waited += seconds

    def moved(self, size: int) -> None:
        """Bytes have been received or sent."""
        self._moved += size
        if self._moved >= LEAST_BYTES:
            self._waited, self._moved = 0.0, 0


class FilePart(NamedTuple):
    """``size`` bytes from ``offset`` of an open file; ``descriptor`` is the connection's own."""

    descriptor: int
    offset: int
    size: int


class Stream(Unreader):
    """What gunicorn's parser reads: the bytes that have arrived; the socket only once ``is_body`` is set."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self.is_body = False

    @property
    def buffered(self) -> int:
        """Bytes that have arrived and are not read yet."""
        return len(self.buf.getbuffer())

    def append(self, data: bytes) -> None:
        """Add bytes that have arrived."""
        self.buf.seek(0, os.SEEK_END)
        self.buf.write(data)

    def chunk(self, size_hint: int | None = None) -> bytes:
        """The next bytes from the client; b"" at the end. Raises TooSlow."""
        if not self.is_body:
            return b""
        return self._connection.receive(min(size_hint or RECEIVE_BYTES, RECEIVE_BYTES))


class Connection:
    """A socket that never blocks, and its state. One thread at a time uses it.

    ``buffers`` are the bytes that the process keeps in memory for clients.
    """

    def __init__(self, sock: socket.socket, peer: tuple[str, int], server: tuple[str, int], buffers: Shares) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # A client that reads nothing makes the kernel keep this much for it, not megabytes.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self.sock, self.fd, self.peer, self.server = sock, sock.fileno(), peer, server
        self.network = network_of(peer[0]) if peer else ""
        self.stream = Stream(self)
        self.head = bytearray()
        self.exchange: Exchange | None = None  # its head has been read; its body may still be arriving
        self.requests = 0
        self.turn = ""  # the network whose turn this connection has
        self.closes = False  # after what is being sent
        self.lingers = False
        self.deadline = time.monotonic() + PATIENCE
        self._buffers, self._kept = buffers, 0
        self._out: deque[memoryview] = deque()
        self._file: FilePart | None = None
        self.pace = Pace()
        self._since = 0.0  # when the epoll began to wait for this client to read
        self._lingered = 0

    # ── Receiving ────────────────────────────────────────────────────────────────────────────────────────────────────
    def receive_now(self) -> bytes | None:
        """What has arrived, without waiting: None when nothing has, b"" when the client has ended its side."""
        try:
            return self.sock.recv(RECEIVE_BYTES if self.lingers else LEAST_BYTES)
        except BlockingIOError:
            return None

    def receive(self, size: int) -> bytes:
        """Up to ``size`` bytes of a body; b"" when the client has ended its side. Raises TooSlow."""
        while True:
            try:
                data = self.sock.recv(size)
            except BlockingIOError:
                if not self._await(select.POLLIN, self.pace.seconds_left):
                    raise TooSlow("the client sends too slowly") from None
            else:
                self.pace.moved(len(data))
                return data

    def keep(self, size: int) -> None:
        """Account for ``size`` bytes in memory, in place of those accounted for before. Raises BufferFull."""
        more = size - self._kept
        if more > 0 and not self._buffers.take(self.network, more):
            raise BufferFull("too many bytes wait for this client")
        if more < 0:
            self._buffers.give_back(self.network, -more)
        self._kept = size

    def discard(self) -> bool:
        """Read and forget what a closing client still sends; False when it is time to close."""
        data = self.receive_now()
        self._lingered += len(data or b"")
        return data is None or (bool(data) and self._lingered < LINGER_BYTES)

    # ── Sending ──────────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def is_sending(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._out) or self._file is not None

    @property
    def sends_file(self) -> bool:
        """Whether what is still to be sent comes from a file."""
        return self._file is not None

    def put(self, data: bytes) -> None:
        """Append to what is to be sent."""
        if data:
            self._out.append(memoryview(data))

    def put_file(self, part: FilePart) -> None:
        """Send this after the rest; the descriptor is closed in the end."""
        self._file = part

    def send(self, patience: float) -> bool:
        """Send what there is, waiting up to ``patience`` seconds each time that the client does not read.

        Returns whether all has been sent. Raises OSError when the client has gone, or a file is shorter than it was.
        """
        while self.is_sending:
            try:
                self.pace.moved(self._send_once())
            except BlockingIOError:
                if not patience or not self._await(select.POLLOUT, min(patience, self.pace.seconds_left)):
                    return False
        return True

    def send_all(self) -> None:
        """Send what there is, at the pace of the client. Raises TooSlow."""
        while not self.send(self.pace.seconds_left):
            if self.pace.seconds_left <= 0:
                raise TooSlow("the client reads too slowly")

    def _send_once(self) -> int:
        if self._out:
            return self._send_out()
        assert self._file is not None
        descriptor, offset, size = self._file
        sent = os.sendfile(self.fd, descriptor, offset, min(size, FILE_BYTES))
        if not sent:
            raise ConnectionAbortedError("a file is shorter than it was")
        self._file = FilePart(descriptor, offset + sent, size - sent)
        if sent == size:
            self._close_file()
        return sent

    def _send_out(self) -> int:
        follows = self._file is not None or len(self._out) > MAX_PIECES
        sent = left = self.sock.sendmsg(islice(self._out, MAX_PIECES), (), socket.MSG_MORE if follows else 0)
        while left:
            piece = self._out.popleft()
            if left < len(piece):
                self._out.appendleft(piece[left:])
            left -= min(left, len(piece))
        return sent

    def wait_to_send(self) -> None:
        """Prepare for the epoll to wait until the client reads. Raises BufferFull."""
        self._since = time.monotonic()
        self.deadline = self._since + self.pace.seconds_left
        self.keep(sum(map(len, self._out)))

    def has_waited(self) -> None:
        """The epoll says that the client reads again."""
        self.pace.waited(time.monotonic() - self._since)

    # ── Both ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _await(self, event: int, seconds: float) -> bool:
        """Wait for the socket; False when it is not ready in time."""
        if seconds <= 0:
            return False
        began = time.monotonic()
        waiting = select.poll()
        waiting.register(self.fd, event)
        is_ready = bool(waiting.poll(seconds * 1000))
        self.pace.waited(time.monotonic() - began)
        return is_ready

    def next_request(self) -> None:
        """The answer has been sent: what has arrived already is the beginning of the next request."""
        self.head[:] = self.stream.take_buffered()
        self.stream.is_body = False
        self.pace, self.deadline = Pace(), time.monotonic() + PATIENCE
        self.keep(len(self.head))

    def linger(self) -> None:
        """Say that nothing more will be sent. What the client still sends is read for a moment, then it is closed.

        Closing at once would make the kernel reset the connection, and the client might lose the answer.
        """
        self.lingers, self.deadline = True, time.monotonic() + LINGER_SECONDS
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket, and give back what is held for the client."""
        self._close_file()
        self._out.clear()
        self.keep(0)
        self.sock.close()

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file.descriptor)
            self._file = None
