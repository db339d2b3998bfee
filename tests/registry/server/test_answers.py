"""A response as bytes: what gunicorn's own class would send, and nothing that a header smuggles in."""

from __future__ import annotations

import io
from http.client import HTTPResponse
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from hypothesis import example, given
from hypothesis import strategies as st

from registry.server import answers
from registry.server.answers import Answer

ONE, CRLF = [("Content-Type", "text/plain")], "a\r\nSet-Cookie: stolen=1"


class Asked:
    """What a response depends on of its request."""

    def __init__(self, method: str, version: tuple[int, int], *, closes: bool) -> None:
        self.method, self.version, self._closes = method, version, closes

    def should_close(self) -> bool:
        return self._closes


class Sink:
    """The socket that gunicorn's class writes to."""

    def __init__(self) -> None:
        self.sent = bytearray()

    def sendall(self, data: bytes) -> None:
        self.sent += data


def of_ours(asked: Asked, status: str, headers: list[tuple[str, str]], pieces: list[bytes]) -> tuple[bytes, bool]:
    sink = Sink()
    answer = Answer(asked, sink.sendall)  # type: ignore[arg-type]
    answer.start_response(status, headers)
    for piece in pieces:
        answer.write(piece)
    answer.close()
    return bytes(sink.sent), answer.ends_connection


def of_gunicorn(asked: Asked, status: str, headers: list[tuple[str, str]], pieces: list[bytes]) -> tuple[bytes, bool]:
    sink = Sink()
    response = wsgi.Response(asked, sink, Config())
    response.start_response(status, headers)
    for piece in pieces:
        response.write(piece)
    response.close()
    return bytes(sink.sent), response.should_close()


class Received:
    """Bytes for http.client."""

    def __init__(self, data: bytes) -> None:
        self.file = Kept(data)

    def makefile(self, _mode: str) -> Kept:
        return self.file


class Kept(io.BytesIO):
    """Stays open, so that one can see what a client left."""

    def close(self) -> None:
        pass


def understood(data: bytes, method: str) -> tuple[Any, ...]:
    """Status, fields and body, as a client reads them, and what is left of the bytes."""
    received = Received(data)
    response = HTTPResponse(received, method=method)  # type: ignore[arg-type]
    response.begin()
    fields = sorted((name.lower(), value) for name, value in response.getheaders() if name not in {"Server", "Date"})
    body = response.read()
    return response.status, response.reason, fields, body, received.file.read()


names = st.sampled_from(["Content-Type", "ETag", "X-Request-Id", "connection", "Keep-Alive", "Transfer-Encoding"])
values = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20).filter(
    lambda text: text == text.strip() and all(each not in range(0x80, 0xA0) for each in map(ord, text))
)


@given(
    method=st.sampled_from(["GET", "HEAD", "PUT"]),
    version=st.sampled_from([(1, 0), (1, 1)]),
    closes=st.booleans(),
    status=st.sampled_from(["200 OK", "201 Created", "204 No Content", "304 Not Modified", "404 Not Found"]),
    headers=st.lists(st.tuples(names, values), max_size=5),
    length=st.sampled_from(["", "exact", "less"]),
    pieces=st.lists(st.binary(max_size=9), max_size=4),
)
@example("GET", (1, 1), False, "200 OK", ONE, "", [b"a", b"", b"b"])
@example("GET", (1, 0), False, "200 OK", ONE, "", [b"a"])
@example("HEAD", (1, 1), False, "200 OK", ONE, "exact", [b"a"])
def test_a_client_reads_what_it_would_read_of_gunicorn(method, version, closes, status, headers, length, pieces):
    whole = b"".join(pieces)
    if length:
        headers = [*headers, ("Content-Length", str(len(whole) if length == "exact" else len(whole) // 2))]
    asked = Asked(method, version, closes=closes)
    ours, ends = of_ours(asked, status, headers, pieces)
    theirs, ends_theirs = of_gunicorn(asked, status, headers, pieces)
    assert understood(ours, method) == understood(theirs, method)
    assert ends == ends_theirs


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200 OK", [("X-Name", CRLF)]),
        ("200 OK", [("X-Name", "a\nb")]),
        ("200 OK", [("X-Name", "a\0b")]),
        ("200 OK", [("X-Name: a\r\nX-Other", "b")]),
        ("200 OK", [("X Name", "b")]),
        ("200 OK", [("", "b")]),
        ("200 OK\r\nX-Name: a", ONE),
        ("OK", ONE),
    ],
)
def test_nothing_in_a_field_begins_another_one(status, headers):
    sink = Sink()
    answer = Answer(Asked("GET", (1, 1), closes=False), sink.sendall)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not valid"):
        answer.start_response(status, headers)
    assert not sink.sent


def test_a_body_shorter_than_its_length_ends_the_connection():
    _, ends = of_ours(Asked("GET", (1, 1), closes=False), "200 OK", [("Content-Length", "5")], [b"abc"])
    assert ends


def test_an_application_that_did_not_start_its_response_gets_an_error():
    with pytest.raises(AssertionError, match="start_response"):
        Answer(Asked("GET", (1, 1), closes=False), Sink().sendall).write(b"a")  # type: ignore[arg-type]


def test_each_answer_has_the_time_of_its_own_second(monkeypatch):
    for second, date in ((0, b"Thu, 01 Jan 1970 00:00:00 GMT"), (86_400, b"Fri, 02 Jan 1970 00:00:00 GMT")):
        monkeypatch.setattr(answers.time, "time", lambda: second + 0.9)  # noqa: B023  called in the same turn
        sent, _ = of_ours(Asked("GET", (1, 1), closes=False), "200 OK", ONE, [])
        assert b"\r\nDate: " + date + b"\r\n" in sent


def test_error_replaces_an_answer_that_has_not_begun():
    """PEP 3333: the second call of ``start_response`` needs ``exc_info``, and raises it if the head was put."""
    sink = Sink()
    answer = Answer(Asked("GET", (1, 1), closes=False), sink.sendall)  # type: ignore[arg-type]
    answer.start_response("200 OK", [("Content-Length", "1")])
    with pytest.raises(AssertionError, match="twice"):
        answer.start_response("200 OK", ONE)
    error = ZeroDivisionError()
    answer.start_response("500 Internal Server Error", ONE, (type(error), error, None))
    answer.write(b"failed")
    answer.close()
    assert understood(bytes(sink.sent), "GET")[::3] == (500, b"failed")
    with pytest.raises(ZeroDivisionError):
        answer.start_response("500 Internal Server Error", ONE, (type(error), error, None))
