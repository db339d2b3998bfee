"""One request and its answer: from the bytes that have arrived to those that are to be sent (WSGI, PEP 3333)."""

from __future__ import annotations

import io
import os
import re
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from gunicorn.http import wsgi
from gunicorn.http.body import LengthReader
from gunicorn.http.errors import LimitRequestHeaders, NoMoreData
from gunicorn.http.message import Request

from . import clients, connections
from .connections import LEAST_BYTES, FilePart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .connections import Connection
    from .shares import Shares

    Application = Callable[[dict[str, Any], Any], Iterable[bytes]]

HEAD_BYTES = 64 * 1024
FORM_BYTES = 64 * 1024  # a body up to this length is gathered before a thread is given to the request
_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_TOO_MANY = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"too many requests at once: wait a little","detail":{}}]}'


def arrived(connection: Connection, data: bytes) -> None:
    """Add bytes of a request that is still arriving. Raises BufferFull."""
    if connection.request is not None:
        connection.stream.append(data)
        connection.keep(connection.stream.buffered)
        return
    if not connection.head:
        connection.deadline = time.monotonic() + connections.PATIENCE  # for the whole head, and for the whole form behind it
    connection.head += data
    connection.keep(len(connection.head))


def is_complete(connection: Connection, config: Any, new: int) -> bool:
    """Whether a thread can answer the request without waiting: its head is here, and its body when that is short.

    Only the last ``new`` bytes of the head are searched. Raises what gunicorn's parser raises.
    """
    if connection.request is None:
        if not _has_head(connection.head, new):
            return False
        connection.stream.append(bytes(connection.head))
        connection.head.clear()
        connection.requests += 1
        try:
            connection.request = Request(config, connection.stream, connection.peer, connection.requests)
        except NoMoreData as error:
            raise LimitRequestHeaders("the head of the request has no end") from error
    return _has_form(connection.request, connection.stream.buffered)


def _has_head(head: bytearray, new: int) -> bool:
    """Whether the parser can read the head, or will refuse it: it is complete, too long, or has a bare line feed."""
    start = max(0, len(head) - new - 3)
    if head.find(b"\r\n\r\n", start) >= 0 or _BARE_LINE_FEED.search(head, start):
        return True
    if len(head) > HEAD_BYTES:
        raise LimitRequestHeaders("the head of the request is too long")
    return False


def _has_form(request: Request, buffered: int) -> bool:
    """Whether a body of a short, known length is here. A client that expects 100 Continue waits for it: do not."""
    reader = request.body.reader
    is_short = isinstance(reader, LengthReader) and reader.length <= FORM_BYTES
    return not is_short or request._expected_100_continue or buffered >= reader.length


class Body:
    """``wsgi.input``. Before the first byte is read from the socket, ``begin`` is called."""

    def __init__(self, body: Any, begin: Callable[[], None]) -> None:
        self._body, self._begin = body, begin

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, all of them when it is negative. Raises TooSlow, gunicorn's errors of a cut body."""
        self._begin()
        data: bytes = self._body.read(size)
        return data

    def readline(self, size: int = -1) -> bytes:
        """The next line."""
        self._begin()
        line: bytes = self._body.readline(size)
        return line

    def readlines(self, hint: int = -1) -> list[bytes]:
        """All lines."""
        self._begin()
        lines: list[bytes] = self._body.readlines(hint)
        return lines

    def __iter__(self) -> Iterator[bytes]:
        while line := self.readline():
            yield line


class _Outgoing:
    """The socket that gunicorn's Response writes to: it never waits."""

    def __init__(self, connection: Connection) -> None:
        self.sendall = self.send = connection.put

    def gettimeout(self) -> float:
        """That of a socket that does not block."""
        return 0.0


