"""Compression: pages are compressed, registry answers and downloads are not."""

from __future__ import annotations

import gzip

import pytest

from tests.support.images import sha256

GZIP = {"accept-encoding": "gzip, deflate, br"}


def test_a_page_is_compressed_and_its_length_does_not_tell_its_content(console, world):
    browser = console("reader")
    plain = browser.get("/projects/demo/members")
    answers = [browser.get("/projects/demo/members", headers=GZIP) for _ in range(12)]
    assert "Content-Encoding" not in plain.headers
    assert {answer.headers["Content-Encoding"] for answer in answers} == {"gzip"}
    assert "Accept-Encoding" in answers[0].headers["Vary"]
    assert "Cookie" in answers[0].headers["Vary"]
    for answer in answers:
        assert int(answer.headers["Content-Length"]) == len(answer.content) < len(plain.content) / 3
        assert b"reader@acme.test" in gzip.decompress(answer.content)
    assert len({len(answer.content) for answer in answers}) > 1


@pytest.mark.parametrize("path", ["/projects/demo/nothing", "/sign-in"])
def test_refusals_and_pages_of_strangers_are_compressed(console, world, path):
    assert console(None).get(path, headers=GZIP).headers["Content-Encoding"] == "gzip"


def test_nothing_else_is_compressed(console, docker, pushed):
    browser = console("reader")
    for path in ("/projects/demo/audit-log.csv", "/healthz", "/readyz", "/token"):
        assert "Content-Encoding" not in browser.get(path, headers=GZIP).headers
    member = docker("member")
    for path in ("/v2/", "/v2/web/app/manifests/1.0", f"/v2/web/app/blobs/{sha256(b'nothing')}", "/v2/nothing"):
        assert "Content-Encoding" not in member.get(path, headers=GZIP).headers
