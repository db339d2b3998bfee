"""The page of a CVE: images, their order, filters, CSV file, acceptance and permissions."""

from __future__ import annotations

import csv
import io
from datetime import timedelta

import pytest
from django.utils import timezone

from registry.models import Image, Manifest, Severity, Tag, TagDay
from scanning.models import Acceptance
from tests.support.factories import critical, found, low, make_manifest, make_report
from tests.support.images import OCI_MANIFEST, canonical_json, descriptor, image_of
from tests.support.pages import Page, see, walk

CVE = "CVE-2026-1"
THERE = f"/cves/{CVE}"


@pytest.fixture
def member(console):
    return console("member")


def groups(page: Page) -> dict[str, list[str]]:
    """Return the rows by image, in the order of the page."""
    table = next(table for table in page.tables if table[0][0] == "Image")
    shown: dict[str, list[str]] = {}
    for row in table[1:]:
        if len(row) == 1 and "/" in row[0].split()[0]:
            path = row[0].split()[0]
            shown[path] = []
        else:
            shown[path].append(" | ".join(row))
    return shown


def rows(browser, **query: str) -> dict[str, list[str]]:
    answer = browser.get(THERE, query)
    assert answer.status_code == 200
    page = Page(answer.content.decode(), THERE)
    return {} if "Nothing matches" in page.text else groups(page)


def layered(repository, image: str, tag: str, *layers: str) -> Manifest:
    """Create an image of these layers."""
    content = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(b"{}", "application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor(layer.encode(), "application/vnd.oci.image.layer.v1.tar") for layer in layers],
        "annotations": {"image": f"{image}:{tag}"},
    }
    return make_manifest(repository, canonical_json(content).decode(), image=image, tag=tag)


def pull(manifest: Manifest, tag: str, hours: float) -> None:
    at = timezone.now() - timedelta(hours=hours)
    TagDay.objects.create(image=manifest.image, tag=tag, day=at.date(), pulls=1, pulled_at=at)
    Image.objects.filter(pk=manifest.image_id).exclude(pulled_at__gte=at).update(pulled_at=at)


@pytest.fixture
def spread(world):
    """Record the CVE in three images of two projects, and another CVE in a fourth."""
    web, public, secret = (world.repository(name) for name in ("web", "public", "secret"))
    made = {
        "one": layered(web, "one", "1.0", "one"),
        "two": layered(web, "two", "1.0", "two"),
        "open": layered(public, "open", "1.0", "open"),
        "hidden": layered(secret, "hidden", "1.0", "hidden"),
        "clean": layered(web, "clean", "1.0", "clean"),
    }
    for name, manifest in made.items():
        make_report(manifest, [critical(CVE)] if name != "clean" else [low("CVE-2026-9")])
    Tag.objects.update(started_at=timezone.now() - timedelta(days=100))
    return made


# ── Images ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_images_are_grouped_and_sorted_by_last_pull(member, spread):
    pull(spread["open"], "1.0", 30)
    pull(spread["two"], "1.0", 2)
    page = see(member, THERE)
    assert list(groups(page)) == ["demo/web/two", "demo/public/open", "demo/web/one"]
    assert "Images 3 of 4, in 1 project" in page.text
    assert "Pulled in the last 30 days 2 last 2 h ago" in page.text
    assert "openssl 1.1" in page.text
    assert groups(page)["demo/web/two"] == ["1.0 | C Critical | openssl 1.0 → 1.1 | linux/amd64 | 2 h ago"]


def test_pulls_of_other_tags_and_earlier_digests_do_not_count(member, spread):
    one = spread["one"]
    pull(one, "2.0", 1)
    Tag.objects.filter(manifest=one).update(started_at=timezone.now() - timedelta(hours=3))
    pull(one, "1.0", 5)
    page = see(member, THERE)
    assert "Pulled in the last 30 days 0 no pull" in page.text
    assert groups(page)["demo/web/one"][0].endswith("| –")  # noqa: RUF001


def test_page_lists_only_visible_images(console, spread):
    assert list(rows(console("owner"))) == ["demo/public/open", "demo/web/one", "demo/web/two", "lab/secret/hidden"]
    assert "lab/secret" not in console("member").get(THERE).content.decode().partition("<main")[2]
    for person in ("outsider", "stranger", "viewer", "pusher"):
        for address in (THERE, f"{THERE}.csv"):
            assert console(person).get(address).status_code == 404
    assert console("member").get("/cves/CVE-2026-404").status_code == 404


def test_address_in_another_case_redirects_to_the_known_spelling(member, spread):
    assert member.get("/cves/cve-2026-1").url == THERE


def test_deleted_images_are_not_shown(member, docker, scanned):
    assert docker("member").delete(f"/v2/web/app/manifests/{scanned['first']}").status == 202
    assert member.get(THERE).status_code == 404


def test_a_platform_is_found_under_the_tags_of_its_index(member, scanned):
    page = see(member, "/cves/CVE-2026-4")
    (shown,) = groups(page).values()
    assert any(row.startswith("latest") for row in shown)
    assert any(row.startswith("2.0") for row in shown)


def test_tags_of_one_digest_share_a_row_and_untagged_digests_are_counted(member, docker, scanned):
    docker("member").push("web/app", "stable", image_of("first"))
    make_report(Manifest.objects.get(digest=scanned["untagged"]), [critical(CVE)])
    (shown,) = groups(see(member, THERE)).values()
    assert shown[0].split(" | ")[0] in {"1.0 stable", "stable 1.0"}
    assert shown[1] == "1 digest without a tag"


