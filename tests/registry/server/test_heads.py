"""gunicorn's parser accepts each head that KCR reads itself, and gives it the same meaning."""

from __future__ import annotations

import socket

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.body import LengthReader
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from hypothesis import example, given
from hypothesis import strategies as st

from registry.management.commands.serve import Server
from registry.server.connections import Connection
from registry.server.exchanges import Outgoing
from registry.server.heads import MAX_DIGITS, PLAIN_BYTES, PLAIN_FIELDS, PlainRequest, plain
from registry.server.shares import Shares

PEER, SERVER = ("192.0.2.7", 50000), ("127.0.0.1", 8080)
REST = b"the bytes behind the head"
FIELDS = "\r\nHost: registry.test\r\nUser-Agent: docker/28.1.1\r\nAccept-Encoding: gzip"
CLIENTS = {
    "docker": (
        "GET /v2/demo/web/app/manifests/1.0 HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: docker/28.1.1 go/go1.23.8"
        "\r\nAccept: application/vnd.oci.image.index.v1+json\r\nAuthorization: Bearer a.b-c_d\r\nAccept-Encoding: gzip"
    ),
    "containerd": f"HEAD /v2/demo/web/app/blobs/sha256:{'a' * 64} HTTP/1.1{FIELDS}\r\nRange: bytes=0-",
    "curl": "GET /token?service=localhost:8080&scope=repository:a/b:pull,push HTTP/1.1\r\nHost: a\r\nAccept: */*",
    "push": f"PUT /v2/a/b/blobs/uploads/1?digest=sha256%3Aaa HTTP/1.1{FIELDS}\r\nContent-Length: 25",
    "browser": f"POST /sign-in HTTP/1.1{FIELDS}\r\nConnection: keep-alive\r\nContent-Type: text/plain\r\nCookie: a=b; c=d",
    "the last answer": f"GET /%2e/a%20b HTTP/1.1{FIELDS}\r\nConnection: Close",
    "no space, many spaces": "DELETE / HTTP/1.1\r\nHost:a\r\nX-Empty:\r\nX: \t \xe9\t ",
}
NOT_PLAIN = {
    "two lengths": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5",
    "length and chunks": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
    "chunks": "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked",
    "length with a sign": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5",
    "length with an underscore": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5_0",
    "length of other digits": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \xb2",
    "empty length": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:",
    "long length": f"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {'1' * (MAX_DIGITS + 1)}",
    "expectation": "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue",
    "two hosts": "GET / HTTP/1.1\r\nHost: a\r\nHost: a",
    "two hosts in two cases": "GET / HTTP/1.1\r\nHost: a\r\nhOST: b",
    "folded line": "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2",
    "folded first line": "GET / HTTP/1.1\r\n Host: a",
    "bare line feed": "GET / HTTP/1.1\r\nHost: a\nX: 1",
    "bare carriage return": "GET / HTTP/1.1\r\nHost: a\rX: 1",
    "bare line feed behind the first line": "GET / HTTP/1.1\nHost: a",
    "NUL": "GET / HTTP/1.1\r\nHost: a\0",
    "DEL": "GET / HTTP/1.1\r\nHost: a\x7f",
    "space before the colon": "GET / HTTP/1.1\r\nHost : a",
    "no name": "GET / HTTP/1.1\r\n: a",
    "no colon": "GET / HTTP/1.1\r\nHost",
    "underscore": "GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 192.0.2.1",
    "name beyond ASCII": "GET / HTTP/1.1\r\nH\xdf: a",
    "no field": "GET / HTTP/1.1",
    "small letters": "get / HTTP/1.1\r\nHost: a",
    "unknown method": "BREW / HTTP/1.1\r\nHost: a",
    "HTTP/1.0": "GET / HTTP/1.0\r\nHost: a",
    "HTTP/2.0": "GET / HTTP/2.0\r\nHost: a",
    "no version": "GET /\r\nHost: a",
    "two spaces": "GET  / HTTP/1.1\r\nHost: a",
    "tab": "GET\t/ HTTP/1.1\r\nHost: a",
    "space at the end": "GET / HTTP/1.1 \r\nHost: a",
    "empty line first": "\r\nGET / HTTP/1.1\r\nHost: a",
    "whole address": "GET http://a/ HTTP/1.1\r\nHost: b",
    "star": "OPTIONS * HTTP/1.1\r\nHost: a",
    "two slashes": "GET //a/b HTTP/1.1\r\nHost: a",
    "fragment": "GET /a#b HTTP/1.1\r\nHost: a",
    "fragment in the query": "GET /a?b#c HTTP/1.1\r\nHost: a",
    "path beyond ASCII": "GET /\xe9 HTTP/1.1\r\nHost: a",
    "long": f"GET / HTTP/1.1\r\nHost: a\r\nX: {'a' * PLAIN_BYTES}",
    "many fields": "GET / HTTP/1.1" + "".join(f"\r\nX{number}: a" for number in range(PLAIN_FIELDS)),
}

