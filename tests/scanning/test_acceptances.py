"""Risk acceptances: their scope, their end, and the counts."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from registry import trash
from registry.errors import RequestInvalid
from registry.models import Event, Manifest, Severity
from registry.oci.names import ImageName
from scanning import acceptances, findings, tasks
from scanning.models import Acceptance, Finding, Report
from tests.support import scan_images
from tests.support.factories import found, make_index, make_manifest, make_report

pytestmark = pytest.mark.django_db

ONE = found("CVE-2026-1", severity=Severity.CRITICAL)
OTHER = found("CVE-2026-1", severity=Severity.CRITICAL, package="curl")
FIXABLE = found("CVE-2026-2", severity=Severity.HIGH, fixed="1.1")


@pytest.fixture
def push(docker):
    """Push an image, whose content differs by repository. Return its manifest."""

    def make(name="web/app"):
        digest = docker("member").push(name, "1.0", scan_images.debian()).digest
        return Manifest.objects.get(digest=digest, image__path=f"demo/{name}")

    return make


@pytest.fixture
def accept(world):
    """Accept a vulnerability in the project, or in ``repository``."""

    def make(name, **options):
        options = {"reason": "no way to reach it"} | options
        where = options.pop("repository", world.projects["demo"])
        return acceptances.accept(world.member.actor, where, name, **options)

    return make


def counts(manifest: Manifest) -> tuple[int, int, int]:
    report = Report.objects.get(manifest=manifest)
    return report.critical, report.high, report.accepted


def risk_summary(manifest: Manifest) -> dict[str, object]:
    return Manifest.objects.get(pk=manifest.pk).risk_summary


def test_accepted_findings_are_counted_apart_and_stay_visible(push, accept, world):
    manifest = push()
    make_report(manifest, [ONE, FIXABLE])
    assert counts(manifest) == (1, 1, 0)
    assert risk_summary(manifest) == {"vulnerabilities": ["CVE-2026-1", "CVE-2026-2"], "total": 2}
    made = accept("CVE-2026-1")
    assert counts(manifest) == (0, 1, 1)
    assert risk_summary(manifest) == {"vulnerabilities": ["CVE-2026-2"], "total": 1}
    rows = Finding.objects.current().filter(manifest=manifest).with_acceptance(timezone.now())
    assert {row.vulnerability.name: row.acceptance for row in rows} == {"CVE-2026-1": made.pk, "CVE-2026-2": None}
    assert Manifest.objects.get(pk=manifest.pk).worst_severity == Severity.HIGH
    event = Event.objects.get(action=Event.Action.VULNERABILITY_ACCEPT)
    assert (event.actor, event.detail["vulnerability"], event.detail["reason"]) == (
        world.member.user.email,
        "CVE-2026-1",
        "no way to reach it",
    )


def test_withdrawn_acceptance_reopens_the_finding_once(push, accept, world):
    manifest = push()
    make_report(manifest, [ONE])
    made = accept("CVE-2026-1")
    assert acceptances.withdraw(world.admin.actor, made)
    assert not acceptances.withdraw(world.admin.actor, made)
    assert counts(manifest) == (1, 0, 0)
    assert risk_summary(manifest) == {"vulnerabilities": ["CVE-2026-1"], "total": 1}
    assert Event.objects.filter(action=Event.Action.VULNERABILITY_WITHDRAW).count() == 1


def test_acceptance_covers_one_package_or_all(push, accept):
    manifest = push()
    make_report(manifest, [ONE, OTHER])
    accept("CVE-2026-1", package="curl")
    assert counts(manifest) == (1, 0, 1)
    accept("CVE-2026-1")
    assert counts(manifest) == (0, 0, 2)


def test_acceptance_covers_one_repository_or_the_project(push, accept, world):
    here, there = push("web/app"), push("fixed/app")
    for manifest in (here, there):
        make_report(manifest, [ONE])
    accept("CVE-2026-1", repository=world.repository("web"))
    assert (counts(here), counts(there)) == ((0, 0, 1), (1, 0, 0))
    accept("CVE-2026-1")
    assert counts(there) == (0, 0, 1)


def test_acceptance_of_unfixed_findings_ends_with_a_fix(push, accept):
    manifest = push()
    make_report(manifest, [ONE])
    accept("CVE-2026-1")
    make_report(manifest, [found("CVE-2026-1", severity=Severity.CRITICAL, fixed="1.2")])
    assert counts(manifest) == (1, 0, 0)


def test_accepting_a_fixed_finding_needs_the_known_fix(push, accept):
    manifest = push()
    make_report(manifest, [FIXABLE])
    with pytest.raises(RequestInvalid):
        accept("CVE-2026-2")
    accept("CVE-2026-2", covers_fixed=True)
    make_report(manifest, [FIXABLE, ONE])
    assert counts(manifest) == (1, 0, 1)


def test_deleted_manifests_are_ignored_when_accepting(push, accept, world):
    gone, here = push(), push("web/other")
    make_report(gone, [ONE])
    make_report(here, [found("CVE-2026-1", severity=Severity.CRITICAL, fixed="1.2")])
    trash.delete_references(world.member.actor, world.repository("web"), ImageName("demo", "web", "app"), [gone.digest])
    with pytest.raises(RequestInvalid, match="found nowhere"):
        accept("CVE-2026-1")
    accept("CVE-2026-1", covers_fixed=True)
    assert counts(here) == (0, 0, 1)


def test_acceptance_covers_later_pushes(push, accept, docker):
    make_report(push(), [ONE])
    accept("CVE-2026-1")
    later = push("web/later")
    make_report(later, [ONE])
    assert counts(later) == (0, 0, 1)


def test_acceptance_ends_at_its_date(push, accept):
    manifest = push()
    make_report(manifest, [ONE])
    now = timezone.now()
    accept("CVE-2026-1", expires_at=now + timedelta(days=1))
    assert Report.objects.get(manifest=manifest).recount_at == now + timedelta(days=1)
    assert tasks.recount() == 0
    Acceptance.objects.update(expires_at=now - timedelta(seconds=1))
    Report.objects.update(recount_at=now - timedelta(seconds=1))
    assert tasks.recount() == 1
    assert counts(manifest) == (1, 0, 0)
    assert tasks.recount() == 0


def test_longest_acceptance_counts(push, accept):
    manifest = push()
    make_report(manifest, [ONE])
    accept("CVE-2026-1", expires_at=timezone.now() + timedelta(days=1))
    accept("CVE-2026-1")
    Acceptance.objects.exclude(expires_at=None).update(expires_at=timezone.now() - timedelta(seconds=1))
    findings.recount(Report.objects.all())
    assert counts(manifest) == (0, 0, 1)


def test_acceptance_does_not_affect_another_project(push, accept, docker, world):
    here = push()
    outsider = docker("outsider", host="rival.kr-central-2.kcr.localhost:8080")
    foreign = Manifest.objects.get(digest=outsider.push("rivals/app", "1.0", scan_images.python()).digest)
    for manifest in (here, foreign):
        make_report(manifest, [ONE])
    accept("CVE-2026-1")
    assert (counts(here), counts(foreign)) == ((0, 0, 1), (1, 0, 0))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"reason": "  "}, "say why"),
        ({"reason": "x" * 501}, "say why"),
        ({"expires_at": "past"}, "already passed"),
        ({"package": "nothing"}, "found nowhere"),
    ],
)
def test_invalid_acceptances_are_refused(push, accept, options, why):
    make_report(push(), [ONE])
    if "expires_at" in options:
        options = {"expires_at": timezone.now() - timedelta(days=1)}
    with pytest.raises(RequestInvalid, match=why):
        accept("CVE-2026-1", **options)
    assert not Acceptance.objects.exists()


def test_counts_are_computed_under_the_lock_of_their_report(push, accept):
    """Otherwise an acceptance that ends during the count would be counted for ever."""
    manifest = push()
    make_report(manifest, [ONE])
    with CaptureQueriesContext(connection) as queries:
        findings.recount(Report.objects.filter(manifest=manifest))
    said = [query["sql"] for query in queries]
    begun = next(number for number, sql in enumerate(said) if sql.startswith("SAVEPOINT"))
    counted = next(number for number, sql in enumerate(said) if "COUNT(" in sql)
    locked = [number for number, sql in enumerate(said) if 'FROM "scanning_report"' in sql and "critical" in sql]
    assert begun < locked[0] < counted
    if connection.features.has_select_for_update:
        assert "FOR NO KEY UPDATE" in said[locked[0]]


def test_reports_are_made_due_in_one_order(push, accept):
    """Otherwise an acceptance and a count that lock the same reports could wait for each other."""
    make_report(push(), [ONE])
    with CaptureQueriesContext(connection) as queries:
        accept("CVE-2026-1")
    (due,) = [sql for each in queries if (sql := each["sql"]).startswith('UPDATE "scanning_report" SET "recount_at"')]
    assert "ORDER BY" in due
    if connection.features.has_select_for_update:
        assert "FOR NO KEY UPDATE" in due


# ── Many reports ─────────────────────────────────────────────────────────────────────────────────────────────────────
def make_reports(world, number: int) -> list[Manifest]:
    """Scan so many new manifests; two at a time are the platforms of an index. Return these."""
    web, start = world.repository("web"), Manifest.objects.count()
    made = [make_manifest(web, f"{start + each}") for each in range(number)]
    for manifest in made:
        make_report(manifest, [ONE, OTHER, FIXABLE])
    for pair in zip(made[::2], made[1::2], strict=False):
        index = make_index(*pair)
        findings.refresh_index(index.pk)
    return made


def test_number_of_queries_does_not_grow_with_the_reports(world, accept):
    def asked() -> list[int]:
        numbers = []
        made = accept("CVE-2026-1")
        for act in (
            lambda: acceptances.withdraw(world.admin.actor, made),
            lambda: acceptances.restore(world.admin.actor, Acceptance.objects.get()),
            lambda: acceptances.withdraw(world.admin.actor, Acceptance.objects.get()),
            lambda: accept("CVE-2026-1"),
            lambda: due.update(recount_at=timezone.now()) and tasks.recount(),
        ):
            with CaptureQueriesContext(connection) as queries:
                act()
            numbers.append(len(queries))
        Acceptance.objects.all().delete()
        return numbers

    due = Report.objects.exclude(manifest__media_type__contains="index")
    make_reports(world, 5)
    asked()  # what is read once is known afterwards
    few = asked()
    make_reports(world, 45)
    assert asked() == few
    assert max(few) < 40


def test_request_counts_a_batch_and_the_task_the_others(world, accept, monkeypatch):
    monkeypatch.setattr(findings, "BATCH", 2)
    made = make_reports(world, 5)
    accept("CVE-2026-1")
    assert [counts(each) for each in made] == [(2, 1, 0)] * 3 + [(0, 1, 2)] * 2
    assert tasks.recount() == 3
    assert {counts(each) for each in made} == {(0, 1, 2)}
    assert {counts(each) for each in Manifest.objects.filter(media_type__contains="index")} == {(0, 1, 2)}
    assert tasks.recount() == 0


class Killed(BaseException):
    """The process ends."""


@pytest.mark.parametrize("change", ["accept", "withdraw", "restore", "scan"])
def test_counts_of_a_process_that_was_killed_are_made_by_the_task(world, accept, monkeypatch, change):
    (manifest,) = make_reports(world, 1)
    changes = {
        "accept": lambda: accept("CVE-2026-1"),
        "withdraw": lambda: acceptances.withdraw(world.admin.actor, Acceptance.objects.get()),
        "restore": lambda: acceptances.restore(world.admin.actor, Acceptance.objects.get()),
        "scan": lambda: make_report(manifest, [FIXABLE]),
    }
    for before in {"withdraw": ["accept"], "restore": ["accept", "withdraw"]}.get(change, []):
        changes[before]()
    old = counts(manifest)

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(findings, "_recount", kill)
        with pytest.raises(Killed):
            changes[change]()
    assert counts(manifest) == old
    if change == "scan":
        changes[change]()  # another worker takes the scan, and finds the same as the first
    assert tasks.recount() == 1
    new = {"accept": (0, 1, 2), "withdraw": (2, 1, 0), "restore": (0, 1, 2), "scan": (0, 1, 0)}[change]
    assert counts(manifest) == new


def test_acceptance_counts_in_a_repository_that_is_restored(push, accept, world):
    gone, here = push("fixed/app"), push()
    for manifest in (gone, here):
        make_report(manifest, [ONE])
    deletion = trash.delete_repository(world.admin.actor, world.repository("fixed"))
    accept("CVE-2026-1")
    trash.restore(world.admin.actor, [deletion.pk])
    assert counts(gone) == (0, 0, 1)


def said_of(report: Report) -> dict[str, Any]:
    """Return the stored sums of a report."""
    sums = {name: getattr(report, name) for name in (*Report.COUNTS, "fixable", "accepted", "recount_at")}
    return sums | {"worst": report.manifest.worst_severity, "risks": report.manifest.risk_summary}


def expected_of(report: Report) -> dict[str, Any]:
    """Return what the sums of a report must be, counted finding by finding."""
    now, repository = timezone.now(), report.manifest.image.repository
    sums: dict[str, Any] = dict.fromkeys((*Report.COUNTS, "fixable", "accepted"), 0)
    ends, names = [], dict[str, None]()
    rows = Finding.objects.current().filter(manifest=report.pk).select_related("vulnerability", "package")
    for row in rows.order_by("-severity", "pk"):
        covering = [
            each
            for each in Acceptance.objects.filter(project=repository.project, vulnerability=row.vulnerability.name)
            if each.withdrawn_at is None
            and (each.expires_at is None or each.expires_at > now)
            and each.repository_id in {None, repository.pk}
            and each.package in {"", row.package.name}
            and (each.covers_fixed or not row.fixed_version)
        ]
        if covering:
            sums["accepted"] += 1
            ends += [each.expires_at for each in covering if each.expires_at]
        else:
            sums[Severity(row.severity).name.lower()] += 1
            sums["fixable"] += bool(row.fixed_version)
            names[row.vulnerability.name] = None
    worst = next((Severity[name.upper()] for name in Report.COUNTS if sums[name]), Severity.NONE)
    risks: dict[str, Any] = {"vulnerabilities": list(names)[:3], "total": len(names)}
    if report.state == Report.State.UNCOVERED:
        risks |= {"worst_severity": int(worst), "uncovered": report.system}
    known = None if report.state == Report.State.UNCOVERED else worst
    return sums | {"recount_at": min(ends, default=None), "worst": known, "risks": risks}


@pytest.mark.parametrize("seed", range(6))
def test_many_reports_are_counted_like_one_by_one(world, seed):
    chance = random.Random(seed)
    severities = {f"CVE-2026-{number}": chance.choice(list(Severity)[1:]) for number in range(12)}
    homes = [world.repository(name) for name in ("web", "fixed", "rivals")]
    packages = ("openssl", "curl", "zlib1g")
    for number in range(14):
        rows = [
            found(name, package, severity=severity, fixed=chance.choice(["", "1.2"]), path=path)
            for name, severity in severities.items()
            for package, path in ((chance.choice(packages), ""), (chance.choice(packages), "app/lib"))
            if chance.random() < number / 13
        ]
        make_report(make_manifest(chance.choice(homes), f"{number}"), rows, is_covered=number % 5 > 0)
    now = timezone.now()
    for _ in range(30):
        home = chance.choice(homes)
        Acceptance.objects.create(
            project=home.project,
            repository=chance.choice([None, home]),
            vulnerability=chance.choice(sorted(severities)),
            package=chance.choice(["", *packages]),
            covers_fixed=chance.random() < 0.5,
            expires_at=chance.choice([None, now - timedelta(days=1), now + timedelta(days=chance.randrange(1, 9))]),
            withdrawn_at=chance.choice([None, None, now]),
            reason="none",
        )
    reports = Report.objects.select_related("manifest__image__repository__project")
    findings.recount(reports.all())
    at_once = {report.pk: said_of(report) for report in reports.all()}
    assert at_once == {report.pk: expected_of(report) for report in reports.all()}
    assert any(said["accepted"] for said in at_once.values())
    for pk in at_once:
        findings.recount(Report.objects.filter(pk=pk))
    assert {report.pk: said_of(report) for report in reports.all()} == at_once


# ── OpenVEX ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_openvex_document_lists_acceptances(push, accept, world):
    manifest = push()
    make_report(manifest, [ONE, FIXABLE])
    accept("CVE-2026-1", justification="vulnerable_code_not_in_execute_path", reason="never called")
    accept("CVE-2026-2", reason="mended next week", covers_fixed=True)
    document = json.loads(acceptances.as_file(acceptances.openvex(world.projects["demo"])))
    assert document["@context"] == "https://openvex.dev/ns/v0.2.0"
    first, second = document["statements"]
    product = f"pkg:oci/app@{manifest.digest.replace(':', '%3A')}?repository_url=localhost:8080/demo/web/app"
    assert first["vulnerability"] == {"name": "CVE-2026-1"}
    assert first["products"] == [{"@id": product}]
    assert (first["status"], first["justification"], first["impact_statement"]) == (
        "not_affected",
        "vulnerable_code_not_in_execute_path",
        "never called",
    )
    assert (second["status"], second["action_statement"]) == ("affected", "mended next week")
    assert acceptances.openvex(world.projects["demo"], world.repository("fixed"))["statements"][0]["products"] == []
    make_report(manifest, [found("CVE-2026-1", severity=Severity.CRITICAL, fixed="1.2"), FIXABLE])
    void, holding = acceptances.openvex(world.projects["demo"])["statements"]
    assert (void["products"], holding["products"]) == ([], [{"@id": product}])
