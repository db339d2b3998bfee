"""The home page: project cards, latest pushes, and the redirect to the only project."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from console.queries import projects
from registry.models import CleanupRun, Image
from tests.support.database import plan
from tests.support.pages import see


def test_cards_count_what_needs_attention_and_images_are_listed(console, docker, world):
    docker("member").push("web/app", "1.0")
    docker("member").push("web/other", "1.0")
    browser = console("owner")
    page = see(browser, "/?all=1")
    assert "needs attention" not in page.text
    images = [link.text for link in page.links if link.href.startswith("/projects/demo/repositories/")]
    assert images == ["demo/web/other", "demo/web/app"]
    CleanupRun.objects.create(repository=world.repository("web"), state="held")
    assert "1 needs attention" in see(browser, "/?all=1").text
    Image.objects.filter(path="demo/web/app").update(expires_at=timezone.now() + timedelta(days=3))
    Image.objects.filter(path="demo/web/other").update(expires_at=timezone.now() + timedelta(days=30))
    assert "2 need attention" in see(browser, "/?all=1").text
    assert "demo/web" not in see(console("outsider"), "/?all=1").text


@pytest.mark.sqlite_only  # PostgreSQL chooses by statistics
@pytest.mark.django_db
def test_images_that_expire_soon_are_found_by_their_index():
    now = timezone.now()
    ending = projects._ending(now, now + projects.EXPIRES_SOON).filter(repository__project=1)
    assert "images_that_expire" in plan(ending)


def test_user_with_one_project_lands_on_its_overview(console, world):
    browser = console("reader")
    assert browser.get("/").url == "/projects/demo/"
    assert browser.get("/", headers={"referer": "http://localhost:8080/sign-in?next=/"}).url == "/projects/demo/"
    assert browser.get("/", headers={"referer": "http://localhost:8080/projects/demo/"}).status_code == 200