PLAIN_FIELD = st.tuples(
    st.sampled_from(["Host", "X", "X-A", "x-b", "!#$%&'*+-.^`|~", "Content-Type", "Content-Length", "Connection"]),
    st.sampled_from(["", " ", "\t "]),
    st.sampled_from(["5", "05", "", "close", "Close ", "keep-alive", "upgrade"]) | st.text("a:;,=\xe9\t ", max_size=6),
)
ODD_FIELD = st.tuples(
    st.sampled_from(
        ["X_A", "Content-Length", "Transfer-Encoding", "Expect", "X ", "\xdf", "", "Content_Length", "host"]
    ),
    st.just(" "),
    st.sampled_from(["5", "+5", "5_0", "\xb2", "9" * 20, "chunked", "100-continue", "a\n b", "a\r\n b", "\x7f"]),
)
PLAIN_TARGET = st.text("/ab?%:.;[]@2F&=", max_size=10).map(lambda text: f"/{text}")
ODD_TARGET = st.text("/a#?\\\xe9\x7f *", max_size=6) | st.sampled_from(["//a", "*", "http://a/b", "a:1", "/a#b?c"])
DAMAGE = b"\r\n :;,#?0a_\t\x00\x7f\xff"


@pytest.fixture(scope="module", autouse=True)
def config():
    """The settings of gunicorn as ``manage.py serve`` makes them."""
    made = Server.__new__(Server)
    made.cfg = Config()
    made.load_config()
    return made.cfg


@pytest.fixture(scope="module")
def connection():
    left, right = socket.socketpair()
    with left, right:
        yield Connection(left, PEER, SERVER, Shares(1 << 20, 1 << 20))


@st.composite
def heads(draw) -> bytes:
    """Bytes of a head: most are plain; others have an odd part, or a byte more, less or changed."""
    odd = draw(st.sampled_from([""] * 6 + ["method", "target", "version", "field", "twice", "more", "less", "changed"]))
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]))
    version, target = "1.1", draw(ODD_TARGET if odd == "target" else PLAIN_TARGET)
    if odd == "method":
        method = draw(st.sampled_from(["OPTIONS", "CONNECT", "TRACE", "BREW", "get", "GE#T", "", "A"]))
    if odd == "version":
        version = draw(st.sampled_from(["1.0", "1.2", "2.0", "1.11", "0.9", "1", ""]))
    fields = draw(st.lists(PLAIN_FIELD, min_size=1, max_size=5, unique_by=lambda field: field[0].lower()))
    if odd in {"field", "twice"}:
        fields.append(draw(ODD_FIELD if odd == "field" else st.sampled_from(fields)))
    text = f"{method} {target} HTTP/{version}" + "".join(f"\r\n{n}:{space}{value}" for n, space, value in fields)
    head = bytearray(text.encode("latin-1"))
    at, byte = draw(st.integers(0, len(head) - 1)), draw(st.sampled_from(DAMAGE))
    if odd == "more":
        head.insert(at, byte)
    elif odd == "less":
        del head[at]
    elif odd == "changed":
        head[at] = byte
    return bytes(head) + b"\r\n\r\n"


