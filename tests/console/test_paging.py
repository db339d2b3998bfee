"""Positions in a list, and the number of rows of a page."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from registry.models import Deletion, Repository
from tests.support.pages import Page, see, walk

ADDRESS = reverse("console:repositories", args=["demo"])


@pytest.fixture
def many(world):
    project = world.projects["demo"]
    Repository.objects.bulk_create(Repository(project=project, name=f"r{number:03}") for number in range(130))


def positions(pages: list[Page]) -> list[str]:
    words = [page.text.partition(" Rows: 25 50 100")[0].rpartition(" of ") for page in pages]
    return [f"{before.rpartition(' ')[2]} of {total}" for before, _, total in words]


def test_pages_say_where_they_are(console, many):
    browser = console("reader")
    forwards = walk(browser, ADDRESS, "next")
    assert positions(forwards) == ["1-50 of 133", "51-100 of 133", "101-133 of 133"]
    backwards = walk(browser, forwards[-1].path, "prev")
    assert positions(backwards) == ["101-133 of 133", "51-100 of 133", "1-50 of 133"]


def test_pages_of_a_search_count_what_matches(console, many):
    pages = walk(console("reader"), f"{ADDRESS}?q=r0", "next")
    assert positions(pages) == ["1-50 of 100", "51-100 of 100"]
    assert "10 of 133" in see(console("reader"), f"{ADDRESS}?q=r12").text


def test_previous_page_is_right_after_rows_were_added_before_it(console, world, many):
    browser = console("reader")
    second = see(browser, walk(browser, ADDRESS, "next")[1].path)
    Repository.objects.bulk_create(Repository(project=world.projects["demo"], name=f"a{n:03}") for n in range(60))
    back = walk(browser, second.path, "prev")
    flat = [row for page in reversed(back) for row in page.row_links]
    assert len(flat) == len(set(flat)) == 160
    assert positions(back)[-1].startswith("1-")


def test_lists_without_a_total_say_which_rows_they_show(console, world):
    later = timezone.now() + timedelta(days=7)
    Deletion.objects.bulk_create(
        Deletion(kind="tag", project=world.projects["demo"], path="demo/web/app", actor="a", purge_after=later)
        for _ in range(60)
    )
    pages = walk(console("reader"), reverse("console:recovery", args=["demo"]), "next")
    assert "1-50 Rows:" in pages[0].text
    assert "51-60 Rows:" in pages[1].text


def test_the_chosen_number_of_rows_is_kept(console, many):
    browser = console("reader")
    (link,) = (link for link in see(browser, ADDRESS).links if link.text == "25")
    assert len(see(browser, link.href).row_links) == 25
    assert len(see(browser, ADDRESS).row_links) == 25
    assert len(see(browser, f"{ADDRESS}?rows=100").row_links) == 100
    assert positions(walk(browser, ADDRESS, "next")) == ["1-100 of 133", "101-133 of 133"]
    assert len(see(console("reader"), ADDRESS).row_links) == 50


@pytest.mark.parametrize("rows", ["0", "1000000", "-25", "25.0", "x", "٢٥", ""])
def test_other_numbers_of_rows_are_left_out(console, many, rows):
    browser = console("reader")
    assert len(see(browser, f"{ADDRESS}?rows={rows}").row_links) == 50
    browser.cookies["kcr_rows"] = "1000000"
    answer = browser.get(ADDRESS)
    assert len(Page(answer.content.decode()).row_links) == 50


def test_short_lists_offer_no_choice(console, world):
    assert "Rows:" not in see(console("reader"), ADDRESS).text


def test_short_lists_by_name_are_in_natural_order(console, world):
    project = world.projects["demo"]
    Repository.objects.bulk_create(Repository(project=project, name=f"v{number}") for number in (10, 9, 100, 1))
    names = [row["Name"] for row in see(console("reader"), f"{ADDRESS}?q=v&sort=name").table("Name")]
    assert names == ["v1", "v9", "v10", "v100"]
