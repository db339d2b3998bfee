"""Suggestions of the search field, by role."""

from __future__ import annotations

import pytest

from tests.support.pages import see


def suggested(browser, words: str) -> list[tuple[str, str]]:
    page = see(browser, f"/search/suggestions?q={words}")
    return [(link.text, link.href) for link in page.links if not link.href.startswith("/search?q=" + words)]


WEB = "/projects/demo/repositories/web/"


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("", ("demo", "/projects/demo/")),
        ("acme/de", ("demo", "/projects/demo/")),
        ("demo/we", ("demo/web", WEB)),
        ("web/ap", ("demo/web/app", f"{WEB}app/")),
        ("app:1", ("demo/web/app:1.0", f"{WEB}app/-/manifests/1.0")),
        ("late", ("demo/web/app:latest", f"{WEB}app/-/manifests/latest")),
        ("cve-2026", ("CVE-2026-4", "/cves/CVE-2026-4")),
    ],
)
def test_suggestions_link_to_the_named_objects(console, scanned, words, first):
    assert suggested(console("reader"), words)[0] == first
    for person in ("viewer", "outsider"):
        assert first not in suggested(console(person), words)


def test_search_words_are_not_patterns_or_markup(console, scanned):
    for words in ("%25", "__", "<b>", "a" * 300):
        page = see(console("reader"), f"/search/suggestions?q={words}")
        assert "demo/web" not in page.text


def test_all_words_are_offered_as_a_search(console, world):
    page = see(console("reader"), "/search/suggestions?q=nothing+there")
    assert [link.href for link in page.links] == ["/search?q=nothing%20there"]
