"""Tags in the console: adding and moving with a preview, undo, the list, and the tag history."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import AccessKey, Project
from registry.models import Event, Image, Repository, Tag, TagDay
from tests.support.images import OCI_INDEX, OCI_MANIFEST, Artifact, Blob, descriptor, image_of, index_of
from tests.support.images import Image as Pushed
from tests.support.pages import Page, see

APP = "/projects/demo/repositories/web/app/"
ADD = f"{APP}-/tags/add"


def text(answer) -> str:
    return answer.content.decode()


def digest_of(tag: str) -> str:
    return Tag.objects.live().get(image__path="demo/web/app", name=tag).manifest.digest


def ask(browser, tag: str, digest: str) -> Page:
    """Fill in and submit the form "Add tag". Return the answer."""
    return Page(text(see(browser, ADD).form("tag").submit(browser, tag=tag, digest=digest)), ADD)


def test_existing_tag_is_moved_after_a_preview(console, docker, scanned):
    browser = console("member")
    docker("reader").pull("web/app", "1.0")
    page = ask(browser, "1.0", "latest")
    assert page.headings == ["Move 1.0?"]
    assert f"1.0 points to {scanned['first'][7:19]} since" in page.text
    assert f"It will point to latest ({scanned['second'][7:19]})." in page.text
    assert digest_of("1.0") == scanned["first"], "a look moves nothing"
    answer = page.form("seen").submit(browser)
    assert answer.url == APP
    assert digest_of("1.0") == scanned["second"]
    event = Event.objects.filter(action="tag.move", tag="1.0").get()
    assert (event.actor, event.detail) == ("member@acme.test", {"before": scanned["first"]})


def test_message_of_a_move_has_an_undo_button(console, pushed):
    browser = console("member")
    answer = ask(browser, "1.0", "latest").form("seen").submit(browser)
    page = see(browser, answer.url)
    assert f"1.0 now points to latest ({pushed['second'][7:19]})." in page.text
    assert page.form("seen").submit(browser).url == APP
    assert digest_of("1.0") == pushed["first"]
    page = see(browser, APP)
    assert f"1.0 now points to {pushed['first'][7:19]}." in page.text


def test_message_of_a_new_tag_has_a_delete_button(console, pushed):
    browser = console("member")
    see(browser, ADD).form("tag").submit(browser, tag="stable", digest="1.0")
    assert digest_of("stable") == pushed["first"]
    see(browser, APP).form("sure", tag="stable").submit(browser)
    assert not Tag.objects.live().filter(name="stable").exists()


@pytest.mark.parametrize(
    "typed",
    [
        "latest",
        "{second}",
        "{short}",
        "sha256:{short}",
        "{capitals}",
        "localhost:8080/demo/web/app@{second}",
        " latest ",
    ],
)
def test_the_target_is_a_tag_a_digest_or_its_first_characters(console, pushed, typed):
    digest = pushed["second"]
    typed = typed.format(second=digest, short=digest[7:19], capitals=digest[7:19].upper())
    browser = console("member")
    answer = see(browser, ADD).form("tag").submit(browser, tag="stable", digest=typed)
    assert answer.status_code == 302, text(answer)
    assert digest_of("stable") == digest


def test_unknown_target_is_refused_with_the_accepted_forms(console, docker, pushed):
    browser = console("member")
    assert "app has no tag 1. Tags that begin so: 1.0." in ask(browser, "stable", "1").text
    assert "app has no tag nothing." in ask(browser, "stable", "nothing").text
    assert "app has no tag aaaaaaaaaaaa, and no digest that begins so." in ask(browser, "stable", "a" * 12).text
    see(browser, f"{APP}-/manifests/{pushed['untagged']}/delete").form("sure").submit(browser)
    assert "is in Recovery until" in ask(browser, "stable", pushed["untagged"][7:19]).text
    assert not Tag.objects.live().filter(name="stable").exists()


def test_tag_with_the_same_target_is_not_changed(console, pushed):
    page = ask(console("member"), "1.0", pushed["first"])
    assert f"1.0 already points to {pushed['first'][7:19]}." in page.text
    assert not Event.objects.filter(action="tag.move", tag="1.0").exists()


def test_concurrent_move_is_shown_before_the_tag_moves(console, docker, pushed):
    mina, joon = console("member"), console("admin")
    hers = ask(mina, "1.0", "latest").form("seen")
    ask(joon, "1.0", pushed["untagged"]).form("seen").submit(joon)
    page = Page(text(hers.submit(mina)), ADD)
    assert f"1.0 was moved after you opened this page. It points to {pushed['untagged'][7:19]} now." in page.text
    assert digest_of("1.0") == pushed["untagged"]
    page.form("seen").submit(mina)
    assert digest_of("1.0") == pushed["second"]


def test_tag_deleted_after_the_preview_is_not_added_silently(console, pushed):
    browser = console("member")
    form = ask(browser, "1.0", "latest").form("seen")
    see(browser, f"{APP}-/tags/delete?tag=1.0").form("sure").submit(browser)
    page = Page(text(form.submit(browser)), ADD)
    assert "was deleted meanwhile" in page.text
    assert not Tag.objects.live().filter(name="1.0").exists()
    page.form("tag").submit(browser)
    assert digest_of("1.0") == pushed["second"]


def test_refusal_shows_the_actual_reason(console, pushed):
    browser = console("member")
    Repository.objects.filter(name="web").update(tag_overwrite=False)
    page = ask(browser, "1.0", "latest")
    assert "demo/web does not allow tags to be overwritten" in page.text
    assert page.headings == ["Add tag"]
    assert "demo/web does not allow tags to be overwritten" in see(browser, f"{ADD}?tag=1.0&digest=latest").text
    Repository.objects.filter(name="web").update(tag_overwrite=True)
    form = ask(browser, "1.0", "latest").form("seen")
    Image.objects.filter(name="app").update(expires_at="2020-01-01T00:00Z")
    assert "expired on 2020-01-01" in Page(text(form.submit(browser))).text
    assert digest_of("1.0") == pushed["first"]


def test_tag_history_restores_an_earlier_digest_after_a_preview(console, pushed):
    browser = console("member")
    page = see(browser, f"{APP}-/tag-history?tag=latest")
    links = [link for link in page.links if link.text == "Restore"]
    assert len(links) == 1
    look = see(browser, links[0].href)
    assert look.headings == ["Move latest?"]
    look.form("seen").submit(browser)
    assert digest_of("latest") == pushed["first"]


def test_a_deleted_tag_is_added_again_from_its_history(console, pushed):
    browser = console("member")
    see(browser, f"{APP}-/tags/delete?tag=2.0").form("sure").submit(browser)
    page = see(browser, f"{APP}-/tag-history?tag=2.0")
    link = next(link for link in page.links if link.text == "Restore")
    see(browser, link.href).form("tag").submit(browser)
    assert digest_of("2.0") == pushed["index"]


def test_a_digest_page_offers_an_existing_tag_for_it(console, docker, pushed):
    browser = console("member")
    docker("member").push("web/app", "1.1", image_of("newer"))
    page = see(browser, f"{APP}-/manifests/1.1")
    link = next(link for link in page.links if link.text == "Add tag")
    form = see(browser, link.href).form("tag")
    look = Page(text(form.submit(browser, tag="latest")), ADD)
    look.form("seen").submit(browser)
    assert digest_of("latest") == digest_of("1.1")


# ── The list of tags ─────────────────────────────────────────────────────────────────────────────────────────────────
def names(page: Page) -> list[str]:
    return [row["Tag"].links[0].text for row in page.table("Tag", "Digest", "Pulls")]


def test_floating_tags_come_first_then_versions_in_natural_order(console, docker, pushed):
    member = docker("member")
    for tag in ("v1.9", "1.10", "1.9", "main-1"):
        member.push("web/app", tag, image_of(f"of {tag}"))
    assert names(see(console("reader"), APP)) == ["latest", "v1.9", "2.0", "1.10", "1.9", "1.0", "main-1"]
    assert names(see(console("reader"), f"{APP}?q=1.1")) == ["1.10"]


def test_row_lists_the_other_tags_of_its_digest(console, docker, pushed):
    docker("member").push("web/app", "2.1", image_of("second"))
    rows = {row["Tag"].links[0].text: row["Tag"] for row in see(console("reader"), APP).table("Tag", "Digest")}
    assert rows["latest"] == "latest = 2.1"
    assert rows["2.1"] == "2.1 = latest"
    assert rows["1.0"] == "1.0"


def test_signatures_and_sboms_are_shown_as_marks_not_rows(console, docker, pushed):
    member = docker("member")
    member.push("web/app", f"{pushed['first'].replace(':', '-')}.sig", image_of("signature"))
    sbom = Artifact("application/spdx+json", Blob("text/plain", b"sbom"), subject=image_of("second").manifest)
    member.push("web/app", sbom.digest, sbom)
    page = see(console("reader"), APP)
    rows = {row["Tag"].links[0].text: row["Tag"] for row in page.table("Tag", "Digest")}
    assert rows.keys() == {"latest", "2.0", "1.0"}
    assert "Signed" in rows["1.0"]
    assert "SBOM" in rows["latest"]
    assert "Signed" not in rows["latest"]
    assert "sha256-" not in see(console("reader"), f"{APP}-/tag-history").text


@pytest.mark.parametrize(
    ("artifact_type", "command"),
    [
        (
            "application/vnd.cncf.helm.config.v1+json",
            "helm pull oci://localhost:8080/demo/web/app --version 3 --plain-http",
        ),
        ("application/x-model", "oras pull --plain-http localhost:8080/demo/web/app:3"),
    ],
)
def test_pull_command_uses_the_program_for_the_artifact(console, docker, pushed, artifact_type, command):
    artifact = Artifact(artifact_type, Blob("application/x", b"content"))
    docker("member").push("web/app", "3", artifact)
    html = text(console("reader").get(APP))
    assert f'data-copy="{command}"' in html
    assert 'data-copy="docker pull localhost:8080/demo/web/app:1.0"' in html
    assert "docker pull localhost:8080/demo/web/app:3" not in html
    page = see(console("reader"), f"{APP}-/manifests/3").text
    assert command in page
    assert "docker pull" not in page


# ── As of a day ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_tags_as_of_a_day_have_a_pull_command(console, docker, pushed):
    now = timezone.now()
    past = {"started_at": now - timedelta(days=9), "ended_at": now - timedelta(days=3)}
    Tag.objects.filter(name="latest", manifest__digest=pushed["first"]).update(**past)
    Tag.objects.filter(name="latest", manifest__digest=pushed["second"]).update(started_at=past["ended_at"])
    day = (now - timedelta(days=5)).date()
    page = see(console("member"), f"{APP}-/tag-history?at={day}")
    (row,) = page.table("Tag", "Digest", "From")
    command = f"docker pull localhost:8080/demo/web/app:latest--at-{day:%Y%m%d}t2359z"
    assert command in row["Tag"]
    assert row["Digest"].startswith(pushed["first"][7:19])
    tag = command.rpartition(":")[2]
    assert docker("reader").pull("web/app", tag) == docker("reader").pull("web/app", pushed["first"])
    assert [link.text for link in page.links if "tags/add?tag=latest" in link.href] == ["Restore"]


@pytest.mark.parametrize("day", ["nonsense", "9999-12-31", ""])
def test_invalid_day_shows_the_whole_history(console, pushed, day):
    assert len(see(console("reader"), f"{APP}-/tag-history?at={day}").table("Tag", "From")) == 4


def test_current_day_shows_the_current_tags(console, docker, pushed):
    Tag.objects.live().update(started_at=timezone.now() - timedelta(hours=1))
    page = see(console("reader"), f"{APP}-/tag-history?at={timezone.now().date() + timedelta(days=3)}")
    rows = page.table("Tag", "Digest", "From")
    assert [row["Tag"].links[0].text for row in rows] == ["latest", "2.0", "1.0"]
    for row in rows:
        docker("reader").pull("web/app", row["Tag"].rpartition(":")[2])


def test_each_move_links_to_its_comparison(console, scanned):
    page = see(console("reader"), f"{APP}-/tag-history?tag=latest")
    (link,) = [link for link in page.links if link.text == "What changed"]
    compared = see(console("reader"), link.href).text
    assert "CVE-2026-4" in compared
    assert "CVE-2026-1" in compared


# ── Contents ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_attestations_are_shown_as_provenance_not_platforms(console, docker, pushed):
    member, image = docker("member"), image_of("built")
    statement = {
        "predicateType": "https://slsa.dev/provenance/v0.2",
        "predicate": {"builder": {"id": "https://ci.example/runner"}},
    }
    proof = Pushed(b"{}", [Blob("application/vnd.in-toto+json", json.dumps(statement).encode())])
    for each in (image, proof):
        member.push("web/app", each.digest, each)
    said = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.digest}
    parts = [
        descriptor(image.manifest, OCI_MANIFEST, platform={"os": "linux", "architecture": "amd64"}),
        descriptor(
            proof.manifest, OCI_MANIFEST, platform={"os": "unknown", "architecture": "unknown"}, annotations=said
        ),
    ]
    index = index_of(*parts)
    member.push_manifest("web/app", "built", index, OCI_INDEX)
    page = see(console("reader"), f"{APP}-/manifests/built")
    assert [row["Platform"] for row in page.table("Platform", "Digest")] == ["linux/amd64"]
    (row,) = page.table("Statement", "About", "Built by")
    assert (row["Statement"], row["About"]) == ("SLSA provenance v0.2", "linux/amd64")
    assert row["Built by"].links[0].href == "https://ci.example/runner"


def test_helm_chart_page_shows_chart_yaml(console, docker, world):
    described = {
        "name": "shop",
        "version": "1.2.3",
        "appVersion": "7",
        "description": "The shop <b>",
        "type": "application",
    }
    config = Blob("application/vnd.cncf.helm.config.v1+json", json.dumps(described).encode())
    docker("member").push("web/shop", "1.2.3", Pushed(config, [Blob("application/x-tar", b"chart")]))
    page = see(console("reader"), "/projects/demo/repositories/web/shop/-/manifests/1.2.3").text
    assert "Chart.yaml Name shop Version 1.2.3 App version 7 Description The shop <b> Type application" in page
    assert "helm pull oci://localhost:8080/demo/web/shop --version 1.2.3 --plain-http" in page
    commands = see(console("reader"), "/projects/demo/repositories/web/shop/-/commands").text
    assert "helm registry login" in commands
    assert "docker" not in commands


def test_a_build_cache_and_a_signature_have_no_pull_command(console, docker, world):
    cache = Artifact("application/vnd.buildkit.cacheconfig.v0", Blob("application/x", b"cache"))
    docker("member").push("web/cache", "1", cache)
    assert " pull " not in see(console("reader"), "/projects/demo/repositories/web/cache/-/manifests/1").text


@pytest.mark.parametrize(("user", "words"), [("", "User root"), ("0:0", "User root"), ("app", "User app")])
def test_root_user_is_marked_and_source_is_a_link(console, docker, world, user, words):
    labels = {
        "org.opencontainers.image.source": "https://git.example/shop",
        "org.opencontainers.image.revision": "0123456789abcdef0123",
    }
    docker("member").push("web/app", "1", image_of("a", User=user, Labels=labels))
    page = see(console("reader"), f"{APP}-/manifests/1")
    assert words in page.text
    link = next(link for link in page.links if link.href == "https://git.example/shop")
    assert link.rel == "noopener noreferrer"
    assert "0123456789ab" in page.text
    assert '"schemaVersion": 2' in page.text


def test_source_without_a_web_address_is_not_a_link(console, docker, world):
    labels = {"org.opencontainers.image.source": "javascript:alert(1)"}
    docker("member").push("web/app", "1", image_of("a", Labels=labels))
    page = see(console("reader"), f"{APP}-/manifests/1")
    assert "Source javascript:alert(1)" in page.text
    assert not [link for link in page.links if "javascript" in link.href]


# ── Waiting for a push ───────────────────────────────────────────────────────────────────────────────────────────────
def test_an_empty_repository_waits_for_the_first_push(console, docker, world):
    browser, address = console("member"), "/projects/demo/repositories/web/"
    page = see(browser, address)
    assert "Waiting for your first push" in page.text
    assert [link.href for link in page.links if link.text == "Create access key"] == ["/profile/keys/new"]
    asked = {"HX-Request": "true", "HX-Trigger": "waiting"}
    assert browser.get(address, headers=asked).status_code == 204
    docker("member").push("web/app", "1", image_of("first"))
    answer = browser.get(address, headers=asked)
    assert answer.status_code == 200
    assert [row["Image"].links[0].text for row in Page(text(answer), address).table("Image")] == ["app"]


def test_commands_have_the_id_of_a_key_that_reaches_the_project(console, world):
    browser, address = console("member"), "/projects/demo/repositories/web/-/commands"
    AccessKey.objects.all().delete()
    assert "docker login localhost:8080" in see(browser, address).text
    user = world.member.user
    other = Project.objects.exclude(name="demo").first()
    AccessKey.objects.create(user=user, name="other", identifier="KCRKOTHER", project=other)
    AccessKey.objects.create(user=user, name="old", identifier="KCRKOLD", revoked_at=timezone.now())
    AccessKey.objects.create(user=world.admin.user, name="theirs", identifier="KCRKTHEIRS")
    assert "docker login localhost:8080" in see(browser, address).text
    AccessKey.objects.create(user=user, name="mine", identifier="KCRKMINE")
    page = see(browser, address).text
    assert "docker login --username KCRKMINE localhost:8080" in page
    assert "--docker-username=KCRKMINE" in page


# ── Expiry ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_expiry_that_stops_pulls_asks_first(console, pushed):
    browser, address = console("member"), f"{APP}-/settings"
    day = (timezone.now() + timedelta(days=30)).date().isoformat()
    form = see(browser, address).form("expires_on")
    assert form.submit(browser, expires_on=day).status_code == 302, "nobody pulled it: the day is saved at once"
    image = Image.objects.get(name="app")
    today = timezone.now()
    TagDay.objects.create(image=image, tag="latest", day=today.date(), pulls=12, pulled_at=today)
    later = (today + timedelta(days=40)).date().isoformat()
    page = Page(text(see(browser, address).form("expires_on").submit(browser, expires_on=later)), address)
    assert "The image was pulled 12 times today and yesterday. Tags: latest." in page.text
    assert Image.objects.get(name="app").expires_at == image.expires_at, "a question changes nothing"
    page.form("sure").submit(browser)
    assert Image.objects.get(name="app").expires_at > image.expires_at
    described = see(browser, address).form("expires_on").submit(browser, description="the same day")
    assert described.status_code == 302, "the day is the same: no question"
