"""One request and its response, between received bytes and bytes to send (WSGI, PEP 3333)."""

from __future__ import annotations

import io
import os
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from gunicorn.http import wsgi
from gunicorn.http.body import LengthReader

from accounts.networks import network_of

from . import clients, connections
from .answers import Answer
from .connections import LEAST_BYTES, FilePart
from .heads import PlainRequest
from .shares import NoShare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from gunicorn.http.message import Request

    from .connections import Connection, Stream
    from .shares import Shares

    Application = Callable[[dict[str, Any], Any], Iterable[bytes]]

FORM_BYTES = 64 * 1024  # the epoll buffers a body up to this length before a thread runs the request
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def arrived(connection: Connection, data: bytes) -> None:
    """Add bytes of a request that is still arriving. Raises BufferFull."""
    if connection.exchange is not None:
        connection.stream.append(data)
        connection.keep(connection.stream.buffered)
        return
    if not connection.head:
        connection.deadline = time.monotonic() + connections.PATIENCE  # for the whole head, and a form behind it
    connection.head += data
    connection.keep(len(connection.head))


class Body:
    """``wsgi.input``. Before the first byte is read from the socket, ``begin`` is called."""

    def __init__(self, body: Any, stream: Stream, begin: Callable[[], None]) -> None:
        self._body, self._stream, self._begin = body, stream, begin

    def read1(self, size: int = -1) -> bytes:
        """Return bytes as they arrive, at most ``size`` of a body with a length; b"" at the end. Raises as ``read``.

        gunicorn's ``read`` gathers ``size`` bytes, and copies each byte up to seven times. An application calls one of
        both.
        """
        self._begin()
        try:
            return self._next(size)
        except Exception:
            self._body.failed = True
            raise

    def _next(self, size: int) -> bytes:
        reader = self._body.reader
        if not isinstance(reader, LengthReader):  # gunicorn's, of chunked coding
            return b"" if reader.parser is None else self._next_of_chunk(reader)
        size = reader.length if size < 0 else min(size, reader.length)
        if not size:
            return b""
        buffered = self._stream.buffered
        data: bytes = self._stream.read(min(size, buffered)) if buffered else self._stream.chunk(size)
        reader.length -= len(data)
        return data

    @staticmethod
    def _next_of_chunk(reader: Any) -> bytes:
        pieces, size = [], 0
        for data in reader.parser:
            pieces.append(data)
            size += len(data)
            if size >= LEAST_BYTES:
                break
        else:
            reader.parser = None
        return b"".join(pieces)

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes; all if negative. Raises TooSlow, and gunicorn's errors for a cut body."""
        self._begin()
        data: bytes = self._body.read(size)
        return data

    def readline(self, size: int = -1) -> bytes:
        """Return the next line."""
        self._begin()
        line: bytes = self._body.readline(size)
        return line

    def readlines(self, hint: int = -1) -> list[bytes]:
        """Return all lines."""
        self._begin()
        lines: list[bytes] = self._body.readlines(hint)
        return lines

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line


class Outgoing:
    """The socket that gunicorn writes its responses to bad requests to. It buffers, and never waits."""

    def __init__(self, connection: Connection) -> None:
        self.sendall = self.send = connection.put

    def gettimeout(self) -> float:
        """The timeout of a non-blocking socket."""
        return 0.0


