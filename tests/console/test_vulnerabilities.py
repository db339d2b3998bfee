"""Pages of scans: states, lists, acceptances, downloads, the scan queue and permissions."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from registry.models import Event, Manifest, Repository, Severity, Tag
from scanning import acceptances, findings
from scanning.models import Acceptance, DatabaseRefresh, Report, Scan, SeverityDay
from scanning.models.scans import Problem
from scanning.trivy.report import PackageName
from tests.support import scan_images
from tests.support.factories import found, make_report
from tests.support.pages import see, walk

APP = ["demo", "web", "app"]


def page(browser, name="vulnerabilities", reference="1.0", **query) -> str:
    answer = browser.get(reverse(f"console:{name}", args=[*APP, reference]), query)
    assert answer.status_code == 200
    return answer.content.decode()


def rows(text: str) -> list[str]:
    """Return the vulnerabilities of a table in their order."""
    return re.findall(r'<td class="name">\s*(?:<a [^>]*>)?([A-Z]+-[\w-]+)', text)


def manifest_of(digest: str) -> Manifest:
    return Manifest.objects.select_related("image__repository__project").get(digest=digest)


@pytest.fixture
def first(pushed) -> Manifest:
    return manifest_of(pushed["first"])


@pytest.fixture
def member(console):
    return console("member")


# ── States ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def badge(browser, name="1.0") -> str:
    """Return the badge of a tag in the list of tags."""
    text = browser.get(reverse("console:image", args=APP)).content.decode()
    row = next(row for row in text.split("<tr>") if f">{name}</a>" in row)
    cell = row.split('data-label="Vulnerabilities"')[1].split("</td>")[0]
    return " ".join(re.sub(r"<[^>]+>", " ", cell.partition(">")[2]).split())


def test_unscanned_image_shows_no_result(member, first):
    assert "Nothing is known of what is in it. That is not the same as safe." in page(member)
    assert badge(member) == "Not scanned"


@pytest.mark.parametrize(("state", "words"), [("waiting", "Waiting for a worker"), ("running", "Scanning")])
def test_waiting_and_running_scans_are_shown(member, first, state, words):
    more = {"started_at": timezone.now(), "lease_until": timezone.now()} if state == "running" else {}
    Scan.objects.create(
        manifest=first, project=first.image.repository.project, state=state, trigger=0, requested_by="mina", **more
    )
    text = page(member)
    assert words in text
    assert 'hx-trigger="every 2s"' in text
    assert "mina" in text
    assert badge(member) == {"waiting": "Scan waiting", "running": "Scanning"}[state]


def test_polling_page_reloads_when_the_scan_is_done(member, first):
    there, headers = reverse("console:vulnerabilities", args=[*APP, "1.0"]), {"HX-Request": "true"}
    scan = Scan.objects.create(manifest=first, project=first.image.repository.project, trigger=0, requested_by="mina")
    assert "HX-Refresh" not in member.get(there, headers=headers | {"HX-Target": "scan-state"}).headers
    Scan.objects.filter(pk=scan.pk).update(state="done")
    assert member.get(there, headers=headers | {"HX-Target": "scan-state"}).headers["HX-Refresh"] == "true"
    assert "HX-Refresh" not in member.get(there, headers=headers | {"HX-Target": "list"}).headers


@pytest.mark.parametrize("problem", Problem.values)
def test_failed_scan_shows_reason_and_next_step(member, console, first, problem):
    from console.templatetags.scans import problem_hint, problem_words

    Report.objects.create(manifest=first, state="failed", problem=problem, detail="the last words")
    text = page(member)
    for words in (problem_words(problem), problem_hint(problem), "the last words", "Retry</button>"):
        assert words.replace("'", "&#x27;") in text
    assert badge(member) == "Scan failed"
    assert "Retry</button>" not in page(console("reader"))


def test_a_later_failure_does_not_hide_the_result(member, first):
    make_report(first, [found()])
    Report.objects.update(problem="timeout")
    text = page(member)
    assert "The last scan failed; the result below is from an earlier scan" in text
    assert rows(text) == ["CVE-2026-1000"]
    assert "the last scan failed" in member.get(reverse("console:image", args=APP)).content.decode()


def test_unsupported_and_unrecognised_are_not_clean(member, first):
    Report.objects.create(manifest=first, state="unsupported", detail="not a container image, but a chart")
    assert "not a container image, but a chart" in page(member)
    assert badge(member) == "Unsupported"
    make_report(first, system="")
    text = page(member)
    assert "No packages found. That is not the same as no vulnerabilities." in text
    assert "None found" not in text
    assert badge(member) == "No packages found"


def test_clean_is_shown_only_for_a_fresh_and_complete_scan(member, first):
    held = [PackageName("debian", "bash", "5")]
    make_report(first, packages=held)
    text = page(member)
    assert "None found" in text
    assert "note good" in text
    assert badge(member) == "None found"
    make_report(first, packages=held, database_at=timezone.now() - timedelta(days=4))
    text = page(member)
    assert "Out of date: this result is from a vulnerability database made" in text
    assert "note good" not in text
    assert badge(member) == "None found Out of date"
    make_report(first, packages=held)
    Report.objects.update(unknown_parts=1)
    assert badge(member) == "Known in part"


def test_newer_database_and_end_of_life_are_shown(member, first):
    make_report(first, [found()], system="debian 8.11", is_end_of_life=True)
    assert "the vulnerability database is newer" not in page(member)
    DatabaseRefresh.objects.create(source="", updated_at=timezone.now() - timedelta(hours=1))
    text = page(member)
    assert "the vulnerability database is newer" in text
    assert "debian 8.11 has reached its end of life" in text


@pytest.fixture
def alone(first) -> Manifest:
    """Create a manifest with the only tag of the project."""
    Tag.objects.live().exclude(manifest=first).update(ended_at=timezone.now())
    return first


def test_system_that_is_not_covered_is_never_clean(member, alone):
    held = [PackageName("debian", "bash", "5")]
    make_report(alone, packages=held, system="debian kali-rolling", is_covered=False)
    text = page(member)
    assert "None found" not in text
    assert "Packages of the operating system (debian kali-rolling) could not be checked." in text
    assert badge(member) == "System not covered"
    assert "System not covered" in member.get(reverse("console:repository", args=APP[:2])).content.decode()
    for name in ("repositories", "overview", "scans"):
        text = member.get(reverse(f"console:{name}", args=APP[:1])).content.decode()
        assert "System not covered" in text
        assert "None found" not in text
    make_report(alone, [found("CVE-2026-5")], system="debian kali-rolling", is_covered=False)
    assert rows(page(member)) == ["CVE-2026-5"]
    assert badge(member) == "H High 1 Incomplete"


def test_system_at_its_end_of_life_is_never_clean(member, alone):
    held = [PackageName("debian", "bash", "5")]
    make_report(alone, packages=held, system="debian 9.5", is_end_of_life=True)
    assert "note good" not in page(member)
    assert badge(member) == "End of life"
    for name in ("repositories", "overview", "scans"):
        text = member.get(reverse(f"console:{name}", args=APP[:1])).content.decode()
        assert "End of life" in text
        assert "None found" not in text
    make_report(alone, [found()], packages=held, system="debian 9.5", is_end_of_life=True)
    assert badge(member) == "H High 1 End of life"


def test_an_index_shows_each_platform_and_the_worst(member, scanned):
    text = page(member, reference="2.0")
    second = re.search(rf"{scanned['second'][7:19]}.*?</tr>", text, re.DOTALL)[0]
    assert "Medium" in second
    arm = re.search(rf"{scanned['arm'][7:19]}.*?</tr>", text, re.DOTALL)[0]
    assert "Not scanned" in arm
    assert "Nothing is known of 1 platform." in text
    assert badge(member, "2.0") == "H High 1 M Medium 1 Incomplete"


def test_attestations_of_an_index_are_no_platforms(docker, member, django_capture_on_commit_callbacks):
    index = scan_images.two_platforms()
    with django_capture_on_commit_callbacks(execute=True):
        docker("member").push("web/app", "3.0", index)
    amd64, arm64, attestation = (part.manifest.digest for part in index.images)
    assert not Scan.objects.filter(manifest__digest=attestation).exists()
    for digest in (amd64, arm64):
        make_report(manifest_of(digest), packages=[PackageName("debian", "bash", "5")])
    Scan.objects.open().delete()
    text = page(member, reference="3.0")
    assert amd64[7:19] in text
    assert arm64[7:19] in text
    assert attestation[7:19] not in text
    assert badge(member, "3.0") == "None found"
    text = page(member, "manifest", "3.0")
    table = text.split("<h2>Platforms</h2>")[1].split("</table>")[0]
    assert attestation[7:19] not in table
    assert "Unsupported" not in table
    assert attestation[7:19] in text


# ── The list ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def many(first) -> list[str]:
    """Record two hundred findings of every kind."""
    layers = [layer["digest"] for layer in json.loads(bytes(first.content))["layers"]]
    made = [
        found(
            f"CVE-2026-{number:04}",
            f"package{number % 7}",
            severity=Severity(number % 5 + 1),
            fixed="2.0" if number % 3 == 0 else "",
            score=number % 11 or None,
            layer=layers[number % 2],
        )
        for number in range(200)
    ]
    make_report(first, made)
    return [each.vulnerability for each in made]


@pytest.mark.parametrize("sort", ["severity", "cve", "package"])
def test_every_finding_is_on_one_page_in_each_order(member, many, sort):
    address = f"{reverse('console:vulnerabilities', args=[*APP, '1.0'])}?sort={sort}"
    found = [row for page in walk(member, address, "next") for row in page.table("Vulnerability", "Severity")]
    assert sorted(row["Vulnerability"].split()[0] for row in found) == sorted(many)
    ranks = [row["Severity"].split()[1].lower() for row in found]
    if sort == "severity":
        order = list(Report.COUNTS)
        assert [order.index(name) for name in ranks] == sorted(order.index(name) for name in ranks)


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ({"q": "CVE-2026-0007"}, 1),
        ({"q": "package3"}, 29),
        ({"severity": "critical"}, 40),
        ({"severity": "high"}, 80),
        ({"fixable": "yes"}, 67),
        ({"status": "affected"}, 133),
        ({"severity": "critical", "fixable": "yes"}, 13),
        ({"severity": "nonsense", "status": "nonsense"}, 200),
        ({"q": "nowhere"}, 0),
    ],
)
def test_findings_are_filtered(member, many, query, number):
    text = page(member, **query)
    assert len(rows(text)) == min(number, 50)
    assert ("Nothing matches" in text) is (number == 0)
    assert (f"50 of {number}" in text) is (number > 50)


def test_packages_of_one_source_share_a_row(member, first):
    one = {"version": "3.0.11-1", "fixed": "3.0.12-1"}
    make_report(
        first,
        [
            found("CVE-2026-1", "openssl", **one),
            found("CVE-2026-1", "libssl3", **one),
            found("CVE-2026-1", "libssl-doc", version="2.0", fixed="3.0.12-1"),
            found("CVE-2026-2", "libssl3", **one),
            found("CVE-2026-1", "openssl", kind="python-pkg", path="a/METADATA", **one),
            found("CVE-2026-1", "libssl3", kind="python-pkg", path="b/METADATA", **one),
        ],
    )
    there = reverse("console:vulnerabilities", args=[*APP, "1.0"])

    def packages(query: str = "") -> list[tuple[str, str]]:
        shown = see(member, there + query).table("Vulnerability", "Package")
        return sorted((row["Vulnerability"].split()[0], row["Package"]) for row in shown)

    together = ("CVE-2026-1", "libssl3, openssl 3.0.11-1 → 3.0.12-1")
    assert together in packages()
    assert len(packages()) == 5
    assert ("CVE-2026-1", "libssl-doc 2.0 → 3.0.12-1") in packages()
    assert [row for row in packages("?q=openssl") if "METADATA" not in row[1]] == [
        ("CVE-2026-1", "openssl 3.0.11-1 → 3.0.12-1")
    ]


def test_row_of_several_packages_is_accepted_when_every_package_is(member, first, world):
    make_report(first, [found("CVE-2026-1", name) for name in ("openssl", "libssl3")])
    there = reverse("console:vulnerabilities", args=[*APP, "1.0"])
    for number, package in enumerate(("libssl3", "openssl")):
        links = [link.href for link in see(member, there).links if link.text == "Accept"]
        assert len(links) == 1
        assert f"package={package}" in links[0]
        see(member, links[0]).form("reason").submit(member, reason=f"reason {number}")
    page_now = see(member, there)
    assert not [link for link in page_now.links if link.text == "Accept"]
    assert "Accepted by member@acme.test" in page_now.text


def test_csv_has_the_filtered_rows_and_the_project_name(member, many):
    page_shown = see(member, reverse("console:vulnerabilities", args=[*APP, "1.0"]) + "?severity=critical&rows=25")
    (link,) = (link.href for link in page_shown.links if "vulnerabilities.csv" in link.href)
    answer = member.get(link)
    content = b"".join(answer.streaming_content)
    assert content.startswith(b"\xef\xbb\xbfvulnerability,")
    read = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    assert (len(read), {row["severity"] for row in read}) == (40, {"critical"})
    assert 'filename="demo-web-app-1.0-vulnerabilities.csv"' in answer.headers["Content-Disposition"]


def test_findings_are_grouped_by_layer(member, many, first):
    layer = json.loads(bytes(first.content))["layers"][0]["digest"]
    assert "50 of 100" in page(member, layer=layer)
    text = page(member, view="layers")
    assert "COPY first /" in text
    assert f"?layer={layer.replace(':', '%3A')}" in text
    assert 'id="layer-1"' in page(member, "manifest")


# ── Accepted ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def accept(browser, **wanted) -> str:
    there = reverse("console:vulnerability_accept", args=[*APP, "1.0"])
    form = {"scope": "repository", "packages": "this", "reason": "never called"} | wanted
    answer = browser.post(f"{there}?vulnerability=CVE-2026-1&package=openssl", form)
    assert answer.status_code in {200, 302}
    return answer.content.decode()


def test_accepting_counts_at_once_and_withdrawing_too(member, scanned):
    first = manifest_of(scanned["first"])
    assert badge(member) == "C Critical 1 H High 1"
    ends = timezone.localdate() + timedelta(days=30)
    accept(member, ends_on=ends.isoformat(), justification="vulnerable_code_not_in_execute_path")
    made = Acceptance.objects.get()
    assert (made.repository, made.package, made.accepted_by) == (first.image.repository, "openssl", "member@acme.test")
    assert timezone.localtime(made.expires_at).date() == ends
    assert badge(member) == "H High 1"
    text = page(member)
    assert "never called" in text
    assert "member@acme.test" in text
    assert rows(page(member, accepted="hidden")) == ["CVE-2026-2"]
    assert rows(page(member, accepted="only")) == ["CVE-2026-1"]
    listed = member.get(reverse("console:acceptances", args=["demo"])).content.decode()
    assert "never called" in listed
    there = see(member, reverse("console:acceptances", args=["demo"]))
    question = see(member, next(link.href for link in there.links if link.href.endswith("/withdraw")))
    assert question.headings == ["Withdraw the acceptance of CVE-2026-1?"]
    assert "1 finding counts again. 1 image is affected." in question.text
    shown = see(member, question.form("acceptance").submit(member).url)
    assert badge(member) == "C Critical 1 H High 1"
    next(form for form in shown.forms if form.action.endswith("/undo")).submit(member)
    assert badge(member) == "H High 1"
    question.form("acceptance").submit(member)
    ended = member.get(reverse("console:acceptances", args=["demo"]), {"state": "ended"}).content.decode()
    assert "withdrawn by member@acme.test" in ended
    actions = [event.action for event in Event.objects.filter(action__startswith="vulnerability").order_by("pk")]
    assert actions == ["vulnerability.accept", "vulnerability.withdraw"] * 2


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"reason": "  "}, "id_reason_error"),
        ({"ends_on": "2020-01-01"}, "This day is over."),
        ({"scope": "world"}, "id_scope_error"),
        ({"justification": "because"}, "id_justification_error"),
    ],
)
def test_errors_are_shown_at_their_fields(member, scanned, wanted, words):
    assert words in accept(member, **wanted)
    assert not Acceptance.objects.exists()


def test_risk_is_accepted_without_end_for_the_project_and_every_package(member, scanned):
    accept(member, ends_on="", scope="project", packages="every")
    made = Acceptance.objects.get()
    assert (made.repository, made.package, made.expires_at) == (None, "", None)


def test_new_fix_ends_an_acceptance_that_was_for_unfixed_only(member, first, world):
    make_report(first, [found("CVE-2026-9", "curl", "8")])
    acceptances.accept(world.member.actor, world.projects["demo"], "CVE-2026-9", reason="none yet")
    there = reverse("console:acceptances", args=["demo"])
    assert "have a fix now" not in member.get(there).content.decode()
    make_report(first, [found("CVE-2026-9", "curl", "8", fixed="8.1")])
    assert "has a fix now" in member.get(there).content.decode()
    assert badge(member) == "H High 1"


def test_acceptance_of_another_project_is_not_found(member, console, scanned, world):
    accept(member)
    made = Acceptance.objects.get()
    outsider = console("outsider")
    assert outsider.post(reverse("console:acceptances", args=["rival"]), {"acceptance": made.pk}).status_code == 404
    assert (
        console("reader").post(reverse("console:acceptances", args=["demo"]), {"acceptance": made.pk}).status_code
        == 403
    )
    assert Acceptance.objects.get().withdrawn_at is None


# ── Downloads ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_csv_json_and_sbom_are_downloaded(member, scanned):
    accept(member)
    answer = member.get(reverse("console:vulnerabilities_csv", args=[*APP, "1.0"]))
    read = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))))
    assert [row["vulnerability"] for row in read] == ["CVE-2026-1", "CVE-2026-2"]
    assert read[0]["accepted by"] == "member@acme.test"
    document = json.loads(member.get(reverse("console:vulnerabilities_json", args=[*APP, "1.0"])).content)
    assert (document["counts"]["high"], document["counts"]["accepted"]) == (1, 1)
    sbom = member.get(reverse("console:sbom", args=[*APP, "1.0"]))
    assert sbom.headers["Content-Type"] == "application/vnd.cyclonedx+json"
    assert sbom.headers["Content-Disposition"].startswith("attachment")
    document = json.loads(sbom.content)
    assert document["bomFormat"] == "CycloneDX"
    name = f"localhost:8080/demo/web/app@{scanned['first']}"
    assert document["metadata"]["component"]["name"] == name
    vex = json.loads(member.get(reverse("console:openvex", args=["demo", "web"])).content)
    assert vex["statements"][0]["vulnerability"]["name"] == "CVE-2026-1"
    assert scanned["first"].replace(":", "%3A") in vex["statements"][0]["products"][0]["@id"]
    assert member.get(reverse("console:sbom", args=[*APP, "2.0"])).status_code == 404


def test_rows_of_an_index_name_their_platform(member, scanned):
    answer = member.get(reverse("console:vulnerabilities_csv", args=[*APP, "2.0"]))
    read = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))))
    assert {(row["digest"], row["platform"]) for row in read} == {(scanned["second"], "linux/amd64")}


def test_csv_cells_are_not_formulas(member, first):
    make_report(first, [found("CVE-2026-1", "=cmd|' /C calc'!A0", "@SUM(1)", title="+1", path="-2")])
    answer = member.get(reverse("console:vulnerabilities_csv", args=[*APP, "1.0"]))
    cells = [
        cell for row in csv.reader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))) for cell in row
    ]
    assert "'=cmd|' /C calc'!A0" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "//evil.test/", " https://x.test", ""])
def test_only_web_addresses_become_links(member, first, address):
    make_report(first, [found(url=address)])
    text = page(member)
    assert rows(text) == ["CVE-2026-1000"]
    assert "noopener" not in text


# ── Scans of a project ───────────────────────────────────────────────────────────────────────────────────────────────
def test_project_page_shows_totals(member, scanned, world):
    untagged = manifest_of(scanned["untagged"])
    Report.objects.create(manifest=untagged, state="failed", problem="damaged")
    SeverityDay.objects.create(project=world.projects["demo"], day=timezone.now().date() - timedelta(days=2), high=7)
    text = member.get(reverse("console:scans", args=["demo"])).content.decode()
    top = text.split("Worst vulnerabilities")[1].split("Worst repositories")[0]
    assert rows(top) == ["CVE-2026-1", "CVE-2026-2", "CVE-2026-4"]
    assert "The image cannot be read" in text
    assert "There is no vulnerability database yet" in text
    assert "High 7" in text
    assert text.count("Critical 1") >= 1
    overview = member.get(reverse("console:overview", args=["demo"])).content.decode()
    assert "1 critical vulnerability has a fix. Tags with critical vulnerabilities: 1 of 3." in overview
    assert "1 scan failed" in overview


def test_scans_are_requested_for_a_digest_and_for_the_project(member, console, pushed, world):
    there = reverse("console:vulnerabilities", args=[*APP, "1.0"])
    for _ in range(2):
        assert member.post(there).status_code == 302
    assert Scan.objects.count() == 1
    Scan.objects.all().delete()
    scans_page = reverse("console:scans", args=["demo"])
    for _ in range(2):
        member.post(scans_page, {"act": "all"})
    assert set(Scan.objects.values_list("manifest__digest", flat=True)) == {
        pushed[name] for name in ("first", "second", "arm")
    }
    Scan.objects.all().delete()
    first, second = manifest_of(pushed["first"]), manifest_of(pushed["second"])
    for manifest in (first, second):
        Report.objects.create(manifest=manifest, state="failed", problem="timeout")
    member.post(scans_page, {"act": "retry", "manifest": first.pk})
    assert Scan.objects.get().manifest == first
    member.post(scans_page, {"act": "retry", "manifest": "nonsense"})
    assert Scan.objects.count() == 1
    member.post(scans_page, {"act": "retry"})
    assert Scan.objects.count() == 2
    member.post(reverse("console:repository_scan", args=["demo", "web"]))
    assert Scan.objects.count() == 3
    for address in (there, scans_page, reverse("console:repository_scan", args=["demo", "web"])):
        assert console("reader").post(address).status_code == 403
        assert console("stranger").post(address).status_code == 404


def test_reader_sees_results_without_buttons(console, scanned):
    for address in (
        reverse("console:vulnerabilities", args=[*APP, "1.0"]),
        reverse("console:manifest", args=[*APP, "1.0"]),
        reverse("console:scans", args=["demo"]),
        reverse("console:repository", args=["demo", "web"]),
    ):
        main = console("reader").get(address).content.decode().partition("<main")[2]
        for words in ("Scan now", "Scan everything tagged", ">Accept<", "Retry</button>", '<form method="post"'):
            assert words not in main


def test_scan_log_is_paged_and_filtered(member, scanned, world):
    first = manifest_of(scanned["first"])
    Scan.objects.bulk_create(
        Scan(
            manifest=first, project=world.projects["demo"], state="failed", problem="disk", trigger=2, requested_by="d"
        )
        for _ in range(120)
    )
    there = reverse("console:scans_log", args=["demo"])
    assert [len(each.row_links) for each in walk(member, there, "next")] == [50, 50, 23]
    assert [len(each.row_links) for each in walk(member, f"{there}?state=failed", "next")] == [50, 50, 20]
    assert [len(each.row_links) for each in walk(member, f"{there}?state=changed", "next")] == [3]


# ── Lists ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("least", "tags"),
    [
        ("critical", {"1.0"}),
        ("high", {"1.0", "latest", "2.0"}),
        ("unscanned", {"more"}),
        ("", {"1.0", "latest", "2.0", "more"}),
    ],
)
def test_tags_are_filtered_by_severity(member, docker, scanned, least, tags):
    from tests.support.images import image_of

    docker("member").push("web/app", "more", image_of("more"))
    shown = see(member, f"{reverse('console:image', args=APP)}?severity={least}")
    assert {value for form in shown.forms for name, value in form.everything if name == "tag"} == tags


def test_repositories_show_their_worst_severity_and_unknown_images(member, scanned):
    text = member.get(reverse("console:repositories", args=["demo"])).content.decode()
    row = next(row for row in text.split("<tr>") if ">web</a>" in row)
    assert "Critical" in row
    assert "in 1 of 3" in row
    Report.objects.all().delete()
    text = member.get(reverse("console:repositories", args=["demo"])).content.decode()
    assert "Not scanned" in next(row for row in text.split("<tr>") if ">web</a>" in row)


# ── The gate ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_pull_policy_is_set_in_the_settings_and_shown(member, world):
    there = reverse("console:repository_settings", args=["demo", "web"])
    form = see(member, there).form("block_severity")
    assert form.submit(member, block_severity="4", unscanned_grace_hours="24").status_code == 302
    web = Repository.objects.get(pk=world.repository("web").pk)
    assert (web.block_severity, web.unscanned_grace_hours) == (Severity.HIGH, 24)
    text = member.get(reverse("console:repository", args=["demo", "web"])).content.decode()
    assert "pull policy: High and worse" in text
    history = member.get(reverse("console:repository_audit_log", args=["demo", "web"])).content.decode()
    assert "pull policy: off → High" in history
    assert "grace period of the pull policy: always → 24 h" in history
    for wrong in ({"block_severity": "9"}, {"block_severity": "4", "unscanned_grace_hours": "5"}):
        assert member.post(there, form.shown | wrong).status_code == 200


def test_scans_have_words_in_the_history(member, first, world):
    make_report(first, [found()])
    detail = {"trigger": "push", "problem": "", "new": 1, "fixed": 2, "critical": 0, "high": 1}
    Event.objects.create(
        action="scan.done",
        project=world.projects["demo"],
        path="demo/web/app",
        digest=first.digest,
        detail=detail,
        actor="mina",
    )
    Event.objects.create(
        action="scan.done", project=world.projects["demo"], path="demo/web/app", detail={"problem": "disk"}, actor="x"
    )
    text = member.get(reverse("console:audit_log", args=["demo"]), {"action": "scan"}).content.decode()
    assert "High 1 (1 new, 2 fixed)" in text
    assert "failed, The scan wrote more than it may" in text


def test_recounted_day_matches_the_page(member, scanned, world):
    findings.record_day(timezone.now())
    day = SeverityDay.objects.get(project=world.projects["demo"])
    text = member.get(reverse("console:scans", args=["demo"])).content.decode()
    assert (day.critical, day.high, day.medium) == (1, 2, 0)
    for name in ("critical", "high"):
        assert f"{name.title()} <strong>{getattr(day, name)}</strong>" in text


# ── The queue of a project ───────────────────────────────────────────────────────────────────────────────────────────
def test_scan_of_a_whole_project_asks_first_shows_progress_and_can_be_stopped(console, first):
    admin = console("admin")
    scans_page = reverse("console:scans", args=["demo"])
    make_report(first, [found()])
    Scan.objects.open().delete()
    asked = admin.get(scans_page, {"ask": "all"}).content.decode()
    assert "Scan everything tagged in this project?" in asked
    assert not Scan.objects.open().exists()
    admin.post(scans_page, {"act": "all"})
    waiting = Scan.objects.filter(state="waiting", trigger=Scan.Trigger.MANUAL)
    unknown = waiting.filter(manifest__report=None).count()
    total = waiting.count()
    assert total > unknown > 0
    assert waiting.values("requested_at").distinct().count() == 1  # the progress counts from the first that is open
    text = admin.get(scans_page).content.decode()
    assert f"0 of {total} done" in text
    Scan.objects.filter(pk=waiting.filter(manifest__report=None).first().pk).update(state="done")
    assert f"1 of {total} done" in admin.get(scans_page).content.decode()
    assert console("reader").post(scans_page, {"act": "stop"}).status_code == 403
    answer = admin.post(scans_page, {"act": "stop"}, follow=True).content.decode()
    assert "scan was stopped." in answer or "scans were stopped." in answer
    assert not waiting.exists()
    # Digests without a result stay in the queue.
    assert Scan.objects.filter(state="waiting", trigger=Scan.Trigger.PUSH).count() == unknown - 1


def test_first_scan_is_labelled(member, first):
    make_report(first, [found("CVE-2026-1"), found("CVE-2026-2")])
    text = page(member)
    assert "First scan" in text
    assert "2 new" not in text
    assert "First scan" in member.get(reverse("console:scans", args=["demo"])).content.decode()
    make_report(first, [found("CVE-2026-1")])
    text = page(member)
    assert "First scan" not in text
    assert "0 new, 1 fixed" in " ".join(text.split())


def test_error_of_trivy_about_its_database_is_not_shown_to_members(member, first):
    DatabaseRefresh.objects.create(source="", updated_at=None, problem="run error: init error: DB error: oci download")
    text = member.get(reverse("console:scans", args=["demo"])).content.decode()
    assert "run error" not in text
    assert "There is no vulnerability database yet" in text
    DatabaseRefresh.objects.create(source="", updated_at=timezone.now(), problem="run error: init error")
    text = member.get(reverse("console:scans", args=["demo"])).content.decode()
    assert "run error" not in text
