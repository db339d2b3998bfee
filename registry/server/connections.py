"""A connection: received bytes, bytes to send, and deadlines."""

from __future__ import annotations

import os
import select
import socket
import time
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from gunicorn.http.unreader import Unreader

from accounts.networks import network_of

if TYPE_CHECKING:
    from .exchanges import Exchange
    from .shares import Shares

PATIENCE = 30.0  # seconds: for a whole head or form; for the next LEAST_BYTES of a body; for the next request
LEAST_BYTES = 64 * 1024
RECEIVE_BYTES = 256 * 1024
CHUNK_HEAD_BYTES = 8 * 1024  # for the length of a chunk: gunicorn's parser copies what is behind it several times
UNSENT_BYTES = 512 * 1024
FILE_BYTES = 4 * 1024 * 1024  # of a file that one system call sends at most
MAX_PIECES = 16  # of an answer that one system call sends at most
LINGER_BYTES = 1024 * 1024
LINGER_SECONDS = 2.0


class TooSlow(OSError):
    """The client moved fewer than LEAST_BYTES while the server waited PATIENCE seconds for it."""


class BufferFull(OSError):
    """The client would make the server buffer more bytes than its share."""


class Pace:
    """Measures whether a client is fast enough. Counts only the time that the server waits for the client."""

    def __init__(self) -> None:
        self._waited, self._moved = 0.0, 0

    @property
    def seconds_left(self) -> float:
        """Seconds that the server will still wait for the client."""
        return PATIENCE - self._waited

    def waited(self, seconds: float) -> None:
        """Add seconds that the server has waited for the client."""
        self._waited += seconds

    def moved(self, size: int) -> None:
        """Add received or sent bytes; every LEAST_BYTES reset the wait."""
        self._moved += size
        if self._moved >= LEAST_BYTES:
            self._waited, self._moved = 0.0, 0


class FilePart(NamedTuple):
    """``size`` bytes from ``offset`` of an open file. The connection closes ``descriptor``."""

    descriptor: int
    offset: int
    size: int


class Stream(Unreader):
    """The input of gunicorn's parser: received bytes; it reads from the socket only if ``is_body`` is set."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self.is_body = False

    @property
    def buffered(self) -> int:
        """Number of received bytes that are not read yet."""
        return len(self.buf.getbuffer())

    def append(self, data: bytes) -> None:
        """Append received bytes."""
        self.buf.seek(0, os.SEEK_END)
        self.buf.write(data)

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Return the next bytes from the client; b"" at the end. Raises TooSlow."""
        if not self.is_body:
            return b""
        return self._connection.receive(min(size_hint or CHUNK_HEAD_BYTES, RECEIVE_BYTES))


class Connection:
    """A socket that never blocks, and its state. One thread at a time uses it.

    ``buffers``: the limit on bytes that the process buffers for clients.
    """

    def __init__(self, sock: socket.socket, peer: tuple[str, int], server: tuple[str, int], buffers: Shares) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # Limits the kernel's send buffer of a client that does not read; the default is megabytes.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        self.sock, self.fd, self.peer, self.server = sock, sock.fileno(), peer, server
        self.network = network_of(peer[0]) if peer else ""
        self.addresses = _addresses(peer, server) if isinstance(peer, tuple) and isinstance(server, tuple) else {}
        self.stream = Stream(self)
        self.head = bytearray()
        self.exchange: Exchange | None = None  # its head has been read; its body may still be arriving
        self.requests = 0
        self.turn = ""  # the network whose turn this connection has
        self.closes = False  # close after all bytes are sent
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
        """Return received bytes without waiting: None if there are none, b"" if the client has closed its side."""
        try:
            return self.sock.recv(RECEIVE_BYTES if self.lingers else LEAST_BYTES)
        except BlockingIOError:
            return None

    def receive(self, size: int) -> bytes:
        """Return up to ``size`` bytes of a body; b"" if the client has closed its side. Raises TooSlow."""
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
        """Set the number of buffered bytes of this connection. Raises BufferFull."""
        more = size - self._kept
        if more > 0 and not self._buffers.take(self.network, more):
            raise BufferFull("too many bytes wait for this client")
        if more < 0:
            self._buffers.give_back(self.network, -more)
        self._kept = size

    def discard(self) -> bool:
        """Read and drop bytes of a closing client; return False when the connection is to be closed."""
        data = self.receive_now()
        self._lingered += len(data or b"")
        return data is None or (bool(data) and self._lingered < LINGER_BYTES)

    # ── Sending ──────────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def is_sending(self) -> bool:
        """Whether bytes are still to be sent."""
        return bool(self._out) or self._file is not None

    @property
    def sends_file(self) -> bool:
        """Whether bytes of a file are still to be sent."""
        return self._file is not None

    def put(self, data: bytes) -> None:
        """Append bytes to send."""
        if data:
            self._out.append(memoryview(data))

    def put_file(self, part: FilePart) -> None:
        """Send part of a file after the other bytes, then close its descriptor."""
        self._file = part

    def send(self, patience: float) -> bool:
        """Send; wait up to ``patience`` seconds each time that the socket is full.

        Return whether all bytes are sent. Raises OSError if the client has disconnected or a file was truncated.
        """
        while self.is_sending:
            try:
                self.pace.moved(self._send_once())
            except BlockingIOError:
                if not patience or not self._await(select.POLLOUT, min(patience, self.pace.seconds_left)):
                    return False
        return True

    def send_all(self) -> None:
        """Send all bytes, waiting for the client. Raises TooSlow."""
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
        """Count the wait after the epoll reports that the socket is writable."""
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
        """Prepare for the next request, which begins with the bytes that are already received."""
        self.head[:] = self.stream.take_buffered()
        self.stream.is_body = False
        self.pace, self.deadline = Pace(), time.monotonic() + PATIENCE
        self.keep(len(self.head))

    def linger(self) -> None:
        """Shut down the sending side, and drop what the client sends for up to LINGER_SECONDS before the close.

        An immediate close would make the kernel reset the connection, and the client might lose the response.
        """
        self.lingers, self.deadline = True, time.monotonic() + LINGER_SECONDS
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the socket and the file, and release the buffers."""
        self._close_file()
        self._out.clear()
        self.keep(0)
        self.sock.close()

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file.descriptor)
            self._file = None


def _addresses(peer: tuple[Any, ...], server: tuple[Any, ...]) -> dict[str, str]:
    """The variables of WSGI for both ends of a connection."""
    return {
        "REMOTE_ADDR": peer[0],
        "REMOTE_PORT": str(peer[1]),
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1]),
    }
