"""Images disguised as artifacts: everything a client can run is scanned, and the pull policy applies."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts.actors import SYSTEM
from registry import repositories, runnable
from registry.models import Blob as StoredBlob
from registry.models import Severity
from scanning.models import Scan
from scanning.models.scans import Problem
from tests.support import scan_images
from tests.support.images import (
    OCI_CONFIG,
    OCI_EMPTY,
    OCI_LAYER,
    OCI_LAYER_GZIP,
    OCTETS,
    Artifact,
    Blob,
    Image,
    descriptor,
)
from tests.support.scan_images import DEBIAN_FINDINGS

from .conftest import found_in, manifest_of, report_of

DISGUISES = scan_images.disguises()
IN_TOTO = "application/vnd.in-toto+json"


@pytest.fixture
def push(docker, django_capture_on_commit_callbacks):
    def to_web(thing, tag="1.0"):
        with django_capture_on_commit_callbacks(execute=True):
            return docker("pusher").push("web/app", tag, thing).digest

    return to_web


@pytest.fixture
def shut(world):
    """The pull policy of web refuses high and worse, and images without a result."""
    repositories.update(SYSTEM, world.repository("web"), block_severity=int(Severity.HIGH), unscanned_grace_hours=0)


# ── Scanned and judged ───────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.real
@pytest.mark.django_db
@pytest.mark.parametrize("name", [*DISGUISES, "same diff_ids", "fewer diff_ids"])
def test_a_disguised_image_is_scanned_and_refused(scanner, push, docker, shut, name):
    scanner.load()
    others = {"same diff_ids": scan_images.same_diff_ids, "fewer diff_ids": scan_images.fewer_diff_ids}
    digest = push(DISGUISES[name] if name in DISGUISES else others[name]())
    docker("viewer").get("web/app/manifests/1.0", 403)
    scanner.work()
    assert found_in(digest) == DEBIAN_FINDINGS
    assert manifest_of(digest).worst_severity == Severity.CRITICAL
    for reference in ("1.0", digest):
        answer = docker("viewer").get(f"web/app/manifests/{reference}", 403)
        assert "severity critical" in answer.json()["errors"][0]["message"]
        for who in ("pusher", "member", "admin"):
            docker(who).get(f"web/app/manifests/{reference}", 200)


@pytest.mark.real
@pytest.mark.django_db
def test_incomplete_image_is_unknown_not_clean(scanner, push, docker, shut):
    scanner.load()
    digest = push(scan_images.elsewhere())
    (scan,) = scanner.work()
    assert (scan.state, scan.problem) == (Scan.State.FAILED, Problem.ELSEWHERE)
    assert (report_of(digest).state, manifest_of(digest).worst_severity) == ("failed", None)
    answer = docker("viewer").get("web/app/manifests/1.0", 403)
    assert "has not been scanned" in answer.json()["errors"][0]["message"]
    docker("pusher").get("web/app/manifests/1.0", 200)


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["helm", "wasm", "empty", "attestation", "signature"])
def test_artifacts_without_runnable_content_pass_without_a_scan(push, docker, shut, name):
    image = scan_images.debian()
    things = {
        "helm": scan_images.helm_chart,
        "wasm": scan_images.wasm,
        "empty": lambda: Artifact("application/x", Blob(OCI_LAYER, b"what oras pushes without a type")),
        "attestation": lambda: scan_images.attestation(image),
        "signature": lambda: scan_images.signature(image),
    }
    digest = push(things[name]())
    assert not runnable.is_image(manifest_of(digest))
    docker("viewer").get("web/app/manifests/1.0", 200)


# ── Fields of manifests ──────────────────────────────────────────────────────────────────────────────────────────────
def spelled(media_type: str) -> st.SearchStrategy[str]:
    """Draw the type in another spelling: letter case, spaces and parameters."""
    return st.builds(
        lambda letters, before, after: before + "".join(letters) + after,
        st.tuples(*(st.sampled_from([letter, letter.upper()]) for letter in media_type)),
        st.sampled_from(["", " ", "\t"]),
        st.sampled_from(["", " ", ";", "; charset=utf-8"]),
    )


WORDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)
TYPES = WORDS | st.sampled_from([OCTETS, "text/html", IN_TOTO, OCI_EMPTY, OCI_LAYER_GZIP])
ROOTFS = st.sampled_from(["rootfs", "RootFS", "rootf\u017f", "\\u0072ootfs"])


@pytest.mark.django_db
@hypothesis_settings(max_examples=60, deadline=None, database=None)
@given(data=st.data())
@pytest.mark.usefixtures("shut")
def test_no_field_of_a_manifest_hides_an_image(docker, data):
    is_named = data.draw(st.booleans())
    key = data.draw(ROOTFS)
    config = (
        f'{{"os": "linux", "{key}": {{"type": "layers", "diff_ids": []}}}}' if not is_named else "no JSON"
    ).encode()
    config_type = data.draw(spelled(OCI_CONFIG) if is_named else TYPES)
    layers = data.draw(st.lists(TYPES, min_size=1, max_size=3))
    artifact_type = data.draw(st.none() | TYPES)
    for content in (config, scan_images.DEBIAN_LAYER):
        docker("pusher").push_blob("web/app", content, "post")
    document = {
        "schemaVersion": 2,
        "config": descriptor(config, config_type),
        "layers": [descriptor(scan_images.DEBIAN_LAYER, layer) for layer in layers],
        **({"artifactType": artifact_type} if artifact_type else {}),
        "annotations": data.draw(st.dictionaries(WORDS, WORDS, max_size=2)),
    }
    docker("pusher").push_manifest("web/app", "1.0", json.dumps(document).encode())
    docker("viewer").get("web/app/manifests/1.0", 403)
    docker("pusher").get("web/app/manifests/1.0", 200)


@pytest.mark.django_db
@given(text=st.binary(max_size=600))
@hypothesis_settings(max_examples=200, deadline=None, database=None)
def test_tar_header_is_detected_by_its_checksum(text):
    head = bytearray(b"{" + text.ljust(511, b"x")[:511])
    head[148:156] = b" " * 8
    total = sum(head)
    head[148:156] = b"%06o\0 " % total
    assert runnable._is_tar(bytes(head))
    head[148:156] = b"%06o\0 " % (total + 1)
    assert not runnable._is_tar(bytes(head))


@pytest.mark.django_db
def test_layer_that_is_json_and_tar_is_scanned(push):
    tar = scan_images.tar_of({"x": b"y"})
    name = b'{"a": "'.ljust(100, b"b")
    head = bytearray(name + tar[100:512])
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    config = scan_images.attestation(scan_images.debian()).config
    digest = push(Image(config, (Blob(IN_TOTO, bytes(head) + tar[512:]),)))
    assert runnable.is_image(manifest_of(digest))


@pytest.mark.django_db
def test_missing_bytes_are_treated_as_an_image(push):
    digest = push(Image(Blob("application/x", b"{}"), (Blob("application/x", b"x"),)))
    manifest = manifest_of(digest)
    assert not runnable.is_image(manifest)
    for blob in StoredBlob.objects.filter(references__manifest=manifest):
        StoredBlob.objects.filter(pk=blob.pk).update(storage_key=f"blobs/no/where-{blob.pk}")
    assert runnable.is_image(manifest)
