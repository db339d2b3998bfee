"""The search field: names, full references, digests, image IDs, CVEs and packages; in one project or everywhere."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from console.queries import search as queries
from registry import references
from registry.references import Reference
from tests.support.factories import found, make_manifest, make_report
from tests.support.images import image_of
from tests.support.pages import Page

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"
HOST = "demo.kr-central-2.kcr.localhost:8080"


@pytest.fixture
def member(console):
    return console("member")


def search(browser, words: str, **more: str) -> Page:
    answer = browser.get(reverse("console:search"), {"q": words, **more}, follow=True)
    assert answer.status_code == 200
    return Page(answer.content.decode(), answer.request["PATH_INFO"])


def results(page: Page) -> set[str]:
    """Return the texts of the links to images, tags and digests."""
    return {link.text for link in page.links if "/repositories/" in link.href}


# ── References ───────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("text", "path", "tag", "digest"),
    [
        ("app", "app", "", ""),
        ("web/app:1.0", "web/app", "1.0", ""),
        ("localhost:8080/demo/web/app:1.0", "demo/web/app", "1.0", ""),
        ("localhost/demo/web/app", "demo/web/app", "", ""),
        (f"{HOST}/web/app:1.0", "demo/web/app", "1.0", ""),
        (f"{HOST.upper()}/web/app", "demo/web/app", "", ""),
        (f"docker pull {HOST}/web/app:1.0", "demo/web/app", "1.0", ""),
        (f"docker pull --platform linux/amd64 {HOST}/web/app:1.0", "demo/web/app", "1.0", ""),
        (f"docker run --rm {HOST}/web/app:1.0 sh -c date", "demo/web/app", "1.0", ""),
        (f"$ podman pull {HOST}/web/app", "demo/web/app", "", ""),
        (f"skopeo copy docker://{HOST}/web/app:1.0 oci:app", "demo/web/app", "1.0", ""),
        (f"oci://{HOST}/web/chart:1.4.2", "demo/web/chart", "1.4.2", ""),
        (f"http://{HOST}/web/app:1.0", "demo/web/app", "1.0", ""),
        ("docker pull app:1.0", "app", "1.0", ""),
        (f"app@{DIGEST}", "app", "", DIGEST),
        (f"{HOST}/web/app:1.0@{DIGEST}", "demo/web/app", "1.0", DIGEST),
        (f"docker-pullable://{HOST}/web/app@{DIGEST}", "demo/web/app", "", DIGEST),
        (DIGEST, "", "", DIGEST),
        ("sha256:012345", "", "", "sha256:012345"),
        (f"pkg:oci/app@sha256%3A{HEX}?repository_url={HOST}/web/app&tag=1.0", "demo/web/app", "1.0", DIGEST),
        (f"pkg:oci/app@sha256%3A{HEX}?repository_url=localhost:8080/demo/web", "demo/web/app", "", DIGEST),
        (f"pkg:oci/app@sha256:{HEX}", "app", "", DIGEST),
        ("pkg:docker/demo/web/app@1.0?repository_url=localhost:8080", "demo/web/app", "1.0", ""),
        ("gcr.io/other/app:1", "gcr.io/other/app", "1", ""),
        ("", "", "", ""),
        ("@", "", "", ""),
        (":", "", "", ""),
        ("pkg:oci/", "", "", ""),
        ("docker://", "", "", ""),
        ("---- $", "", "", ""),
    ],
)
def test_references_are_parsed(text, path, tag, digest):
    assert references.read(text) == Reference(path, tag, digest)


@pytest.mark.parametrize(
    "words",
    [
        "localhost:8080/demo/web/app:1.0",
        f"{HOST}/web/app:1.0",
        f"docker pull {HOST}/web/app:1.0",
        f"docker://{HOST}/web/app:1.0",
        "pkg:docker/demo/web/app@1.0?repository_url=localhost:8080",
        "app:1.0",
    ],
)
def test_tag_is_found_by_pasted_references(member, pushed, words):
    assert results(search(member, words)) == {"demo/web/app:1.0"}


def test_digest_is_found_by_pasted_references(member, pushed):
    digest = pushed["first"]
    for words in (
        digest,
        digest[7:19],
        f"demo/web/app@{digest}",
        f"app@{digest}",
        f"docker pull {HOST}/web/app@{digest}",
        f"pkg:oci/app@{digest.replace(':', '%3A')}?repository_url={HOST}/web/app",
    ):
        assert results(search(member, words)) == {f"demo/web/app@{digest}"}, words
    assert results(search(member, f"other@{digest}")) == set()


def test_an_image_and_a_repository_are_found_by_their_full_names(member, pushed):
    assert results(search(member, f"{HOST}/web/app")) == {"demo/web/app"}
    assert results(search(member, "localhost:8080/demo/web/app:gone")) == {"demo/web/app"}
    assert results(search(member, "demo/web")) == {"demo/web", "demo/web/app"}


# ── Image IDs ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_image_is_found_by_its_docker_image_id(member, console, pushed):
    image = image_of("first")
    for words in (image.config.digest, image.config.digest[7:], image.config.digest[7:19]):
        assert results(search(member, words)) == {f"demo/web/app@{pushed['first']}"}, words
    assert results(search(member, image.config.digest[7:18])) == set()
    for person in ("outsider", "viewer", "stranger"):
        assert results(search(console(person), image.config.digest)) == set()


def test_digest_of_a_layer_is_not_found_as_an_image_id(member, pushed):
    assert results(search(member, image_of("first").layers[0].digest)) == set()


def test_the_id_of_a_deleted_image_is_not_found(member, docker, pushed):
    assert docker("member").delete(f"/v2/web/app/manifests/{pushed['first']}").status == 202
    assert results(search(member, image_of("first").config.digest)) == set()


# ── One project or all ───────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def twice(docker, console):
    """The image app in two projects of the owner."""
    for host, name in ((HOST, "web/app"), (HOST.replace("demo", "lab"), "secret/app")):
        docker("owner", host).push(name, "1.0", image_of(name))
    return console("owner")


def test_search_in_a_project_is_limited_to_it_unless_everywhere_is_chosen(twice):
    there = Page(twice.get(reverse("console:overview", args=["lab"])).content.decode(), "/projects/lab/")
    form = next(form for form in there.forms if form.action == "/search")
    page = Page(form.submit(twice, q="app").content.decode(), "/search?q=app&in=lab")
    assert "lab/secret/app" in results(page)
    assert "demo/web/app" not in results(page)
    assert page.title.startswith("app · Search · lab")
    everywhere = next(link.href for link in page.links if link.text == "Everywhere")
    assert {"lab/secret/app", "demo/web/app"} <= results(Page(twice.get(everywhere).content.decode(), everywhere))
    assert {"lab/secret/app", "demo/web/app"} <= results(search(twice, "app"))


def test_empty_result_in_a_project_offers_to_search_everywhere(twice):
    page = search(twice, "web/app", **{"in": "lab"})
    assert "Nothing found" in page.text
    link = next(link.href for link in page.links if link.text == "Search everywhere")
    assert "demo/web/app" in results(Page(twice.get(link).content.decode(), link))


def test_search_in_an_invisible_project_searches_everywhere(member, pushed):
    page = search(member, "app", **{"in": "rival"})
    assert "demo/web/app" in results(page)
    assert "rival" not in page.text


# ── CVEs and packages ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("words", ["CVE-2026-1", "cve-2026-1"])
def test_a_cve_leads_to_its_page(member, scanned, words):
    assert member.get(reverse("console:search"), {"q": words}).url == "/cves/CVE-2026-1"
    inside = member.get(reverse("console:search"), {"q": words, "in": "demo"})
    assert inside.url == "/cves/CVE-2026-1?project=demo"


@pytest.mark.parametrize(
    ("words", "digests"), [("curl", 2), ("curl@8.1", 2), ("bash", 1), ("curl@9", 0), ("nothing", 0)]
)
def test_package_search_lists_its_images(member, scanned, words, digests):
    assert (f"In {digests} digest" in search(member, words).text) is bool(digests)


@pytest.mark.skipif(connection.vendor != "sqlite", reason="SQLite guesses without statistics which index reads less")
def test_findings_of_a_package_are_read_by_the_listed_digests(member, world):
    for number in range(30):
        make_report(make_manifest(world.repository("web"), f"build {number}"), [found("CVE-2026-2", "curl", "8.1")])
    with CaptureQueriesContext(connection) as queries_run:
        search(member, "curl")
    (query,) = (each["sql"] for each in queries_run if "scanning_acceptance" in each["sql"])
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {query}")
        plan = " ".join(row[-1] for row in cursor.fetchall())
    assert "findings_of_manifest" in plan or "one_finding_a_package" in plan, plan


def test_search_does_not_reveal_other_projects(console, scanned):
    for name in ("outsider", "stranger", "viewer", "pusher"):
        for words in ("CVE-2026-1", "openssl", "openssl@3.0.11-1"):
            main = console(name).get(reverse("console:search"), {"q": words}).content.decode().partition("<main")[2]
            assert "Nothing found" in main
            assert "demo" not in main


# ── Suggestions ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_suggestions_resolve_references_to_pages(world, scanned):
    def suggested(words: str, who=world.member) -> set[str]:
        return {row.path for group in queries.suggestions(who.actor, words) for row in group.rows}

    app = "/projects/demo/repositories/web/app/"
    assert app in suggested(f"{HOST}/web/app")
    assert suggested(f"docker pull {HOST}/web/app:1.0") == {f"{app}-/manifests/1.0"}
    assert suggested("cve-2026-1") == {"/cves/CVE-2026-1"}
    for person in (world.outsider, world.viewer):
        for words in ("web/app", f"{HOST}/web/app:1", "cve-2026"):
            assert suggested(words, person) == set()
