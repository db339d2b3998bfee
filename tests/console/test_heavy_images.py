"""Pages of the largest permitted images: they stay small and show how much they leave out."""

from __future__ import annotations

import json
import re

import pytest

from registry.models import Manifest
from registry.oci import configs
from tests.support.factories import found, make_report
from tests.support.images import OCI_CONFIG, OCI_INDEX, OCI_LAYER, Image, descriptor, index_of, sha256

pytestmark = pytest.mark.django_db
MAX_PAGE = 300_000
QUOTES = '"' * 1_000  # each is six characters of HTML


def text(answer) -> str:
    assert answer.status_code == 200
    return answer.content.decode()


def config(**inner: object) -> bytes:
    return json.dumps({"os": "linux", "architecture": "amd64", "config": inner}).encode()


def shown(docker, console, image: Image) -> str:
    docker("member").push("web/app", "heavy", image)
    return text(console("reader").get("/projects/demo/repositories/web/app/-/manifests/heavy"))


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("Env", [f"NAME{number}=value" for number in range(1_000)]),
        ("Cmd", [f"word-{number}" for number in range(1_000)]),
        ("Entrypoint", [f"word-{number}" for number in range(1_000)]),
        ("Labels", {f"label-{number}": "value" for number in range(1_000)}),
        ("ExposedPorts", {f"{number}/tcp": {} for number in range(1_000)}),
        ("Volumes", {f"/volume-{number}": {} for number in range(1_000)}),
    ],
)
def test_long_list_shows_its_beginning_and_the_number_left_out(docker, console, name, entries):
    page = shown(docker, console, Image(config=config(**{name: entries})))
    assert "and 872 more" in page
    assert sum(entry in page for entry in entries) >= configs.MAX_ENTRIES
    assert len(page) < MAX_PAGE


def test_many_annotations_show_the_first_and_the_number_left_out(docker, console):
    page = shown(docker, console, Image(more={"annotations": {f"note-{number}": "x" for number in range(1_000)}}))
    assert "and 872 more" in page
    assert "note-127<" in page
    assert "note-128<" not in page


def test_a_long_text_is_cut(docker, console):
    page = shown(docker, console, Image(config=config(Env=["LONG=" + "x" * 100_000])))
    assert "x" * 1_900 in page
    assert "x…" in page
    assert "x" * 2_001 not in page


def test_configuration_with_a_million_values_is_not_parsed(docker, console):
    page = shown(docker, console, Image(config=config(Env=["a"] * 800_000)))
    assert "It has too many values to be shown." in page
    assert len(page) < MAX_PAGE


def test_the_heaviest_image_is_a_page_of_bounded_weight(docker, console):
    """Every list and every text is as long as a page shows it at most."""
    member = docker("member")
    texts = [f"{QUOTES}{number}" for number in range(100)]
    inner = {
        "Env": texts,
        "Cmd": texts,
        "Entrypoint": texts,
        "Labels": dict.fromkeys(texts, QUOTES),
        "ExposedPorts": dict.fromkeys(texts),
        "Volumes": dict.fromkeys(texts),
    }
    data = json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "config": inner | {"User": QUOTES, "WorkingDir": QUOTES},
            "author": QUOTES,
            "created": QUOTES,
            "history": [{"created_by": QUOTES} for _ in range(1_000)],
        }
    ).encode()
    layer = b"a layer"
    for blob in (data, layer):
        member.push_blob("web/app", blob)
    document = {
        "schemaVersion": 2,
        "config": descriptor(data, OCI_CONFIG),
        "layers": [descriptor(layer, OCI_LAYER)] * 1_000,
        "annotations": dict.fromkeys(texts, QUOTES),
    }
    member.push_manifest("web/app", "heavy", json.dumps(document).encode())
    browser = console("reader")
    page = text(browser.get("/projects/demo/repositories/web/app/-/manifests/heavy"))
    assert page.count("and 872 more") == 1  # layers
    assert len(re.findall(r"and \d+ more", page)) == 8
    assert len(page.encode()) < MAX_PAGE
    manifest = Manifest.objects.get()
    make_report(manifest, [found("CVE-2026-1", "openssl", layer=sha256(layer))])
    for view in ("", "?view=layers"):
        there = f"/projects/demo/repositories/web/app/-/manifests/heavy/vulnerabilities{view}"
        assert len(text(browser.get(there)).encode()) < MAX_PAGE


def test_an_index_of_many_platforms_shows_its_beginning(docker, console):
    member, image = docker("member"), Image()
    member.push("web/app", image.digest, image)
    parts = [
        descriptor(image.manifest, image.media_type, platform={"os": "linux", "architecture": f"cpu{number}"})
        for number in range(1_000)
    ]
    index = index_of(*parts)
    member.push_manifest("web/app", "heavy", index, OCI_INDEX)
    page = text(console("reader").get("/projects/demo/repositories/web/app/-/manifests/heavy"))
    assert "and 872 more" in page
    assert len(page.encode()) < MAX_PAGE
