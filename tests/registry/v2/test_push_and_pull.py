"""A push and a pull of one image."""

import pytest

from tests.support.docker_client import BARE_HOST, PROJECT_HOST, SHAPES
from tests.support.images import OCTETS, Image, sha256


@pytest.mark.parametrize("shape", SHAPES)
def test_pushed_image_is_pulled_unchanged(docker, shape):
    image = docker("member").push("web/app", "1.0", Image(layers=[b"one" * 1000, b"two", b""]), shape=shape)
    assert docker("viewer").pull("web/app", "1.0") == (image.manifest, image.media_type)
    assert docker("viewer").pull("web/app", image.digest) == (image.manifest, image.media_type)
    assert docker("reader").tags("web/app") == ["1.0"]


def test_both_hosts_name_the_same_image(docker):
    image = docker("member", BARE_HOST).push("demo/web/team/app", "1.0")
    assert docker("member").pull("web/team/app", "1.0")[0] == image.manifest


@pytest.mark.parametrize("host", [PROJECT_HOST, BARE_HOST])
def test_stored_bytes_are_never_shown_as_a_page(docker, host):
    """The console may have the same host, so pushed bytes must not be shown as a page."""
    page = b"<!doctype html><script>alert(document.domain)</script>"
    more = {"annotations": {"a": page.decode()}}
    image = docker("member").push("web/app", "1.0", Image(config=page, layers=[page, page + b"\n"], more=more))
    name = "web/app" if host == PROJECT_HOST else "demo/web/app"
    browser = docker("viewer", host)
    as_browser = {"Accept": "text/html,application/xhtml+xml", "Sec-Fetch-Dest": "document"}
    path = f"{name}/blobs/{sha256(page)}"
    answers = [
        browser.get(path, 200, headers=as_browser),
        browser.head(path, 200, headers=as_browser),
        browser.get(path, 206, headers=as_browser | {"Range": "bytes=0-9"}),
        browser.get(path, 206, headers=as_browser | {"Range": "bytes=0-9,20-29"}),
    ]
    kinds = [answer.headers["Content-Type"].partition(";")[0] for answer in answers]
    assert kinds == [*[OCTETS] * 3, "multipart/byteranges"]
    for answer in answers:
        assert answer.headers["Content-Disposition"] == "attachment"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    for reference in ("1.0", image.digest):
        answer = browser.get(f"{name}/manifests/{reference}", 200, headers=as_browser)
        assert answer.body == image.manifest
        assert answer.headers["Content-Type"] == image.media_type
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
