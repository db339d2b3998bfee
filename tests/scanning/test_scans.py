"""Scans from push to result, with the real Trivy and hand-written databases."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from accounts.actors import SYSTEM
from registry import repositories, trash
from registry.models import Deletion, Event, Manifest, Severity
from scanning import findings, sboms, scans
from scanning.models import Component, Finding, Report, Sbom, Scan, ScanRound, SeverityDay
from scanning.models.scans import Problem
from scanning.trivy import program
from tests.support import scan_images
from tests.support.scan_images import (
    ALPINE_FINDINGS,
    DEBIAN_FINDINGS,
    FINDINGS,
    JAR_FINDINGS,
    NPM_FINDINGS,
    PYTHON_FINDINGS,
    TOMORROWS_FINDINGS,
)
from tests.support.vulnerability_db import FACTS, TOMORROW

from .conftest import TODAY, found_in, manifest_of, report_of

pytestmark = [pytest.mark.real, pytest.mark.django_db]

ALL = DEBIAN_FINDINGS | PYTHON_FINDINGS | NPM_FINDINGS | JAR_FINDINGS


@pytest.fixture
def push(docker, django_capture_on_commit_callbacks):
    """Push as a member. Return the digest."""

    def to_web(thing, tag="1.0", name="web/app"):
        with django_capture_on_commit_callbacks(execute=True):
            return docker("member").push(name, tag, thing).digest

    return to_web


# ── Findings ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_pushed_image_is_scanned_and_has_exactly_its_findings(scanner, push):
    scanner.load()
    image = scan_images.all_in_one()
    digest = push(image)
    assert [scan.state for scan in scanner.work()] == ["done"]
    assert found_in(digest) == ALL
    report = report_of(digest)
    by_severity = {name: sum(each.severity == name.upper() for each in ALL) for name in Report.COUNTS}
    assert {name: getattr(report, name) for name in Report.COUNTS} == by_severity
    assert report.fixable == sum(bool(each.fixed) for each in ALL)
    assert (report.state, report.system, report.problem) == ("scanned", "debian 12.5", "")
    assert report.database_at == TODAY
    assert manifest_of(digest).worst_severity == Severity.CRITICAL
    layers = {
        row.package.name: row.layer for row in Finding.objects.filter(manifest__digest=digest).select_related("package")
    }
    assert layers["libssl3"] == image.layers[0].digest
    assert layers["urllib3"] == image.layers[2].digest
    assert layers["lodash"] == image.layers[3].digest
    assert Component.objects.filter(manifest__digest=digest).count() == report.packages > 10
    event = Event.objects.get(action=Event.Action.SCAN_DONE)
    assert (event.actor, event.digest, event.detail["critical"]) == ("member@acme.test", digest, report.critical)


def test_downloaded_sbom_names_the_image_and_no_folder_of_the_machine(scanner, push):
    scanner.load()
    digest = push(scan_images.python())
    scanner.work()
    content = sboms.download(manifest_of(digest))
    component = json.loads(content)["metadata"]["component"]
    assert component["name"] == f"localhost:8080/demo/web/app@{digest}"
    encoded = digest.replace(":", "%3A")
    assert component["purl"] == f"pkg:oci/app@{encoded}?repository_url=localhost:8080/demo/web/app"
    assert str(scanner.folder).encode() not in content
    assert b"layout" not in content
    assert b"pkg:pypi/urllib3@1.26.4" in content


@pytest.mark.parametrize("build", [scan_images.alpine, scan_images.distroless, scan_images.jar])
def test_distroless_alpine_and_language_images_are_scanned(scanner, push, build):
    scanner.load()
    digest = push(build())
    scanner.work()
    assert found_in(digest) == FINDINGS[build]


@pytest.mark.parametrize("build", [scan_images.scratch, scan_images.zero_layers])
def test_image_without_packages_is_not_clean(scanner, push, build):
    scanner.load()
    digest = push(build())
    scanner.work()
    assert (report_of(digest).state, report_of(digest).total) == ("unrecognised", 0)


def test_end_of_life_system_is_reported(scanner, push):
    scanner.load()
    digest = push(scan_images.end_of_life())
    scanner.work()
    assert report_of(digest).is_end_of_life
    assert report_of(digest).system == "debian 9.5"


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (scan_images.helm_chart, "helm"),
        (scan_images.wasm, "wasm"),
        (lambda: scan_images.attestation(scan_images.debian()), "in-toto"),
        (lambda: scan_images.signature(scan_images.debian()), "simplesigning"),
    ],
)
def test_a_manifest_that_is_not_an_image_is_not_given_to_trivy(scanner, push, monkeypatch, build, why):
    monkeypatch.setattr(program, "make_sbom", lambda *_: pytest.fail("Trivy was started"))
    digest = push(build())
    assert not Scan.objects.exists()
    assert report_of(digest).state == "unsupported"
    assert why in report_of(digest).detail
    assert manifest_of(digest).worst_severity == Severity.NONE


def test_index_has_the_result_of_its_worst_platform(scanner, push):
    scanner.load()
    index = scan_images.two_platforms()
    digest = push(index)
    assert len(scanner.work()) == 2
    amd64, arm64, attestation = (part.manifest.digest for part in index.images)
    assert found_in(amd64) == DEBIAN_FINDINGS | PYTHON_FINDINGS
    assert found_in(arm64) == DEBIAN_FINDINGS | NPM_FINDINGS
    assert report_of(attestation).state == "unsupported"
    whole, worst = report_of(digest), report_of(arm64)
    assert (whole.critical, whole.high) == (worst.critical, worst.high) == (2, 4)
    assert (whole.state, whole.unknown_parts, whole.database_at) == ("scanned", 0, TODAY)
    assert manifest_of(digest).worst_severity is None


def test_platform_without_a_result_is_counted(scanner, push, world):
    scanner.load()
    digest = push(scan_images.two_platforms())
    first = scans.next_due()
    assert first is not None
    scans.run(first)
    assert report_of(digest).unknown_parts == 1
    scanner.work()
    assert report_of(digest).unknown_parts == 0


# ── Repeated scans ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_rescan_finds_the_new_vulnerability_without_reading_a_layer(scanner, push, monkeypatch):
    scanner.load()
    digest = push(scan_images.debian())
    scanner.work()
    scanner.load([*FACTS, TOMORROW], days=1)
    monkeypatch.setattr(program, "make_sbom", lambda *_: pytest.fail("a layer was read again"))
    assert scans.request_daily(timezone.now().replace(hour=23, minute=59)) == 1
    (scan,) = scanner.work()
    assert (scan.trigger, scan.new, scan.fixed) == (Scan.Trigger.DAILY, 2, 0)
    assert found_in(digest) == DEBIAN_FINDINGS | TOMORROWS_FINDINGS
    begun = Finding.objects.filter(since=scan).values_list("vulnerability__name", flat=True)
    assert set(begun) == {"CVE-2025-15467"}
    assert Finding.objects.as_of(Scan.objects.order_by("pk")[0]).count() == len(DEBIAN_FINDINGS)


def test_fixed_finding_ends(scanner, push):
    scanner.load([*FACTS, TOMORROW])
    digest = push(scan_images.debian())
    scanner.work()
    scanner.load(FACTS, days=1)
    scans.request([manifest_of(digest).pk], Scan.Trigger.MANUAL, "mina@acme.test")
    (scan,) = scanner.work()
    assert (scan.new, scan.fixed) == (0, 2)
    assert found_in(digest) == DEBIAN_FINDINGS
    assert Finding.objects.filter(until=scan).count() == 2


def test_rescan_with_the_same_result_writes_no_finding_and_no_event(scanner, push, django_assert_max_num_queries):
    scanner.load()
    digest = push(scan_images.debian())
    scanner.work()
    events = Event.objects.count()
    rows = list(Finding.objects.order_by("pk").values())
    scanner.load(days=1)
    scans.request_daily(timezone.now().replace(hour=23, minute=59))
    scan = scans.next_due()
    with django_assert_max_num_queries(14):
        scans.run(scan)
    assert list(Finding.objects.order_by("pk").values()) == rows
    assert Event.objects.count() == events
    assert report_of(digest).database_at == TODAY + timedelta(days=1)


def test_a_current_result_is_not_scanned_again(scanner, push):
    scanner.load()
    push(scan_images.debian())
    scanner.work()
    now = timezone.now().replace(hour=23, minute=59)
    assert scans.request_daily(now) == 0
    assert ScanRound.objects.get(project__name="demo").finished_at
    push(scan_images.debian(), tag="again")
    assert not Scan.objects.open().exists()


def test_daily_round_requests_tagged_images_of_repositories_with_scans(scanner, push, docker, world):
    repositories.update(SYSTEM, world.repository("fixed"), auto_scan=False)
    tagged = push(scan_images.debian())
    push(scan_images.python(), name="fixed/app")
    untagged = push(scan_images.npm(), tag="gone")
    docker("member").delete("web/app/manifests/gone", 202)
    Scan.objects.all().delete()
    scanner.load()
    later_today = timezone.now().replace(hour=23, minute=59)
    assert scans.request_daily(later_today) == 1
    assert scans.request_daily(later_today) == 0
    assert [scan.manifest.digest for scan in Scan.objects.open()] == [tagged]
    assert untagged != tagged


def test_worker_without_a_vulnerability_database_continues_the_daily_round(scanner, push, settings, tmp_path):
    """On Kubernetes, and on machines without a scanner, only scanners have the database."""
    scanner.load()
    push(scan_images.debian())
    scanner.work()
    scanner.load(days=1)
    now = timezone.now().replace(hour=23, minute=59)
    settings.SCAN_DIR = tmp_path / "elsewhere"
    assert scans.request_daily(now) == 1
    settings.SCAN_DIR = tmp_path
    scanner.work()
    settings.SCAN_DIR = tmp_path / "elsewhere"
    assert scans.request_daily(now + timedelta(days=1)) == 0, "the result is from the newest database"


def test_each_project_has_its_own_minute(scanner, world):
    scanner.load()
    project = world.projects["demo"]
    minute = scans.minute_of(project)
    midnight = timezone.now().replace(hour=0, minute=0, second=0)
    if minute:
        scans.request_daily(midnight + timedelta(minutes=minute - 1))
        assert not ScanRound.objects.filter(project=project).exists()
    scans.request_daily(midnight + timedelta(minutes=minute))
    assert ScanRound.objects.filter(project=project).exists()
    assert len({scans.minute_of(each) for each in world.projects.values()}) > 1


# ── The queue ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_scan_requested_twice_runs_once_and_sooner(scanner, push):
    digest = push(scan_images.debian())
    manifest = manifest_of(digest).pk
    first = scans.request([manifest], Scan.Trigger.DAILY, "system")
    assert scans.request([manifest], Scan.Trigger.MANUAL, "mina@acme.test") == first
    assert Scan.objects.get().trigger == Scan.Trigger.MANUAL


def test_repeated_task_changes_nothing(scanner, push):
    scanner.load()
    push(scan_images.debian())
    due = scans.next_due()
    assert scans.run(due)
    ended = Scan.objects.values().get()
    assert not scans.run(due)
    assert Scan.objects.values().get() == ended


def test_running_scan_is_not_taken_by_another_worker(scanner, push):
    push(scan_images.debian())
    due = scans.next_due()
    Scan.objects.update(state="running", attempts=1, lease_until=timezone.now() + timedelta(minutes=1))
    assert scans.next_due() is None
    assert not scans.run(due)


def test_scan_of_a_lost_worker_is_taken_over(scanner, push):
    scanner.load()
    digest = push(scan_images.debian())
    Scan.objects.update(state="running", attempts=1, lease_until=timezone.now() - timedelta(seconds=1))
    (scan,) = scanner.work()
    assert (scan.state, scan.attempts) == ("done", 2)
    assert found_in(digest) == DEBIAN_FINDINGS


def test_a_scan_that_loses_every_worker_fails_with_its_reason(scanner, push):
    digest = push(scan_images.debian())
    Scan.objects.update(state="running", attempts=scans.MAX_ATTEMPTS, lease_until=timezone.now() - timedelta(seconds=1))
    assert not scans.run(scans.next_due())
    assert Scan.objects.get().problem == report_of(digest).problem == Problem.WORKER_LOST
    assert scans.next_due() is None


def test_late_result_of_a_lost_worker_is_not_written(scanner, push, monkeypatch):
    scanner.load()
    digest = push(scan_images.debian())
    real = program.make_report

    def slow(*arguments):
        Scan.objects.update(attempts=7)  # another worker has taken the scan
        return real(*arguments)

    monkeypatch.setattr(program, "make_report", slow)
    assert not scans.run(scans.next_due())
    assert not Finding.objects.exists()
    assert not Report.objects.filter(manifest__digest=digest).exists()


@pytest.mark.parametrize("whole", ["digest", "image", "repository"])
def test_digest_deleted_during_its_scan_is_scanned_after_recovery(
    scanner, push, docker, world, whole, django_capture_on_commit_callbacks
):
    scanner.load()
    digest = push(scan_images.debian())
    if whole == "digest":
        docker("member").delete(f"web/app/manifests/{digest}", 202)
    elif whole == "image":
        trash.delete_images(world.member.actor, world.repository("web"), ["app"])
    else:
        trash.delete_repository(world.member.actor, world.repository("web"))
    (scan,) = scanner.work()
    assert (scan.state, scan.problem) == ("failed", Problem.GONE)
    assert not Report.objects.exists(), "nothing is known of it, and nothing failed"

    with django_capture_on_commit_callbacks(execute=True):
        trash.restore(world.member.actor, [Deletion.objects.get().pk])
    scanner.work()
    assert found_in(digest) == DEBIAN_FINDINGS
    assert Scan.objects.filter(trigger=Scan.Trigger.PUSH).count() == 2


# ── Failures ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_missing_database_is_reported_and_scans_start_with_one(scanner, push):
    digest = push(scan_images.debian())
    (scan,) = scanner.work()
    assert (scan.state, scan.problem) == ("failed", Problem.DATABASE_MISSING)
    assert (report_of(digest).state, report_of(digest).problem) == ("failed", Problem.DATABASE_MISSING)
    assert Component.objects.filter(manifest__digest=digest, package__name="libssl3").exists()
    assert manifest_of(digest).worst_severity is None
    scanner.load()
    assert len(scans.retry_for_database()) == 1
    scanner.work()
    assert (report_of(digest).problem, found_in(digest)) == ("", DEBIAN_FINDINGS)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "gone"])
def test_broken_database_is_reported(scanner, push, damage):
    path = scanner.load().folder / "db" / "trivy.db"
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"\0" * len(content))
    digest = push(scan_images.debian())
    (scan,) = scanner.work()
    assert scan.problem == (Problem.DATABASE_MISSING if damage == "gone" else Problem.DATABASE_BROKEN)
    assert report_of(digest).state == "failed"


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (scan_images.broken_tar, Problem.DAMAGED),
        (scan_images.truncated_gzip, Problem.DAMAGED),
        (scan_images.config_not_json, Problem.DAMAGED),
        (scan_images.bomb, Problem.DISK),
    ],
)
def test_hostile_images_fail_with_their_problem_and_are_never_clean(scanner, push, monkeypatch, build, problem):
    monkeypatch.setattr(program, "FILE_BYTES", 64 * 1024**2)
    scanner.load()
    digest = push(build())
    (scan,) = scanner.work()
    assert (scan.state, scan.problem) == ("failed", problem), scan.detail
    assert scan.detail
    assert str(scanner.folder) not in scan.detail
    assert (report_of(digest).state, manifest_of(digest).worst_severity) == ("failed", None)
    assert list((scanner.folder / "scanning").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("failed to get the layer (sha256:ab): mismatched fs layers (2) and diff ids (1)", Problem.DAMAGED),
        ("unable to get the image's config: something new", Problem.DAMAGED),
        ("open layout/blobs/sha256/ab: permission denied", Problem.OTHER),
        ("write tmp/1: no space left on device", Problem.DISK),
    ],
)
def test_failure_of_trivy_while_reading_an_image_is_a_problem_of_the_image(words, problem):
    said = f"2026-11-27T03:52:39Z\tFATAL\tFatal error\trun error: image scan error: failed analysis: {words}\n"
    assert program._failure(1, said, Path("/work")).problem == problem


def test_limit_applies_to_many_files_together(scanner, push, monkeypatch):
    monkeypatch.setattr(program, "DISK_BYTES", 256 * 1024**2)
    scanner.load()
    push(scan_images.bombs(number=8, mebibytes=100))
    (scan,) = scanner.work()
    assert (scan.state, scan.problem) == ("failed", Problem.DISK)
    assert "temporary files" in scan.detail


def test_package_with_a_huge_name_stays_within_the_memory_limit(scanner, push):
    scanner.load()
    digest = push(scan_images.memory_bomb())
    (scan,) = scanner.work()
    assert (scan.state, scan.problem) == ("failed", Problem.MEMORY)
    assert "out of memory" in scan.detail or "cannot allocate memory" in scan.detail  # Go's two wordings
    assert report_of(digest).state == "failed"


def test_layer_with_a_false_diff_id_does_not_affect_other_images(scanner, push):
    scanner.load()
    evil = push(scan_images.poisoned(), tag="evil")
    good = push(scan_images.python(), tag="good")
    scanner.work()
    assert found_in(good) == PYTHON_FINDINGS
    assert found_in(evil) == DEBIAN_FINDINGS


def test_unusual_images_are_scanned(scanner, push):
    scanner.load()
    archive = push(scan_images.jar_not_a_zip(), tag="jar")
    strange = push(scan_images.strange_members(), tag="strange")
    scanner.work()
    assert found_in(archive) == PYTHON_FINDINGS
    assert found_in(strange) == DEBIAN_FINDINGS


def test_image_with_fifty_thousand_packages_is_scanned(scanner, push):
    scanner.load()
    digest = push(scan_images.many_packages())
    (scan,) = scanner.work()
    assert (scan.state, scan.problem) == ("done", ""), scan.detail
    assert found_in(digest) == DEBIAN_FINDINGS
    assert Component.objects.filter(manifest__digest=digest).count() == 50_006


def test_timeout_is_reported(scanner, push, monkeypatch):
    scanner.load()
    push(scan_images.debian())
    monkeypatch.setattr(program, "SECONDS", 0)
    monkeypatch.setattr(program, "TURN", 0.005)
    (scan,) = scanner.work()
    assert scan.problem == Problem.TIMEOUT


def test_killed_scan_is_reported_and_can_be_retried(scanner, push, monkeypatch):
    scanner.load()
    digest = push(scan_images.debian())
    assert program.version()  # the version is read once a process, before the kill
    assert program.isolation()
    killed = program.subprocess.Popen

    def and_kill(*arguments, **options):
        process = killed(*arguments, **options)
        process.kill()
        return process

    monkeypatch.setattr(program.subprocess, "Popen", and_kill)
    (scan,) = scanner.work()
    assert (scan.state, scan.problem) == ("failed", Problem.KILLED)
    monkeypatch.undo()
    scanner_settings(scanner)
    scans.request([manifest_of(digest).pk], Scan.Trigger.MANUAL, "mina@acme.test")
    assert [scan.state for scan in scanner.work()] == ["done"]
    assert (report_of(digest).problem, found_in(digest)) == ("", DEBIAN_FINDINGS)


def scanner_settings(scanner) -> None:
    """Return the settings of the scanner fixture, which monkeypatch.undo would also undo."""
    from django.conf import settings

    settings.DATA_DIR = settings.SCAN_DIR = scanner.folder


def test_missing_bytes_are_reported(scanner, push, storage_folder):
    image = scan_images.debian()
    digest = push(image)
    for path in (storage_folder / "blobs").glob("*/*"):
        if path.read_bytes() == image.layers[0]:
            path.unlink()
    (scan,) = scanner.work()
    assert scan.problem == report_of(digest).problem == Problem.BYTES_MISSING


def test_later_failure_keeps_the_result_and_its_age(scanner, push):
    database_used = scanner.load()
    digest = push(scan_images.debian())
    scanner.work()
    (database_used.folder / "db" / "trivy.db").write_bytes(b"broken")
    scans.request([manifest_of(digest).pk], Scan.Trigger.MANUAL, "mina@acme.test")
    scanner.work()
    report = report_of(digest)
    assert (report.state, report.problem, report.database_at) == ("scanned", Problem.DATABASE_BROKEN, TODAY)
    assert report.critical == 1
    assert manifest_of(digest).worst_severity == Severity.CRITICAL


def test_trivy_gets_no_secret_of_the_installation(scanner, push, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "very secret")
    monkeypatch.setenv("TRIVY_SEVERITY", "LOW")
    started = []
    popen = program.subprocess.Popen
    monkeypatch.setattr(
        program.subprocess,
        "Popen",
        lambda *arguments, **options: started.append(options) or popen(*arguments, **options),
    )
    scanner.load()
    digest = push(scan_images.debian())
    scanner.work()
    assert found_in(digest) == DEBIAN_FINDINGS
    assert {name for options in started for name in options["env"]} == {"PATH", "HOME", "TMPDIR"}


# ── Versions, statistics and pruning ─────────────────────────────────────────────────────────────────────────────────
def test_new_version_of_trivy_reads_the_layers_again(scanner, push, monkeypatch):
    scanner.load()
    digest = push(scan_images.debian())
    scanner.work()
    monkeypatch.setattr(program, "version", lambda: "99.0.0")
    assert scans.request_daily(timezone.now().replace(hour=23, minute=59)) == 1
    scanner.work()
    assert Sbom.objects.get(manifest__digest=digest).tool_version == "99.0.0"


def test_severities_are_recorded_by_day(scanner, push, world):
    scanner.load()
    push(scan_images.debian())
    push(scan_images.debian(), tag="again")
    push(scan_images.helm_chart(), tag="chart")
    scanner.work()
    now = timezone.now()
    assert findings.record_day(now) == 1
    assert findings.record_day(now) == 1
    day = SeverityDay.objects.get()
    assert (day.tags, day.scanned, day.critical) == (2, 2, 2)


def test_old_scans_are_pruned_except_those_of_current_findings(scanner, push):
    scanner.load()
    digest = push(scan_images.debian())
    scanner.work()
    for _ in range(3):
        scans.request([manifest_of(digest).pk], Scan.Trigger.MANUAL, "mina@acme.test")
        scanner.work()
    assert scans.forget_old(timezone.now() + timedelta(days=scans.KEPT_DAYS, minutes=5)) == 3
    assert found_in(digest) == DEBIAN_FINDINGS


def test_purge_deletes_the_results_of_scans(scanner, push, docker):
    from registry import trash
    from registry.models import Deletion

    scanner.load()
    digest = push(scan_images.debian())
    scanner.work()
    docker("member").delete(f"web/app/manifests/{digest}", 202)
    trash.purge_now(SYSTEM, Deletion.objects.get())
    assert not Manifest.objects.exists()
    for table in (Finding, Report, Scan, Sbom, Component):
        assert not table.objects.exists()


def test_findings_of_alpine_and_debian_are_kept_apart(scanner, push):
    scanner.load()
    debian, alpine = push(scan_images.debian(), tag="debian"), push(scan_images.alpine(), tag="alpine")
    scanner.work()
    assert (found_in(debian), found_in(alpine)) == (DEBIAN_FINDINGS, ALPINE_FINDINGS)
