"""Readmes of repositories: written in the settings, shown as Markdown on the page of the repository and the public one."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse

from console.templatetags.audit_log import event_words
from console.templatetags.markdown import MAX_HTML, markdown
from registry import repositories, trash
from registry.errors import NameInvalid
from registry.models import Event, Readme, Repository
from tests.support.pages import Page, dangers, see

WEB = "/projects/demo/repositories/web/"
SETTINGS = f"{WEB}-/settings"
LOG = "/projects/demo/audit-log"
TEXT = """# Shop

Pull **web/app**, see [the guide](https://guide.test/start "Guide") or <mailto:shop@acme.test>.

| tag | for |
|----:|-----|
| 1.0 | production |
"""


def readme(name: str = "web") -> str:
    return repositories.readme_of(Repository.objects.get(project__name="demo", name=name))


def test_readme_is_written_shown_and_removed(console, world):
    browser = console("member")
    form = see(browser, SETTINGS).form("readme")
    assert form.submit(browser, readme=TEXT.replace("\n", "\r\n")).status_code == 302
    assert readme() == TEXT.strip()

    page = see(browser, WEB)
    assert page.table("tag", "for") == [{"tag": "1.0", "for": "production"}]
    assert [(link.href, link.text) for link in page.links if "nofollow" in link.rel] == [
        ("https://guide.test/start", "the guide"),
        ("mailto:shop@acme.test", "mailto:shop@acme.test"),
    ]
    html = browser.get(WEB).content.decode()
    assert "<h2>Shop</h2>" in html
    assert "<strong>web/app</strong>" in html
    assert dangers(html) == ["a mailto:shop@acme.test"]

    assert see(browser, SETTINGS).form("readme").submit(browser, readme=" ").status_code == 302
    assert not Readme.objects.exists()
    assert "Readme" not in see(browser, WEB).text


def test_other_settings_leave_the_readme(console, world):
    repositories.update(world.member.actor, world.repository("web"), readme="# Shop")
    browser = console("member")
    assert see(browser, SETTINGS).form("readme").submit(browser, description="The shop").status_code == 302
    assert readme() == "# Shop"
    assert Event.objects.latest("pk").detail == {"before": {"description": ""}, "after": {"description": "The shop"}}


def test_strangers_see_the_readme_of_a_public_repository(console, world):
    repositories.update(world.member.actor, world.repository("public"), readme="# For *everybody*")
    assert "<h2>For <em>everybody</em></h2>" in console(None).get("/public/demo/public/").content.decode()


@pytest.mark.parametrize(("length", "is_open"), [(499, True), (500, False)])
def test_long_readme_is_folded(console, world, length, is_open):
    repositories.update(world.member.actor, world.repository("web"), readme="x" * length)
    html = console("reader").get(WEB).content.decode()
    assert ('<details class="card readme" open>' in html) == is_open


def test_readme_of_10_000_characters_is_kept_and_a_longer_one_refused_as_typed(console, world):
    browser, line = console("member"), "한" * 99 + "\r\n"
    form = see(browser, SETTINGS).form("readme")
    assert form.submit(browser, readme=line * 99 + "한" * 100).status_code == 302
    assert len(readme()) == 10_000

    form, longer = see(browser, SETTINGS).form("readme"), line * 100 + "x"
    answer = form.submit(browser, readme=longer, description="typed, too")
    page = Page(answer.content.decode(), SETTINGS)
    assert "Ensure this value has at most 10000 characters (it has 10001)." in page.text
    assert "10,001 of 10,000 characters" in page.text
    shown = page.form("readme").shown
    assert shown["readme"].splitlines() == longer.splitlines()
    assert shown["description"] == "typed, too"
    assert len(readme()) == 10_000

    with pytest.raises(NameInvalid, match="at most 10000"):
        repositories.update(world.member.actor, world.repository("web"), readme="x" * 10_001)


def test_readme_opened_by_two_people_is_not_overwritten(console, world):
    hers, his = (see(console(name), SETTINGS).form("readme") for name in ("member", "admin"))
    assert his.submit(console("admin"), readme="his").status_code == 302
    answer = hers.submit(console("member"), readme="hers")
    assert "admin@acme.test changed demo/web meanwhile" in Page(answer.content.decode(), SETTINGS).text
    assert Page(answer.content.decode(), SETTINGS).form("readme").shown["readme"] == "hers"
    assert readme() == "his"


def test_audit_log_names_the_readme_without_its_text_and_offers_no_undo(console, world):
    browser = console("member")
    form = see(browser, SETTINGS).form("readme")
    form.submit(browser, readme="first plans")
    event = Event.objects.latest("pk")
    assert event.detail == {"before": {}, "after": {}, "readme": "changed"}
    assert re.sub(r"<[^>]+>", "", event_words(event)) == "Changed demo/web: readme changed"
    undo = reverse("console:undo_event", args=["demo", event.pk])
    assert undo not in browser.get(LOG).content.decode()
    assert "its former text is not kept" in see(browser, undo).text
    see(browser, SETTINGS).form("readme").submit(browser, readme="plans", description="The shop")
    both = Event.objects.latest("pk")
    assert re.sub(r"<[^>]+>", "", event_words(both)) == "Changed demo/web: description: “The shop”, readme changed"
    assert reverse("console:undo_event", args=["demo", both.pk]) in browser.get(LOG).content.decode()


def test_deleted_repository_keeps_its_readme_until_it_is_purged(world):
    web = world.repository("web")
    repositories.update(world.member.actor, web, readme="# Shop")
    deletion = trash.delete_repository(world.member.actor, web)
    assert Readme.objects.exists()
    trash.purge_now(world.owner.actor, deletion)
    assert not Repository.objects.filter(pk=web.pk).exists()
    assert not Readme.objects.exists()


HOSTILE = {
    "script": "<script>alert(1)</script>",
    "block of HTML": "<div onclick=x style=y>\n<img src=x onerror=x>\n</div>",
    "inline HTML": "a <b onmouseover=x>b</b> <!-- c --> <?php ?> <![CDATA[x]]>",
    "link to a script": "[x](javascript:alert(1)) [x](JaVaScRiPt:x) [x](&#106;avascript:x) [x](java\\script:x)",
    "link to data": "[x](data:text/html;base64,PHNjcmlwdD4=) <data:text/html,x> [x](vbscript:x) [x](file:///etc/passwd)",
    "reference to a script": "[x]\n\n[x]: javascript:alert(1)",
    "relative links": "[x](//evil.test/) [x](/sign-out) [x](https:evil) [x](#top) [x]()",
    "image": "![x](https://evil.test/x.png) [![x](https://evil.test/x.png)](javascript:x)",
    "quotes in an address": '[x](https://evil.test/"onclick="x) [x](<https://evil.test/" onclick=x>)',
    "quotes in a title": "[x](https://evil.test/ '\" onclick=\"x')",
    "language of a fence": '```"><script>x</script>\ncode\n```',
    "alignment of cells": "|a|\n|:-:|\n|b|",
    "fence without an end": "```\n</code></pre></main><script>x</script>",
    "constructs without an end": "**a _b `c [d](https://evil.test/ <https://evil.test/ ![e](",
    "entities": "&lt;script&gt; &#60;script&#62; &#x3c;b&#x3e;",
}
PART = re.compile(r"</?([a-z0-9]+)((?: [a-z]+=\"[^\"<>]*\")*) ?/?>")
TAGS = {"a", "p", "h3", "pre", "code", "em", "strong", "ul", "ol", "li", "blockquote", "hr", "br"}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td"}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_markdown_is_shown_as_text(what):
    html = markdown(HOSTILE[what])
    assert dangers(html) == []
    tags = PART.findall(html)
    assert "<" not in PART.sub("", html)
    assert {tag for tag, _attributes in tags} <= TAGS
    links = {attributes for tag, attributes in tags if tag == "a" and attributes}
    assert all(
        re.match(r' href="https://evil\.test/[^"]*" rel="nofollow noopener noreferrer"$', each) for each in links
    )
    assert {attributes for tag, attributes in tags if tag != "a"} <= {""}


def test_what_is_no_link_is_still_read():
    assert "[x](javascript:x)" in markdown("[x](javascript:x)")
    assert markdown("![The *logo*](https://evil.test/x.png)") == "<p>The logo</p>\n"
    assert '<a href="https://ci.test"' in markdown("[![Build](https://evil.test/x.png)](https://ci.test)")
    assert "&lt;b&gt;" in markdown("<b>")


HEAVY = {
    "quotes": "> " * 5_000 + "x",
    "lists": "- " * 5_000 + "x",
    "indented lists": "".join(" " * (2 * depth) + "- x\n" for depth in range(98)),
    "brackets": "[" * 5_000 + "]" * 5_000,
    "images": "![" * 5_000,
    "links": "[a](" * 2_500,
    "stars": "*a_ " * 2_500,
    "backticks": "".join("`" * length + " " for length in range(1, 140)),
    "wide table": "|a" * 1_250 + "\n" + "|-" * 1_250 + "\n" + "a\n" * 2_490,
    "long table": "|a" * 50 + "\n" + "|-" * 50 + "\n" + "a\n" * 4_890,
    "long address": "[a]: https://x/" + "한" * 4_900 + "\n\n" + "[a] " * 1_250,
    "address": "[a]: https://x/" + "y" * 985 + "\n\n" + "[a]" * 2_999,
    "title": "[a]: https://x '" + "y" * 4_900 + "'\n\n" + "[a] " * 1_250,
}


@pytest.mark.parametrize("what", HEAVY)
def test_html_of_a_readme_is_bounded(what):
    text = HEAVY[what]
    assert 9_500 < len(text) <= 10_001
    html = markdown(text)
    assert len(html) <= MAX_HTML
    depth = deepest = 0
    for closing in re.findall(r"<(/?)(?:blockquote|ul|ol|li|em|strong)>", html):
        depth += -1 if closing else 1
        deepest = max(deepest, depth)
    assert depth == 0
    assert deepest <= 21


def test_text_that_grows_too_much_is_shown_as_typed():
    html = markdown(HEAVY["address"] + "<b>")
    assert html.startswith("<pre>[a]: https://x/yyy")
    assert html.endswith("&lt;b&gt;</pre>")
