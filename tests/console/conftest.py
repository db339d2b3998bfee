"""What tests of the console share: browsers without a browser, and an image to look at."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from django.test import Client

from registry.models import Manifest, Severity
from tests.support.factories import found, make_report
from tests.support.images import OCI_INDEX, descriptor, image_of, sha256

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.docker_client import DockerClient
    from tests.support.personas import World


@pytest.fixture
def console(world: World) -> Callable[..., Client]:
    """``console("member")``: that person's signed-in browser; ``console(None)``: somebody's."""

    def make(name: str | None = None, **options: object) -> Client:
        client = Client(SERVER_NAME="localhost", SERVER_PORT="8080", **options)
        if name:
            client.force_login(world.people[name].user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return make


@pytest.fixture
def pushed(docker: Callable[..., DockerClient]) -> dict[str, str]:
    """web/app with tags 1.0 and latest, an index 2.0 of two platforms, a digest without a tag; their digests."""
    member = docker("member")
    first, second, arm = image_of("first"), image_of("second"), image_of("arm", "arm64")
    member.push("web/app", "1.0", first)
    member.push("web/app", "latest", first)
    member.push("web/app", "latest", second)
    member.push("web/app", sha256(arm.manifest), arm)
    untagged = image_of("untagged")
    member.push("web/app", sha256(untagged.manifest), untagged)
    parts = [
        descriptor(each.manifest, each.media_type, platform={"os": "linux", "architecture": name})
        for each, name in ((second, "amd64"), (arm, "arm64"))
    ]
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": parts}).encode()
    member.push_manifest("web/app", "2.0", index, OCI_INDEX)
    return {
        "first": first.digest,
        "second": second.digest,
        "arm": arm.digest,
        "untagged": untagged.digest,
        "index": sha256(index),
    }


@pytest.fixture
def scanned(pushed: dict[str, str]) -> dict[str, str]:
    """What ``pushed`` has, with results: of the first image and its successor; nothing is known of the rest."""
    first, second = (Manifest.objects.get(digest=pushed[name]) for name in ("first", "second"))
    openssl = found("CVE-2026-1", "openssl", severity=Severity.CRITICAL, fixed="3.0.12-1", score=9.8)
    curl, zlib = found("CVE-2026-2", "curl", "8.1"), found("CVE-2026-3", "zlib", "1.3", severity=Severity.LOW)
    make_report(first, [openssl, curl, zlib])
    make_report(first, [openssl, curl])
    make_report(second, [curl, found("CVE-2026-4", "bash", "5.2", severity=Severity.MEDIUM, score=None)])
    return pushed
