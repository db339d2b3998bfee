"""What is known of an index follows its platforms; what is accepted twice is accepted once."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from registry.models import Event, Manifest, Severity
from scanning import acceptances, findings
from scanning.models import Acceptance, Report
from scanning.trivy.report import PackageName
from tests.support.factories import found, make_report
from tests.support.images import OCI_INDEX, descriptor, image_of, sha256

pytestmark = pytest.mark.django_db


@pytest.fixture
def index(docker):
    """An index of two platforms, and the two."""
    parts = [image_of("one"), image_of("two", "arm64")]
    for part in parts:
        docker("member").push("web/app", part.digest, part)
    entries = [descriptor(part.manifest, part.media_type, platform={"os": "linux"}) for part in parts]
    content = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    docker("member").push_manifest("web/app", "1", content, OCI_INDEX)
    first, second = (Manifest.objects.get(digest=part.digest) for part in parts)
    return Manifest.objects.get(digest=sha256(content)), first, second


def test_an_index_is_as_new_as_its_platforms_even_when_they_find_the_same_again(index):
    parent, first, second = index
    old, new = timezone.now() - timedelta(days=9), timezone.now()
    for moment in (old, new):
        for part in (first, second):
            make_report(part, [found()], database_at=moment)
    assert Report.objects.get(manifest=parent).database_at == new


def test_a_platform_in_which_nothing_was_recognised_makes_the_index_unrecognised(index):
    parent, first, second = index
    make_report(first, packages=[PackageName("debian", "bash", "5")])
    make_report(second)
    assert Report.objects.get(manifest=parent).state == "unrecognised"
    findings.refresh_index(parent.pk)
    make_report(second, [found(severity=Severity.LOW)])
    assert Report.objects.get(manifest=parent).state == "scanned"


def test_a_form_that_is_sent_twice_accepts_once(index, world):
    _, first, _ = index
    make_report(first, [found()])
    made = [
        acceptances.accept(world.member.actor, world.projects["demo"], "CVE-2026-1000", reason="known")
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert Acceptance.objects.count() == 1
    assert Event.objects.filter(action="vulnerability.accept").count() == 1
    acceptances.withdraw(world.member.actor, made[0])
    acceptances.accept(world.member.actor, world.projects["demo"], "CVE-2026-1000", reason="known")
    assert Acceptance.objects.count() == 2
