"""However the network cuts the bytes of requests, the application sees the same, and the client gets the same answers."""

from __future__ import annotations

import re
import socket
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.registry.server.test_worker import Program, chunked, read_all

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]

PAUSE = 0.002  # seconds between two pieces: the worker has read the first one
DATE = re.compile(rb"Date: [^\r]*\r\n")
QUOTATION = re.compile(rb"(HTTP/1\.1 400 .*?)Content-Length: .*", re.DOTALL)  # the page quotes what has arrived
BODIES = st.binary(max_size=300)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40)


@pytest.fixture(scope="module")
def program():
    with Program("cuts") as running:
        yield running


@st.composite
def requests(draw) -> bytes:
    """Bytes of a request that is valid."""
    method, path = draw(st.sampled_from(["POST", "PUT"])), draw(st.sampled_from(["/echo", "/echo1"]))
    head = f"{method} {path}?{draw(st.integers(0, 99))} HTTP/1.1\r\nHost: a\r\n"
    head += "".join(f"X-{number}: {value}\r\n" for number, value in enumerate(draw(st.lists(VALUES, max_size=3))))
    kind = draw(st.sampled_from(["none", "length", "chunks", "expected"]))
    if kind == "none":
        return f"{head}\r\n".encode()
    if kind == "chunks":
        pieces = draw(st.lists(BODIES.filter(bool), max_size=4))
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunked(*pieces)
    body = draw(BODIES)
    if kind == "expected":
        head += "Expect: 100-continue\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@st.composite
def streams(draw) -> bytes:
    """Requests after each other. Half of the streams are damaged: a byte more, less or changed, or the end is missing."""
    stream = bytearray(b"".join(draw(st.lists(requests(), min_size=1, max_size=3))))
    at, byte = draw(st.integers(0, len(stream) - 1)), draw(st.sampled_from(b"\r\n :;,0a\t\x00\xff"))
    match draw(st.sampled_from(["", "", "", "", "more", "less", "changed", "cut"])):
        case "more":
            stream.insert(at, byte)
        case "less":
            del stream[at]
        case "changed":
            stream[at] = byte
        case "cut":
            del stream[at:]
    return bytes(stream)


def answers(program: Program, stream: bytes, cuts: list[int]) -> bytes:
    """Send a stream in pieces and end it. Return all that the server says, without dates and the page of a refusal."""
    with program.connect() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for start, end in pairwise([0, *cuts, len(stream)]):
                client.sendall(stream[start:end])
                time.sleep(PAUSE if end < len(stream) else 0)
            client.shutdown(socket.SHUT_WR)
        except OSError:  # the server has refused the beginning
            pass
        return QUOTATION.sub(rb"\1", DATE.sub(b"", read_all(client)))


@settings(max_examples=60)
@given(streams(), st.data())
def test_answers_do_not_depend_on_how_bytes_arrive(program, stream, data):
    cuts = data.draw(st.lists(st.integers(1, max(1, len(stream) - 1)), max_size=6, unique=True).map(sorted))
    assert answers(program, stream, cuts) == answers(program, stream, [])


@settings(max_examples=60)
@given(streams())
def test_body_that_is_read_as_it_arrives_is_the_same(program, stream):
    gathered, arriving = (re.sub(rb"/echo1?\b", path, stream) for path in (b"/echo", b"/echo1"))
    assert answers(program, arriving, []) == answers(program, gathered, [])
