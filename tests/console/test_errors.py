"""Error pages: their texts, their readers, and their links."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from django.db import OperationalError
from django.utils import translation

from registry import trash
from registry.models import Manifest
from registry.oci.names import ImageName
from tests.support.pages import Page

if TYPE_CHECKING:
    from django.test import Client

WEB = "/projects/demo/repositories/web/"
APP = f"{WEB}app/"
NAME = ImageName("demo", "web", "app")


def refused(browser: Client, path: str, status: int) -> Page:
    answer = browser.get(path)
    assert answer.status_code == status
    return Page(answer.content.decode(), path)


def side(page: Page) -> bool:
    return "/projects/demo/garbage-collection" in {link.href for link in page.links}


def test_404_keeps_the_side_bar_for_members_only(console, pushed):
    page = refused(console("reader"), f"{WEB}nothing/", 404)
    assert page.headings == ["There is nothing here"]
    assert side(page)
    assert "/projects/demo/repositories/" in {link.href for link in page.links}
    for person in ("outsider", "viewer", "stranger"):
        assert not side(refused(console(person), f"{WEB}nothing/", 404))
    assert not side(refused(console(None), "/nothing", 404))


@pytest.mark.parametrize(
    ("taken", "path", "words"),
    [
        ("tag", f"{APP}-/manifests/latest", "demo/web/app:latest"),
        ("digest", f"{APP}-/manifests/2.0", "demo/web/app:2.0"),
        ("image", f"{APP}-/manifests/latest", "demo/web/app"),
        ("image", APP, "demo/web/app"),
        ("repository", f"{APP}-/settings", "demo/web"),
        ("repository", WEB, "demo/web"),
    ],
)
def test_404_of_deleted_content_says_who_deleted_it_and_restores_it(console, world, pushed, taken, path, words):
    member, web = world.member.actor, world.repository("web")
    if taken == "image":
        trash.delete_images(member, web, ["app"])
    elif taken == "repository":
        trash.delete_repository(member, web)
    else:
        trash.delete_references(member, web, NAME, ["latest" if taken == "tag" else pushed["index"]])
    page = refused(console("reader"), path, 404)
    assert page.headings == ["This was deleted"]
    assert f"{words} was deleted just now by member@acme.test." in page.text
    assert "A member of the project can recover it." in page.text
    with pytest.raises(AssertionError):
        page.form("deletion")
    assert refused(console("member"), path, 404).form("deletion").action == "/projects/demo/recovery/restore"
    for person in ("viewer", "outsider"):
        assert "member@acme.test" not in refused(console(person), path, 404).text


def test_recover_on_the_404_page_brings_the_tag_back(console, world, pushed):
    trash.delete_references(world.member.actor, world.repository("web"), NAME, ["latest"])
    browser, path = console("member"), f"{APP}-/manifests/latest"
    form = refused(browser, path, 404).form("deletion")
    (button,) = form.buttons
    answer = browser.post(form.action, form.filled(**dict([button])), headers={"referer": f"http://localhost{path}"})
    assert answer.url == f"http://localhost{path}"
    assert browser.get(path).status_code == 200


def test_404_of_a_digest_that_was_deleted(console, world, pushed):
    trash.delete_references(world.member.actor, world.repository("web"), NAME, [pushed["untagged"]])
    page = refused(console("reader"), f"{APP}-/manifests/{pushed['untagged']}", 404)
    assert f"demo/web/app@{pushed['untagged']} was deleted just now" in page.text


def test_404_tells_nothing_about_purged_and_live_content(console, world, pushed):
    deletion = trash.delete_references(world.member.actor, world.repository("web"), NAME, ["latest"])
    trash.purge_now(world.admin.actor, deletion)
    assert refused(console("reader"), f"{APP}-/manifests/latest", 404).headings == ["There is nothing here"]
    assert refused(console("reader"), f"{WEB}-/cleanup/runs/99", 404).headings == ["There is nothing here"]
    assert Manifest.objects.live().exists()


def test_403_names_the_admins_and_keeps_the_side_bar(console, world):
    page = refused(console("reader"), "/projects/demo/repositories/new", 403)
    assert side(page)
    assert "admin@acme.test" in page.text
    (link,) = (link for link in page.links if link.text == "admin@acme.test")
    assert "admin@acme.test" in console("reader").get(link.href).content.decode()


def test_403_of_an_organization_names_its_owners(console, world):
    page = refused(console("reader"), "/organizations/acme/keys", 403)
    (link,) = (link for link in page.links if link.text == "owner@acme.test")
    assert console("reader").get(link.href).status_code == 200


def test_a_form_without_its_token_is_refused_in_the_frame_of_the_console(console, world):
    browser = console("member", enforce_csrf_checks=True)
    referer = {"referer": "http://localhost/projects/demo/settings"}
    answer = browser.post("/projects/demo/settings", {"name": "x"}, headers=referer)
    assert answer.status_code == 403
    page = Page(answer.content.decode())
    assert page.headings == ["The form was too old"]
    assert page.title == "Form too old · KCR"
    assert referer["referer"] in {link.href for link in page.links}


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (RuntimeError("defect"), 500, "Something broke on our side"),
        (OperationalError("away"), 503, "KCR is not ready"),
    ],
)
@pytest.mark.parametrize("language", ["en", "ko"])
def test_failures_have_a_page_with_the_number_of_the_request(
    console, world, monkeypatch, error, status, words, language
):
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("scanning.search.search", fail)
    browser = console("reader")
    browser.raise_request_exception = False
    world.people["reader"].user.__class__.objects.update(language=language)
    answer = browser.get("/search?q=app")
    assert answer.status_code == status
    page = Page(answer.content.decode())
    with translation.override(language):
        assert page.headings == [translation.gettext(words)]
    assert answer.headers["X-Request-Id"] in page.text
    assert "components" in answer.content.decode()
    assert re.search(rf'<html lang="{language}">', answer.content.decode())


def test_the_page_of_a_failed_database_asks_no_database(console, world, monkeypatch, django_assert_num_queries):
    """Without a database there is no session, so the language is that of the browser."""

    def fail(*arguments: object) -> None:
        raise OperationalError("away")

    monkeypatch.setattr("django.contrib.auth.middleware.get_user", fail)
    browser = console("reader")
    browser.raise_request_exception = False
    with django_assert_num_queries(0):
        answer = browser.get("/", headers={"accept-language": "ko"})
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "5"
    assert '<html lang="ko">' in answer.content.decode()
