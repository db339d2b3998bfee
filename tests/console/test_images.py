"""The page of all images of a project."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from registry import trash
from registry.models import Image, TagDay
from tests.support.images import image_of
from tests.support.pages import see, walk

ADDRESS = "/projects/demo/images"
APP = "/projects/demo/repositories/web/app/"


@pytest.fixture
def images(docker, scanned):
    """web/app with the critical CVE-2026-1, web/old pulled a year ago, fixed/tool pulled today."""
    docker("owner").push("web/old", "1", image_of("old"))
    docker("owner").push("fixed/tool", "1", image_of("tool"))
    today = timezone.now().date()
    for name, day in (("old", today - timedelta(days=365)), ("tool", today)):
        TagDay.objects.create(image=Image.objects.get(name=name), tag="1", day=day, pulls=7)


def names(page) -> list[str]:
    return [row["Image"] for row in page.table("Image", "Tags")]


def test_all_images_of_the_project_are_listed_and_sorted(console, images):
    browser = console("reader")
    assert names(see(browser, ADDRESS)) == ["fixed/tool", "web/old", "web/app"]
    assert names(see(browser, f"{ADDRESS}?sort=name")) == ["fixed/tool", "web/app", "web/old"]
    by_pulls = see(browser, f"{ADDRESS}?sort=pulls")
    assert [row["Pulls, 30 days"] for row in by_pulls.table("Image")] == ["7", "0", "0"]
    assert names(by_pulls)[0] == "fixed/tool"
    row = next(row for row in by_pulls.table("Image") if row["Image"] == "web/app")
    assert row["Tags"] == "3"
    assert row["Vulnerabilities"].startswith("C Critical")
    assert APP in by_pulls.row_links


def test_images_are_filtered(console, images):
    browser = console("reader")
    assert names(see(browser, f"{ADDRESS}?q=web/o")) == ["web/old"]
    assert names(see(browser, f"{ADDRESS}?severity=critical")) == ["web/app"]
    assert "Nothing matches" in see(browser, f"{ADDRESS}?q=demo").text


@pytest.mark.parametrize("sort", ["pushed", "name", "pulls"])
def test_images_are_paged(console, world, sort):
    web = world.repository("web")
    Image.objects.bulk_create(Image(repository=web, name=f"i{n:03}", path=f"demo/web/i{n:03}") for n in range(120))
    flat = [row for page in walk(console("reader"), f"{ADDRESS}?sort={sort}", "next") for row in page.row_links]
    assert len(flat) == len(set(flat)) == 120


def test_deleted_images_and_those_of_deleted_repositories_are_not_listed(console, world, images):
    trash.delete_images(world.owner.actor, world.repository("web"), ["old"])
    trash.delete_repository(world.owner.actor, world.repository("fixed"))
    assert names(see(console("reader"), ADDRESS)) == ["web/app"]
