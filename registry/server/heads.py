"""Heads of requests: a plain one is read here, any other one by gunicorn's parser, which also refuses (decision 048).

gunicorn's parser accepts each plain head and gives it the same meaning (``tests/registry/server/test_heads.py``).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from gunicorn.http import wsgi
from gunicorn.http.body import Body, LengthReader
from gunicorn.http.errors import LimitRequestHeaders, NoMoreData
from gunicorn.http.message import Request
from gunicorn.util import unquote_to_wsgi_str

if TYPE_CHECKING:
    from .connections import Connection

HEAD_BYTES = 64 * 1024
PLAIN_BYTES, PLAIN_FIELDS = 8000, 50  # less than gunicorn's limits of a line and of fields
MAX_DIGITS = 15  # of a Content-Length

_BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
_PATH = r"/(?!/)[!\"$->@-~]*"  # neither "?" nor "#"
_QUERY = r"[!\"$-~]*"
_NAME = r"[!#$%&'*+\-.^`|~0-9A-Za-z]+"  # without "_": gunicorn drops such fields
_VALUE = r"[\t -~\x80-\xff]*"
_PLAIN = re.compile(
    rf"(GET|HEAD|POST|PUT|PATCH|DELETE) (({_PATH})(?:\?({_QUERY}))?) HTTP/1\.1((?:\r\n{_NAME}:{_VALUE})+)"
)
_NOT_PLAIN = frozenset({"HTTP_TRANSFER_ENCODING", "HTTP_EXPECT"})


class PlainRequest:
    """A request of HTTP/1.1 with a plain head. ``environ``: the variables of WSGI, without wsgi.input.

    Has what ``Exchange`` and gunicorn's ``Response`` ask of gunicorn's ``Request``.
    """

    version = (1, 1)
    _expected_100_continue = False

    def __init__(self, environ: dict[str, Any], body: Body) -> None:
        self.method: str = environ["REQUEST_METHOD"]
        self.environ, self.body = environ, body

    def should_close(self) -> bool:
        """Whether the client asks for the end of the connection."""
        return bool(self.environ.get("HTTP_CONNECTION", "").lower() == "close")


def has_head(head: bytearray, new: int) -> bool:
    """Whether the head is complete, or invalid. Searches only the last ``new`` bytes.

    Raises LimitRequestHeaders if it is too long.
    """
    start = max(0, len(head) - new - 3)
    if head.find(b"\r\n\r\n", start) >= 0 or _BARE_LINE_FEED.search(head, start):
        return True
    if len(head) > HEAD_BYTES:
        raise LimitRequestHeaders("the head of the request is too long")
    return False


def read_head(connection: Connection, config: Any) -> PlainRequest | Request:
    """Parse the received head. Raises what gunicorn's parser raises."""
    connection.requests += 1
    if request := plain(connection, config):
        return request
    connection.stream.append(bytes(connection.head))
    connection.head.clear()
    try:
        return Request(config, connection.stream, connection.peer, connection.requests)
    except NoMoreData as error:
        raise LimitRequestHeaders("the head of the request has no end") from error


def plain(connection: Connection, config: Any) -> PlainRequest | None:
    """Take a plain head out of the received bytes; None, and take nothing, if the head is not plain.

    Not plain are, besides what gunicorn refuses: bodies without a length, fields that occur twice, Expect, names with
    "_", targets that are no path, other methods and versions, heads above PLAIN_BYTES, and local sockets.
    """
    head = connection.head
    end = head.find(b"\r\n\r\n", 0, PLAIN_BYTES)
    if end < 0 or not connection.addresses:
        return None
    match = _PLAIN.fullmatch(head[:end].decode("latin-1"))
    if match is None:
        return None
    method, target, path, query, fields = match.groups()
    environ = {
        **_constants(config),
        **connection.addresses,
        "REQUEST_METHOD": method,
        "RAW_URI": target,
        "PATH_INFO": unquote_to_wsgi_str(path) if "%" in path else path,
        "QUERY_STRING": query or "",
    }
    lines = fields.split("\r\n")
    expected = len(environ) + len(lines) - 1
    for line in lines[1:]:
        name, _, value = line.partition(":")
        environ[_variable(name)] = value.strip(" \t")
    length = environ.get("CONTENT_LENGTH", "0")
    is_number = len(length) <= MAX_DIGITS and length.isascii() and length.isdigit()
    is_plain = is_number and len(lines) <= PLAIN_FIELDS and _NOT_PLAIN.isdisjoint(environ)
    if not is_plain or len(environ) != expected:  # a name occurs twice
        return None
    if rest := head[end + 4 :]:
        connection.stream.append(bytes(rest))
    head.clear()
    return PlainRequest(environ, Body(LengthReader(connection.stream, int(length))))


@lru_cache(maxsize=256)
def _variable(name: str) -> str:
    """The variable of WSGI for the name of a field."""
    variable = name.upper().replace("-", "_")
    return variable if variable in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{variable}"


@lru_cache(maxsize=1)
def _constants(config: Any) -> dict[str, Any]:
    """The variables that all plain requests have."""
    return {
        **wsgi.base_environ(config),
        "wsgi.url_scheme": "http",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SCRIPT_NAME": "",
    }
