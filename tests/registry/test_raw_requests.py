"""Truncated, repeated and contradictory bodies, sent as raw bytes to a real server."""

from __future__ import annotations

import pytest

from tests.support.images import sha256
from tests.support.server import LiveServer

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]

DATA = b"the bytes of a layer " * 1000


@pytest.fixture(scope="module")
def server():
    with LiveServer("raw") as running:
        yield running.people()


@pytest.fixture
def api(server):
    return server.api()


def status_of(answer: bytes) -> int:
    """Return the status of a raw answer, 0 without one."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def chunked(*pieces: bytes) -> bytes:
    """Return pieces in chunked coding without the end."""
    return b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces)


CUTS = {
    "Content-Length": ("Content-Length: 5000", DATA[:300]),
    "between chunks": ("Transfer-Encoding: chunked", chunked(DATA[:300])),
    "in a chunk": ("Transfer-Encoding: chunked", b"1000\r\n" + DATA[:300]),
    "in a chunk's length": ("Transfer-Encoding: chunked", chunked(DATA[:300]) + b"10"),
    "a length that is none": ("Transfer-Encoding: chunked", chunked(DATA[:300]) + b"xyz\r\n"),
}


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("method", ["PATCH", "PUT"])
def test_truncated_body_changes_nothing(api, cut, method):
    location = api.start()
    assert api.ask("PATCH", location, DATA[:100])[0] == 202
    header, body = CUTS[cut]
    target = location if method == "PATCH" else f"{location}?digest={sha256(DATA)}"
    assert status_of(api.raw(f"{method} {target} HTTP/1.1\n{header}", body, end=True)) in {0, 400}
    status, headers, _ = api.ask("GET", location)
    assert (status, headers["Range"]) == (204, "0-99")
    assert api.ask("PATCH", location, DATA[100:], Content_Range=f"100-{len(DATA) - 1}")[0] == 202
    assert api.ask("PUT", f"{location}?digest={sha256(DATA)}")[0] == 201
    assert api.ask("GET", f"blobs/{sha256(DATA)}")[2] == DATA


@pytest.mark.parametrize(
    "header",
    [
        "Content-Length: 5\nContent-Length: 6",
        "Content-Length: 5\nTransfer-Encoding: chunked",
        "Content-Length: +5",
        "Content-Length: 5_0",
        "Content-Length: -5",
    ],
)
def test_body_of_ambiguous_length_is_refused(api, header):
    location = api.start()
    answer = api.raw(f"PATCH {location} HTTP/1.1\n{header}", b"hello")
    assert status_of(answer) == 400
    assert b"Connection: close" in answer
    assert api.ask("GET", location)[1]["Range"] == "0-0"


def test_expect_continue_is_answered_with_100(api):
    location = api.start()
    answer = api.raw(f"PATCH {location} HTTP/1.1\nContent-Length: 5\nExpect: 100-continue", b"hello", wait=2)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 ")


def test_answers_to_head_have_a_length_and_no_body(api):
    assert api.push_blob(DATA) == 201
    answer = api.raw(f"HEAD /v2/demo/web/app/blobs/{sha256(DATA)} HTTP/1.1", wait=1)
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert rest == b""
    assert f"Content-Length: {len(DATA)}".encode() in head


def test_a_refusal_comes_before_a_large_body_is_read(server, api):
    api.headers = {"Host": server.host}
    answer = api.raw("PUT /v2/demo/web/app/manifests/1 HTTP/1.1\nContent-Length: 90000000", b"x" * 1000, wait=2)
    assert status_of(answer) == 401
    assert b"WWW-Authenticate: Bearer " in answer


def test_answer_has_one_relative_location(api):
    answer = api.raw("POST /v2/demo/web/app/blobs/uploads/ HTTP/1.1\nContent-Length: 0", wait=1)
    assert answer.count(b"Location:") == 1
    assert b"\r\nLocation: /v2/demo/web/app/blobs/uploads/" in answer


def test_empty_blob_can_be_pushed(api):
    assert api.ask("POST", f"blobs/uploads/?digest={sha256(b'')}", b"")[0] == 201
    assert api.ask("GET", f"blobs/{sha256(b'')}")[::2] == (200, b"")


@pytest.mark.parametrize("path", ["/sign-in", "/healthz", "/token", "/nothing-here"])
def test_a_form_without_a_length_is_refused(api, path):
    head = f"POST {path} HTTP/1.1\nConnection: close\nContent-Type: application/x-www-form-urlencoded"
    said = api.raw(f"{head}\nTransfer-Encoding: chunked", chunked(b"email=a", b"&password=b") + b"0\r\n\r\n")
    assert status_of(said) == 411


def test_script_name_header_does_not_change_the_page(api):
    said = api.raw("GET /v2/sign-in HTTP/1.1\nConnection: close\nSCRIPT_NAME: /v2")
    assert status_of(said) in {200, 400, 401, 404}
    assert status_of(said) != 200 or b"Content-Security-Policy: default-src" in said