class Exchange:
    """Answers a request whose head has been read.

    Puts the response into the connection; sends a stream directly. Calls ``give_way`` before the thread waits for the
    client. ``transfers``: the limit on threads that wait for clients (long bodies and streams).
    """

    def __init__(
        self,
        connection: Connection,
        request: PlainRequest | Request,
        config: Any,
        *,
        give_way: Callable[[], None],
        transfers: Shares,
    ) -> None:
        self._connection, self._request, self._body = connection, request, request.body
        self._give_way, self._transfers = give_way, transfers
        self._expects_continue = request._expected_100_continue
        request._expected_100_continue = False  # sent when the application reads the body
        self._has_begun = False
        self._held = ExitStack()
        self._answer = Answer(request, connection.put)
        if isinstance(request, PlainRequest):
            self._variables = request.environ
        else:
            outgoing = Outgoing(connection)
            _, self._variables = wsgi.create(request, outgoing, connection.peer, connection.server, config)
        self._variables["wsgi.multithread"] = True
        self._variables["wsgi.input"] = Body(self._body, connection.stream, self._begin_body)
        connection.keep(0)
        connection.network = network_of(clients.address_of(self._variables))
        connection.keep(connection.stream.buffered)

    @property
    def is_long(self) -> bool:
        """Whether a thread must wait for the body: not all received, and above FORM_BYTES or of unknown length."""
        reader = self._body.reader
        if not isinstance(reader, LengthReader):
            return True
        is_here = reader.length <= self._connection.stream.buffered
        return not is_here and (reader.length > FORM_BYTES or self._expects_continue)

    @property
    def has_arrived(self) -> bool:
        """Whether a thread can run the request: the body is received, or too long to buffer."""
        return self.is_long or self._body.reader.length <= self._connection.stream.buffered

    def run(self, application: Application, *, may_stay: bool) -> None:
        """Run the application. Without ``may_stay``, close the connection afterwards."""
        self._connection.exchange = None
        self._connection.keep(0)  # the received bytes now belong to the application
        with self._held:
            self._call(application, may_stay=may_stay)

    @property
    def has_answered(self) -> bool:
        """Whether the answer has begun."""
        return self._answer.has_begun

    def _call(self, application: Application, *, may_stay: bool) -> None:
        result = application(self._variables, self._answer.start_response)
        try:
            if not may_stay or not self._body_has_been_read():
                self._answer.end_connection()
            self._put(result)
        finally:
            if hasattr(result, "close"):
                result.close()
        self._connection.closes = self._connection.closes or self._answer.ends_connection

    def _begin_body(self) -> None:
        if self._has_begun:
            return
        if self.is_long:
            self._take_transfer()
        if self._expects_continue:
            self._connection.put(_CONTINUE)
            self._connection.send_all()
        self._connection.stream.is_body = self._has_begun = True

    def _take_transfer(self) -> None:
        """Take a transfer before the thread waits for the client. Raises NoShare if the client has too many."""
        if not self._held.enter_context(self._transfers.taken(self._connection.network)):
            raise NoShare("too many transfers at once")
        self._give_way()

    def _body_has_been_read(self) -> bool:
        """Whether the next request begins where the application stopped reading, or after bytes that are here."""
        body, stream = self._body, self._connection.stream
        if body.failed:
            return False
        if not isinstance(body.reader, LengthReader):
            return body.reader.parser is None
        if body.reader.length > stream.buffered:
            return False
        stream.read(body.reader.length)
        return True

    # ── The answer ───────────────────────────────────────────────────────────────────────────────────────────────────
    def _put(self, result: Any) -> None:
        if self._put_file(result):
            return
        if getattr(result, "streaming", False) or isinstance(result, wsgi.FileWrapper):
            self._stream(result)
        else:
            for piece in result:
                self._answer.write(piece)
            self._answer.close()

    def _put_file(self, result: Any) -> bool:
        """Whether the response is a file of known length: sendfile() sends it, and no thread waits for slow clients."""
        answer = self._answer
        if not isinstance(result, wsgi.FileWrapper) or answer.length is None:
            return False
        try:
            number = result.filelike.fileno()
        except (AttributeError, io.UnsupportedOperation):
            return False
        if not answer.has_body:
            answer.begin()
            return True
        size, offset = answer.length, os.lseek(number, 0, os.SEEK_CUR)
        if size <= LEAST_BYTES:
            data = os.pread(number, size, offset)
            if len(data) < size:
                raise ConnectionAbortedError("a file is shorter than it was")
            answer.write(data)
            return True
        part = FilePart(os.dup(number), offset, size)
        answer.begin_file(size)
        self._connection.put_file(part)
        return True

    def _stream(self, result: Iterable[bytes]) -> None:
        """Send a streaming response. The thread waits for the client, so the client needs a transfer."""
        try:
            self._take_transfer()
        except NoShare:
            self._connection.put(plain_answer("429 Too Many Requests", "Retry-After: 5\r\n"))
            self._connection.closes = True
            return
        for piece in result:
            self._answer.write(piece)
            del piece  # else it stays in memory while the next one is read
            self._connection.send_all()
        self._answer.close()


def plain_answer(status: str, headers: str = "") -> bytes:
    """Return a response of the server itself, with Connection: close."""
    head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain\r\n{headers}"
    return f"{head}Content-Length: {len(status) + 1}\r\n\r\n{status}\n".encode()
