"""The pull policy: refused pulls, exceptions, and unscanned images."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.actors import SYSTEM
from registry import repositories
from registry.models import Manifest, Severity, Tag
from registry.oci import media_types
from scanning import acceptances
from tests.support import scan_images
from tests.support.factories import found, make_report
from tests.support.images import Image, sha256

pytestmark = pytest.mark.django_db

BAD = [
    found("CVE-2026-1", severity=Severity.CRITICAL, fixed="1.1"),
    found("CVE-2026-2", severity=Severity.HIGH),
    found("CVE-2026-3", severity=Severity.HIGH),
    found("CVE-2026-4", severity=Severity.LOW),
]
OCI_IMAGE = Image(config=b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}')


@pytest.fixture
def shut(world):
    """``shut("web", Severity.HIGH)`` makes the repository refuse high and worse."""

    def make(name, gate, hours=None):
        repositories.update(SYSTEM, world.repository(name), block_severity=int(gate), unscanned_grace_hours=hours)

    return make


@pytest.fixture
def pushed(docker):
    """Push an image to web as a member. Return its manifest."""
    digest = docker("member").push("web/app", "1.0", scan_images.debian()).digest
    return Manifest.objects.get(digest=digest)


def test_pull_is_refused_with_the_reason_and_a_link(docker, pushed, shut):
    make_report(pushed, BAD)
    shut("web", Severity.HIGH)
    for reference in ("1.0", pushed.digest):
        answer = docker("viewer").get(f"web/app/manifests/{reference}", 403)
        (error,) = answer.json()["errors"]
        assert error["code"] == "DENIED"
        assert "critical" in error["message"]
        assert "CVE-2026-1, CVE-2026-2, CVE-2026-3 and 1 more" in error["message"]
        page = f"/projects/demo/repositories/web/app/-/manifests/{pushed.digest}/vulnerabilities"
        assert page in error["message"]


@pytest.mark.parametrize("who", ["member", "pusher", "admin", "owner"])
def test_users_with_push_are_never_refused(docker, pushed, shut, who):
    make_report(pushed, BAD)
    shut("web", Severity.LOW)
    docker(who).get("web/app/manifests/1.0", 200)


@pytest.mark.parametrize("who", ["viewer", "reader"])
def test_head_requests_are_never_refused(docker, pushed, shut, who):
    make_report(pushed, BAD)
    shut("web", Severity.LOW)
    docker(who).head("web/app/manifests/1.0", 200)
    docker(who).get("web/app/manifests/1.0", 403)


def test_anonymous_pull_from_a_public_repository_is_refused(docker, world, shut):
    digest = docker("member").push("public/app", "1.0", scan_images.debian()).digest
    make_report(Manifest.objects.get(digest=digest), BAD)
    docker(None).get("public/app/manifests/1.0", 200)
    shut("public", Severity.CRITICAL)
    docker(None).get("public/app/manifests/1.0", 403)


@pytest.mark.parametrize(
    ("gate", "status"), [(Severity.NONE, 200), (Severity.CRITICAL, 200), (Severity.HIGH, 200), (Severity.LOW, 403)]
)
def test_only_findings_at_or_above_the_severity_are_refused(docker, pushed, shut, gate, status):
    make_report(pushed, BAD[-1:])
    shut("web", gate)
    docker("viewer").get("web/app/manifests/1.0", status)


def test_accepted_findings_pass_until_the_acceptance_ends(docker, pushed, shut, world):
    make_report(pushed, BAD[1:2])
    shut("web", Severity.HIGH)
    docker("viewer").get("web/app/manifests/1.0", 403)
    accepted = acceptances.accept(world.member.actor, world.projects["demo"], "CVE-2026-2", reason="not reachable")
    docker("viewer").get("web/app/manifests/1.0", 200)
    acceptances.withdraw(world.member.actor, accepted)
    docker("viewer").get("web/app/manifests/1.0", 403)


def test_pulled_platform_is_judged_not_the_index(docker, shut):
    index = scan_images.two_platforms()
    digest = docker("member").push("web/multi", "1.0", index).digest
    amd64, arm64 = (Manifest.objects.get(digest=part.manifest.digest) for part in index.images[:2])
    make_report(amd64, BAD)
    make_report(arm64, BAD[-1:])
    shut("web", Severity.HIGH)
    docker("viewer").get("web/multi/manifests/1.0", 200)
    docker("viewer").get(f"web/multi/manifests/{digest}", 200)
    docker("viewer").get(f"web/multi/manifests/{arm64.digest}", 200)
    docker("viewer").get(f"web/multi/manifests/{amd64.digest}", 403)


# ── Not scanned yet ──────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("hours", "age", "status"), [(None, 1000, 200), (24, 23, 200), (24, 25, 403), (0, 1, 403)])
def test_unscanned_images_have_a_grace_period(docker, pushed, shut, hours, age, status):
    Manifest.objects.update(pushed_at=timezone.now() - timedelta(hours=age))
    shut("web", Severity.CRITICAL, hours)
    answer = docker("viewer").get("web/app/manifests/1.0", status)
    if status == 403:
        assert "not been scanned" in answer.json()["errors"][0]["message"]


def test_artifacts_need_no_scan(docker, shut):
    docker("member").push("web/chart", "1.0", scan_images.helm_chart())
    docker("member").push("web/other", "1.0", Image())
    shut("web", Severity.CRITICAL, 0)
    docker("viewer").get("web/chart/manifests/1.0", 200)


def test_past_tags_are_judged(docker, pushed, shut):
    make_report(pushed, BAD)
    shut("web", Severity.HIGH)
    Tag.objects.update(started_at=timezone.now() - timedelta(hours=2))
    moment = timezone.now() - timedelta(hours=1)
    docker("viewer").get(f"web/app/manifests/1.0--at-{moment:%Y%m%dt%H%M%S}z", 403)


def test_blobs_and_lists_are_never_refused(docker, pushed, shut):
    make_report(pushed, BAD)
    shut("web", Severity.LOW)
    layer = scan_images.debian().layers[0].digest
    docker("viewer").get(f"web/app/blobs/{layer}", 200)
    assert docker("viewer").tags("web/app") == ["1.0"]


def test_repository_without_a_pull_policy_costs_no_queries(docker, pushed, shut, django_assert_num_queries):
    make_report(pushed, BAD[-1:])
    shut("web", Severity.CRITICAL, 1)
    client = docker("viewer")
    client.get("web/app/manifests/1.0", 200)
    with django_assert_num_queries(1):
        client.get("web/app/manifests/1.0", 200)


def test_pull_without_a_pull_policy_is_allowed(docker, pushed):
    assert pushed.media_type in media_types.MANIFESTS
    assert pushed.digest == sha256(bytes(pushed.content))
    docker("viewer").get("web/app/manifests/1.0", 200)
