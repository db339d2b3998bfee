"""Shared fixtures of the console's tests: signed-in test clients and pushed images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.test import Client

from registry.models import Manifest, Severity
from tests.support.factories import found, make_report
from tests.support.images import OCI_INDEX, descriptor, image_of, index_of, sha256

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.docker_client import DockerClient
    from tests.support.personas import World


@pytest.fixture
def console(world: World) -> Callable[..., Client]:
    """``console("member")`` is the signed-in test client of that persona, ``console(None)`` an anonymous one."""

    def make(name: str | None = None, **options: object) -> Client:
        client = Client(SERVER_NAME="localhost", SERVER_PORT="8080", **options)
        if name:
            client.force_login(world.people[name].user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return make


@pytest.fixture
def pushed(docker: Callable[..., DockerClient]) -> dict[str, str]:
    """Push web/app with the tags 1.0 and latest, an index 2.0 of two platforms and an untagged digest. Return the digests."""
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
    index = index_of(*parts)
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
    """``pushed`` with scan results of the first image and its successor. The other digests have none."""
    first, second = (Manifest.objects.get(digest=pushed[name]) for name in ("first", "second"))
    openssl = found("CVE-2026-1", "openssl", severity=Severity.CRITICAL, fixed="3.0.12-1", score=9.8)
    curl, zlib = found("CVE-2026-2", "curl", "8.1"), found("CVE-2026-3", "zlib", "1.3", severity=Severity.LOW)
    make_report(first, [openssl, curl, zlib])
    make_report(first, [openssl, curl])
    make_report(second, [curl, found("CVE-2026-4", "bash", "5.2", severity=Severity.MEDIUM, score=None)])
    return pushed