def read_plain(connection: Connection, config: Config, received: bytes) -> PlainRequest | None:
    connection.head[:] = received
    connection.stream.take_buffered()
    return plain(connection, config)


def variables(environ: dict[str, object]) -> dict[str, object]:
    """What a request says to the application, without the objects of the server."""
    objects = {"wsgi.input", "wsgi.errors", "wsgi.early_hints", "gunicorn.socket"}
    return {name: value for name, value in environ.items() if name not in objects}


def is_the_same_for_gunicorn(connection: Connection, config: Config, head: bytes) -> bool:
    """Whether the head is plain. Fails if gunicorn's parser refuses a plain head or reads something else in it."""
    ours = read_plain(connection, config, head + REST)
    if ours is None:
        assert bytes(connection.head) == head + REST
        assert connection.stream.take_buffered() == b""
        return False
    unreader = IterUnreader([head + REST])
    theirs = Request(config, unreader, PEER)
    _response, environ = wsgi.create(theirs, Outgoing(connection), PEER, SERVER, config)
    assert variables(ours.environ) == variables(environ)
    assert (ours.method, ours.version, ours.should_close()) == (theirs.method, theirs.version, theirs.should_close())
    assert not theirs._expected_100_continue
    assert isinstance(theirs.body.reader, LengthReader)
    assert ours.body.reader.length == theirs.body.reader.length
    assert connection.stream.take_buffered() == unreader.take_buffered()
    assert not connection.head
    return True


@given(heads())
@example(b"GET /a;b?c=[d] HTTP/1.1\r\nHost: a\r\n\r\n")
@example(b"GET /? HTTP/1.1\r\nHost: a\r\n\r\n")
@example(b"GET /%zz%ff%00 HTTP/1.1\r\nHost: a\r\n\r\n")
@example(b"GET /x://y HTTP/1.1\r\nConnection: close \t\r\n\r\n")
def test_what_is_plain_means_the_same_to_gunicorn(connection, config, head):
    is_the_same_for_gunicorn(connection, config, head)


@pytest.mark.parametrize("client", CLIENTS)
def test_heads_of_clients_are_plain(connection, config, client):
    assert is_the_same_for_gunicorn(connection, config, CLIENTS[client].encode("latin-1") + b"\r\n\r\n")


@pytest.mark.parametrize("shape", NOT_PLAIN)
def test_what_is_not_plain_is_left_to_gunicorn(connection, config, shape):
    head = NOT_PLAIN[shape].encode("latin-1") + b"\r\n\r\n"
    assert not is_the_same_for_gunicorn(connection, config, head)


def test_a_head_without_its_end_is_not_plain(connection, config):
    assert read_plain(connection, config, b"GET / HTTP/1.1\r\nHost: a\r\n") is None


def test_heads_from_a_local_socket_are_not_plain(config):
    left, right = socket.socketpair()
    with left, right:
        local = Connection(left, "", "/run/kcr.socket", Shares(1 << 20, 1 << 20))
        assert read_plain(local, config, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") is None


def test_plain_heads_are_within_gunicorns_limits(config):
    assert min(config.limit_request_line, config.limit_request_field_size) >= PLAIN_BYTES
    assert config.limit_request_fields >= PLAIN_FIELDS
    assert (config.header_map, config.forwarded_allow_ips, config.proxy_protocol) == ("drop", [], "off")
    relaxed = {config.strip_header_spaces, config.permit_obsolete_folding, config.casefold_http_method}
    assert relaxed == {False}