class Exchange:
    """Answers ``connection.request``. What is to be sent is put into the connection; a stream is sent by itself.

    ``step_aside`` is called before the thread waits for the client; ``requests`` and ``transfers`` are the threads
    that one client may hold, for any request and for a long body.
    """

    def __init__(
        self,
        connection: Connection,
        config: Any,
        *,
        step_aside: Callable[[], None],
        requests: Shares,
        transfers: Shares,
    ) -> None:
        assert connection.request is not None
        self._connection, self._request = connection, connection.request
        self._step_aside, self._requests, self._transfers = step_aside, requests, transfers
        self._expects_continue = self._request._expected_100_continue
        self._request._expected_100_continue = False
        self._has_begun = False
        outgoing = _Outgoing(connection)
        self._response, self.environ = wsgi.create(self._request, outgoing, connection.peer, connection.server, config)
        self.environ["wsgi.multithread"] = True
        self.environ["wsgi.input"] = Body(self._request.body, self._begin_body)
        connection.keep(0)  # what has arrived belongs to the application now
        connection.network = clients.network_of(clients.address_of(self.environ))

    def run(self, application: Application, *, may_stay: bool) -> None:
        """Let the application answer. The connection is closed afterwards unless it ``may_stay``."""
        client = self._connection.network
        self._connection.request = None
        with ExitStack() as held:
            shares = [self._requests, self._transfers] if self._is_long else [self._requests]
            if all(held.enter_context(share.taken(client)) for share in shares):
                self._call(application, may_stay=may_stay)
            else:
                self._refuse()

    @property
    def has_answered(self) -> bool:
        """Whether the answer has begun."""
        return bool(self._response.headers_sent)

    @property
    def _is_long(self) -> bool:
        """Whether some of the body is still to come."""
        reader = self._request.body.reader
        return not isinstance(reader, LengthReader) or reader.length > self._connection.stream.buffered

    def _call(self, application: Application, *, may_stay: bool) -> None:
        response = self._response
        result = application(self.environ, response.start_response)
        try:
            if not may_stay or not self._body_has_been_read():
                response.force_close()
            self._put(result)
        finally:
            if hasattr(result, "close"):
                result.close()
        self._connection.closes = self._connection.closes or response.should_close()

    def _begin_body(self) -> None:
        if self._has_begun:
            return
        self._has_begun = True
        if self._expects_continue:
            self._connection.put(_CONTINUE)
            self._connection.send_all()
        if self._is_long:
            self._step_aside()
        self._connection.stream.is_body = True

    def _body_has_been_read(self) -> bool:
        """Whether the next request begins where the application stopped reading, or after bytes that are here."""
        body, stream = self._request.body, self._connection.stream
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
                self._response.write(piece)
            self._response.close()

    def _put_file(self, result: Any) -> bool:
        """Whether the answer is a file of known length: the kernel sends it, and no thread waits for slow readers."""
        response = self._response
        if not isinstance(result, wsgi.FileWrapper) or response.response_length is None:
            return False
        try:
            number = result.filelike.fileno()
        except (AttributeError, io.UnsupportedOperation):
            return False
        if self._request.method == "HEAD" or response.status_code in {204, 304}:
            response.send_headers()
            return True
        size, offset = response.response_length, os.lseek(number, 0, os.SEEK_CUR)
        if size <= LEAST_BYTES:
            response.write(os.pread(number, size, offset))
            return True
        part = FilePart(os.dup(number), offset, size)
        response.send_headers()
        self._connection.put_file(part)
        return True

    def _stream(self, result: Iterable[bytes]) -> None:
        """Send pieces as the application makes them; the thread waits for the client, which costs it a transfer."""
        with self._transfers.taken(self._connection.network) as has_transfer:
            if not has_transfer:
                self._refuse()
                return
            self._step_aside()
            for piece in result:
                self._response.write(piece)
                self._connection.send_all()
            self._response.close()

    def _refuse(self) -> None:
        """429: the client holds its share of the threads already."""
        self._connection.put(plain_answer("429 Too Many Requests", _TOO_MANY, "application/json", "Retry-After: 5\r\n"))
        self._connection.closes = True


def plain_answer(status: str, content: bytes, media_type: str = "text/plain", more: str = "") -> bytes:
    """An answer that the server gives by itself, after which it closes the connection."""
    return (
        f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: {media_type}\r\n{more}"
        f"Content-Length: {len(content)}\r\n\r\n"
    ).encode() + content
