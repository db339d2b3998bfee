"""Platforms of images and indexes: entries of an index take precedence over the configurations of its images."""

from typing import Any

import pytest

from registry.models import Manifest
from tests.support.images import OCI_INDEX, Image, index_of
from tests.support.scan_images import attestation

pytestmark = pytest.mark.django_db
AMD64 = Image(config=b'{"architecture": "amd64", "os": "linux"}', layers=[b"app"])
ARM64 = Image(config=b'{"architecture": "arm64", "os": "linux"}', layers=[b"app"])
LINUX_ARM64 = {"os": "linux", "architecture": "arm64"}
UNKNOWN = {"os": "unknown", "architecture": "unknown"}


@pytest.fixture
def platforms(docker):
    """``platforms(*entries, needs=images)`` pushes an index after these images; its platforms."""

    def push(*entries: dict[str, Any], needs: tuple[Image, ...] = (AMD64, ARM64)) -> list[str]:
        member = docker("member")
        for image in needs:
            member.push("web/app", image.digest, image)
        index = index_of(*entries)
        member.push_manifest("web/app", "multi", index, OCI_INDEX)
        return Manifest.objects.get(digest=index.digest).platforms.split()

    return push


def test_platform_is_that_of_the_index_entry(platforms):
    assert platforms(AMD64.manifest.descriptor(platform=LINUX_ARM64)) == ["linux/arm64"]


def test_all_platforms_of_an_index_are_shown(platforms):
    v8 = LINUX_ARM64 | {"variant": "v8"}
    entries = AMD64.manifest.descriptor(platform=AMD64.platform), AMD64.manifest.descriptor(platform=v8)
    assert platforms(*entries) == ["linux/amd64", "linux/arm64/v8"]


def test_entry_without_a_platform_uses_that_of_its_image(platforms):
    assert platforms(AMD64.manifest.descriptor(), ARM64.manifest.descriptor(platform={})) == [
        "linux/amd64",
        "linux/arm64",
    ]


@pytest.mark.parametrize(
    "more",
    [
        {"platform": UNKNOWN, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
        {"platform": UNKNOWN},
        {"platform": LINUX_ARM64, "annotations": {"vnd.docker.reference.type": "attestation-manifest"}},
    ],
    ids=["as BuildKit writes it", "without an annotation", "with a platform"],
)
def test_attestation_is_not_a_platform(platforms, more):
    provenance = attestation(AMD64)
    lies = Image(config=ARM64.config, layers=provenance.layers)  # its configuration has a platform
    entries = (
        AMD64.manifest.descriptor(platform=AMD64.platform),
        lies.manifest.descriptor(**more),
    )
    assert platforms(*entries, needs=(AMD64, lies)) == ["linux/amd64"]


def test_platforms_of_a_nested_index_are_included(docker, platforms):
    inner = index_of(AMD64.manifest.descriptor(platform=LINUX_ARM64))
    docker("member").push("web/app", AMD64.digest, AMD64)
    docker("member").push_manifest("web/app", inner.digest, inner, OCI_INDEX)
    assert platforms(inner.descriptor(), needs=()) == ["linux/arm64"]


def test_long_list_is_cut_between_platforms(platforms):
    many = [AMD64.manifest.descriptor(platform={"os": "linux", "architecture": f"a{n:026}"}) for n in range(40)]
    found = platforms(*many)
    assert found == [f"linux/a{n:026}" for n in range(len(found))]
    assert len(found) == 500 // 34


def test_an_image_has_the_platform_of_its_configuration(docker):
    docker("member").push("web/app", "v1", ARM64)
    assert Manifest.objects.get().platforms == "linux/arm64"