def test_many_tags_are_cut(member, world):
    for number in range(9):
        make_report(layered(world.repository("web"), "one", f"v{number}", f"{number}"), [critical(CVE)])
    (shown,) = groups(see(member, THERE)).values()
    assert len(shown) == 7
    assert shown[-1] == "and 3 more tags"


def test_every_image_is_on_one_page(member, world):
    for number in range(45):
        make_report(layered(world.repository("web"), f"image-{number:02}", "1", f"{number}"), [critical(CVE)])
        if number % 9 == 0:
            pull(Manifest.objects.latest("pk"), "1", number + 1)
    Tag.objects.update(started_at=timezone.now() - timedelta(days=100))
    pages = walk(member, f"{THERE}?rows=25", "next")
    seen = [path for page in pages for path in groups(page)]
    assert len(pages) == 2
    assert seen[:5] == [f"demo/web/image-{number:02}" for number in (0, 9, 18, 27, 36)]
    assert sorted(seen) == [f"demo/web/image-{number:02}" for number in range(45)]
    back = walk(member, pages[-1].path, "prev")
    assert [path for page in reversed(back) for path in groups(page)] == seen
    assert "1-25 of 45" in pages[0].text
    assert list(rows(member, after="nonsense")) == seen[:25]


# ── Filters ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_images_are_filtered(console, spread, world):
    owner = console("owner")
    make_report(spread["one"], [low(CVE)])
    untagged = layered(world.repository("web"), "bare", "x", "bare")
    make_report(untagged, [critical(CVE)])
    Tag.objects.filter(manifest=untagged).update(ended_at=timezone.now())
    pull(spread["two"], "1.0", 2)
    pull(spread["open"], "1.0", 24 * 8)
    every = ["demo/public/open", "demo/web/bare", "demo/web/one", "demo/web/two", "lab/secret/hidden"]
    for query, wanted in (
        ({}, every),
        ({"project": "lab"}, ["lab/secret/hidden"]),
        ({"project": "rival"}, []),
        ({"severity": "critical"}, [path for path in every if path != "demo/web/one"]),
        ({"tags": "untagged"}, ["demo/web/bare"]),
        ({"tags": "tagged"}, [path for path in every if path != "demo/web/bare"]),
        ({"pulled": "7"}, ["demo/web/two"]),
        ({"pulled": "30"}, ["demo/public/open", "demo/web/two"]),
        ({"pulled": "5", "tags": "x", "severity": "x"}, every),
    ):
        assert sorted(rows(owner, **query)) == wanted, query


# ── Layers and base images ───────────────────────────────────────────────────────────────────────────────────────────
def test_base_image_is_named_when_its_layers_match(member, world):
    web = world.repository("web")
    bottom = descriptor(b"bottom", "")["digest"]
    base, app = layered(web, "base", "12", "bottom"), layered(web, "app", "1", "bottom", "mine")
    make_report(base, [found(CVE, layer=bottom)])
    make_report(app, [found(CVE, layer=bottom)])
    text = see(member, THERE).text
    assert "demo/web/app comes with its base demo/web/base:12" in text
    assert "demo/web/base comes with layer 1 of 1" in text


def test_finding_in_an_own_layer_names_that_layer(member, world):
    web = world.repository("web")
    base, app = layered(web, "base", "12", "bottom"), layered(web, "app", "1", "bottom", "mine")
    make_report(base, [found(CVE, layer=descriptor(b"bottom", "")["digest"])])
    make_report(app, [found(CVE, layer=descriptor(b"mine", "")["digest"])])
    assert "demo/web/app comes with layer 2 of 2" in see(member, THERE).text


# ── Accepting ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_risk_is_accepted_from_the_page(member, console, spread):
    page = see(member, THERE)
    links = [link for link in page.links if link.text == "Accept"]
    assert len(links) == 3
    answer = see(member, links[0].href).form("reason").submit(member, reason="never called")
    assert answer.url == THERE
    made = Acceptance.objects.get()
    assert (made.vulnerability, made.package, str(made.repository)) == (CVE, "openssl", "demo/public")
    page = see(member, THERE)
    assert "accepted" in groups(page)["demo/public/open"][0]
    assert len([link for link in page.links if link.text == "Accept"]) == 2
    assert not [link for link in see(console("reader"), THERE).links if link.text == "Accept"]


# ── CSV file ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_csv_file_has_the_filtered_rows(member, spread):
    pull(spread["two"], "1.0", 2)
    for query, images in ((f"{THERE}.csv", 3), (f"{THERE}.csv?pulled=7", 1), (f"{THERE}.csv?project=lab", 0)):
        answer = member.get(query)
        read = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode("utf-8-sig"))))
        assert len(read) == images
        assert all(row["package"] == "openssl" and row["tags"] == "1.0" for row in read)
    assert "CVE-2026-1-lab.csv" in answer.headers["Content-Disposition"]
    page = see(member, f"{THERE}?pulled=7")
    assert any(link.href == f"{THERE}.csv?pulled=7" for link in page.links)


def test_severity_is_that_of_the_findings(member, world):
    make_report(layered(world.repository("web"), "one", "1", "x"), [found(CVE, severity=Severity.MEDIUM, score=9.8)])
    page = see(member, THERE)
    assert page.headings == ["CVE-2026-1 M Medium 9.8"]
