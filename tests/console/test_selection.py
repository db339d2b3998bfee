"""Deleting all rows of a list that match its search, after a page that names their number and the filter."""

from __future__ import annotations

import pytest
from django.utils import timezone

from registry.models import Image, Manifest, Tag
from tests.support.images import sha256
from tests.support.pages import Page, see

WEB = "/projects/demo/repositories/web/"
APP = f"{WEB}app/"


def chosen(browser, page: Page, action: str) -> Page:
    """Return the page after "Delete all that match" was pressed."""
    form = next(form for form in page.forms if form.action == action and ("all", "yes") in form.buttons)
    answer = form.submit(browser, all="yes")
    assert answer.status_code == 200
    return Page(answer.content.decode(), action)


@pytest.fixture
def tags(pushed):
    manifest = Manifest.objects.get(digest=pushed["first"])
    for kind in ("v", "w"):
        Tag.objects.bulk_create(
            Tag(image=manifest.image, name=f"{kind}{number}", manifest=manifest) for number in range(60)
        )
    return Tag.objects.live().filter(image=manifest.image)


def test_all_matching_tags_are_deleted(console, tags):
    browser = console("member")
    listed = see(browser, f"{APP}?q=v")
    assert "Delete all 60 that match" in Page(browser.get(f"{APP}?q=v").content.decode()).text
    page = chosen(browser, listed, f"{APP}-/tags/delete")
    assert page.headings == ["Delete 60 tags"]
    assert "All 60 that match the filter: v" in page.text
    assert "and 10 more" in page.text
    shown = [row[0].split()[0] for row in page.tables[0][1:]]
    assert shown == [f"v{number}" for number in range(50)], "in natural order"
    answer = page.form("seen").submit(browser)
    assert answer.url == APP
    assert not tags.filter(name__startswith="v").exists()
    assert tags.filter(name__startswith="w").count() == 60
    toast = see(browser, APP)
    assert "60 tags have been deleted." in toast.text
    toast.form("deletion").submit(browser)
    assert tags.filter(name__startswith="v").count() == 60


def test_nothing_is_deleted_when_the_matching_tags_changed(console, tags):
    browser = console("member")
    page = chosen(browser, see(browser, f"{APP}?q=v"), f"{APP}-/tags/delete")
    manifest = tags.first().manifest
    Tag.objects.bulk_create([Tag(image=manifest.image, name="v-new", manifest=manifest)])
    answer = page.form("seen").submit(browser)
    again = Page(answer.content.decode(), f"{APP}-/tags/delete")
    assert "The list has changed since you saw it. Nothing was deleted" in again.text
    assert again.headings == ["Delete 61 tags"]
    assert tags.filter(name__startswith="v").count() == 61
    again.form("seen").submit(browser)
    assert not tags.filter(name__startswith="v").exists()


def test_a_confirmation_without_its_hash_deletes_nothing(console, tags):
    answer = console("member").post(f"{APP}-/tags/delete", {"all": "yes", "sure": "yes"})
    assert answer.status_code == 200
    assert tags.count() == 123


def test_all_digests_without_a_tag_are_deleted(console, pushed):
    image = Manifest.objects.get(digest=pushed["first"]).image
    model = {"image": image, "media_type": "application/vnd.oci.image.manifest.v1+json", "content": b"{}", "size": 2}
    Manifest.objects.bulk_create(
        Manifest(digest=sha256(f"{number}".encode()), total_size=2, **model) for number in range(60)
    )
    browser = console("member")
    page = chosen(browser, see(browser, f"{APP}-/untagged"), f"{APP}-/untagged/delete")
    assert "All 61, without a filter" in page.text
    assert page.form("seen").submit(browser).status_code == 302
    assert Manifest.objects.live().filter(image=image).count() == 4


def test_all_matching_images_are_deleted(console, world):
    web = world.repository("web")
    Image.objects.bulk_create(
        Image(repository=web, name=f"{kind}{n:03}", path=f"demo/web/{kind}{n:03}") for n in range(60) for kind in "ab"
    )
    browser = console("member")
    page = chosen(browser, see(browser, f"{WEB}?q=a"), f"{WEB}-/images/delete")
    assert page.headings == ["Delete 60 images"]
    assert page.form("seen").submit(browser).status_code == 302
    assert set(Image.objects.live().values_list("name", flat=True)) == {f"b{n:03}" for n in range(60)}


def test_every_filter_of_the_list_is_kept(console, world):
    now = timezone.now()
    Image.objects.bulk_create(
        Image(
            repository=world.repository("web"), name=f"{n:03}", path=f"demo/web/{n:03}", emptied_at=now if n else None
        )
        for n in range(61)
    )
    browser = console("member")
    page = chosen(browser, see(browser, f"{WEB}?contents=none"), f"{WEB}-/images/delete")
    assert page.headings == ["Delete 60 images"]
    page.form("seen").submit(browser)
    assert list(Image.objects.live().values_list("name", flat=True)) == ["000"]


def test_delete_all_is_offered_only_with_permission(console, tags):
    assert console("reader").get(f"{APP}-/tags/delete?all=yes").status_code == 403
    assert "Delete all" not in see(console("reader"), APP).text
