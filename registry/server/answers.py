"""The response of one request, from what the application says to bytes (WSGI, PEP 3333; RFC 9112, section 6)."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gunicorn.util import http_date

if TYPE_CHECKING:
    from collections.abc import Callable

    from gunicorn.http.message import Request

    from .heads import PlainRequest

_STATUS = re.compile(r"[1-5][0-9]{2} [\t -~]*")
_NAME = re.compile(r"[!#$%&'*+\-.^`|~_0-9A-Za-z]+")
_VALUES = re.compile(r"[\t -~\x80-\xff]*")  # no line feed: it would begin another field, or another response
_OF_CONNECTION = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailers",
        "transfer-encoding",
        "upgrade",
    }
)
_BODILESS = frozenset({204, 304})


class Answer:
    """The response to ``request``. ``put`` takes its bytes; the head goes with the first of the body, or ``close``.

    ``length``: the Content-Length that the application gave; None without one, or where there is no body.
    ``has_begun``: whether the head was put.
    """

    def __init__(self, request: PlainRequest | Request, put: Callable[[bytes], None]) -> None:
        self._request, self._put = request, put
        self._head = ""  # the status and the fields of the application
        self._is_last = self._is_chunked = False
        self._sent = 0
        self.length: int | None = None
        self.has_body = True
        self.has_begun = False

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Callable[[bytes], None]:
        """See PEP 3333. Raises ValueError for a status, name or value that HTTP does not allow."""
        if exc_info is not None and self.has_begun:
            raise exc_info[1]
        if self._head and exc_info is None:
            raise AssertionError("start_response was called twice")
        if not _STATUS.fullmatch(status) or not _VALUES.fullmatch("".join([value for _, value in headers])):
            raise ValueError("a status or a field of the response is not valid")
        code, self.length = int(status[:3]), None
        fields = [f"HTTP/1.1 {status}\r\n"]
        for name, value in headers:
            kind = _kind(name)
            if kind == "content-length":
                if code == 204:
                    continue  # RFC 9110, section 8.6
                self.length = int(value)
            if kind:
                fields.append(f"{name}: {value}\r\n")
        self.has_body = code not in _BODILESS and self._request.method != "HEAD"
        self._is_chunked = self.has_body and self.length is None and self._request.version >= (1, 1)
        self._head = "".join(fields)
        return self.write

    def end_connection(self) -> None:
        """Make this the last response of its connection. Called before the head is put."""
        self._is_last = True

    @property
    def ends_connection(self) -> bool:
        """Whether the connection ends behind this response, which was put."""
        return self._is_last or (self.has_body and self.length is not None and self._sent < self.length)

    def begin(self, body: bytes = b"") -> None:
        """Put the head, if it was not put, and bytes of the body behind it."""
        if not self.has_begun:
            body = self._whole_head() + body
            self.has_begun = True
        self._put(body)

    def _whole_head(self) -> bytes:
        if not self._head:
            raise AssertionError("start_response was not called")
        has_end = self.length is not None or self._is_chunked or not self.has_body
        self._is_last = self._is_last or not has_end or self._request.should_close()
        connection = "close" if self._is_last else "keep-alive"
        coding = "Transfer-Encoding: chunked\r\n" if self._is_chunked else ""
        of_server = f"Date: {_date(int(time.time()))}\r\nConnection: {connection}\r\n{coding}\r\n"
        return f"{self._head}{of_server}".encode("latin-1")

    def write(self, data: bytes) -> None:
        """Put bytes of the body, at most as many as Content-Length says."""
        if self.length is not None and len(data) > (left := self.length - self._sent):
            data = data[:left]
        if not self.has_body:
            data = b""
        self._sent += len(data)
        self.begin(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked and data else data)

    def begin_file(self, size: int) -> None:
        """Put the head of a response whose body, ``size`` bytes, the caller sends."""
        self.begin()
        self._sent = size

    def close(self) -> None:
        """End the response."""
        self.begin(b"0\r\n\r\n" if self._is_chunked else b"")


@lru_cache(maxsize=256)
def _kind(name: str) -> str:
    """The name of a field in small letters; "" for one of the connection, which is the server's own.

    Raises ValueError.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("a name of a field of the response is not valid")
    kind = name.lower()
    return "" if kind in _OF_CONNECTION else kind


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """The Date of a response (RFC 9110, section 6.6.1)."""
    return str(http_date(second))
