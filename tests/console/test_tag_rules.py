"""Pages of the rules of tags: list, order, add, change, remove, undo, test of a name, and what would have been refused."""

from __future__ import annotations

import pytest

from accounts.actors import SYSTEM
from accounts.models import Project
from registry import repositories
from registry.models import Event, Repository, Tag
from tests.support.pages import Page, see, text

pytestmark = pytest.mark.django_db
WEB = "/projects/demo/repositories/web/-/tag-rules"
DEMO = "/projects/demo/tag-rules"


def stored() -> list[list[str]]:
    return [rule["patterns"] for rule in Repository.objects.get(name="web", project__name="demo").tag_rules]


def add(browser, path: str = WEB, **fields: object) -> object:
    return see(browser, f"{path}/new").form("patterns", act="save").submit(browser, act="save", **fields)


def test_rules_are_added_ordered_changed_and_removed(console):
    browser = console("member")
    assert add(browser, patterns="v*\nrelease-?", mode="write-once", keep="on").url == WEB
    add(browser, patterns="dev-*", mode="movable")
    add(browser, patterns="*", mode="immutable", pushers="Mina@acme.test\nadmins")
    page = see(browser, WEB)
    rows = page.table("Rule", "Tags")
    assert [(row["Rule"], row["Tags"]) for row in rows] == [
        *(("1", "v* release-?"), ("2", "dev-*"), ("3", "*"), ("Last", "all other tags")),
    ]
    assert rows[0]["What they are"] == "write-once kept"
    assert rows[2]["Who may push"] == "mina@acme.test, admins of the project"
    page.form("seen", number="3", act="up").submit(browser, act="up")
    see(browser, WEB).form("seen", number="1", act="down").submit(browser, act="down")
    assert stored() == [["*"], ["v*", "release-?"], ["dev-*"]]
    form = see(browser, f"{WEB}/2").form("patterns")
    assert (form.shown["patterns"], form.shown["mode"]) == ("v*\nrelease-?", "write-once")
    form.submit(browser, act="save", patterns="v*", mode="immutable", keep=[])
    assert Repository.objects.get(name="web").tag_rules[1] == {
        "patterns": ["v*"],
        "mode": "immutable",
        "keep": False,
        "pushers": [],
    }
    see(browser, WEB).form("seen", number="1", act="remove").submit(browser, act="remove")
    assert stored() == [["v*"], ["dev-*"]]
    assert Event.objects.filter(action="repository.update", actor="member@acme.test").count() == 7


def test_first_and_last_rule_have_one_arrow(console):
    browser = console("member")
    for pattern in ("a", "b"):
        add(browser, patterns=pattern)
    forms = [form for form in see(browser, WEB).forms if "number" in form.names]
    acts = [[value for name, value in form.buttons if name == "act"] for form in forms]
    assert acts == [["down", "remove"], ["up", "remove"]]


def test_message_undoes_the_change(console):
    browser = console("member")
    add(browser, patterns="v*")
    see(browser, WEB).form("seen", number="1", act="remove").submit(browser, act="remove")
    page = see(browser, WEB)
    assert "Rule 1 has been removed." in page.text
    undo = next(form for form in page.forms if "/undo" in form.action)
    undo.submit(browser)
    assert stored() == [["v*"]]


def test_last_rule_is_tag_overwrite(console):
    browser = console("member")
    assert see(browser, WEB).table("Rule", "Tags")[-1]["What they are"] == "movable"
    see(browser, WEB).form("seen", act="immutable").submit(browser, act="immutable")
    assert not Repository.objects.get(name="web").tag_overwrite
    page = see(browser, WEB)
    assert page.table("Rule", "Tags")[-1]["What they are"] == "immutable"
    page.form("seen", act="movable").submit(browser, act="movable")
    assert Repository.objects.get(name="web").tag_overwrite


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"patterns": "a/b"}, "Rule 1 has 1 to 20 patterns such as v*"),
        ({"patterns": "v*", "pushers": "mina"}, "Rule 1 names at most 20 e-mail addresses, or admins"),
        ({"patterns": "  "}, "This field is required."),
    ],
)
@pytest.mark.parametrize("act", ["save", "preview"])
def test_wrong_rule_is_refused_with_what_was_typed(console, fields, words, act):
    browser = console("member")
    page = Page(text(see(browser, f"{WEB}/new").form("patterns").submit(browser, act=act, **fields)), f"{WEB}/new")
    assert words in page.text
    assert page.form("patterns").shown.get("pushers", "") == fields.get("pushers", "")
    assert stored() == []


def test_second_of_two_people_is_refused(console, world):
    mina, joon = console("member"), console("admin")
    hers = see(mina, f"{WEB}/new").form("patterns")
    add(joon, patterns="joon-*")
    assert "admin@acme.test changed demo/web meanwhile" in text(hers.submit(mina, act="save", patterns="mina-*"))
    list_of_mina = see(mina, WEB).form("seen", number="1", act="remove")
    repositories.update(SYSTEM, world.repository("web"), tag_rules=[{"patterns": ["other"], "mode": "movable"}])
    list_of_mina.submit(mina, act="remove")
    assert "changed demo/web meanwhile" in see(mina, WEB).text
    assert stored() == [["other"]]


def test_field_tells_which_rule_a_tag_has(console):
    browser = console("admin")
    add(browser, patterns="v*", mode="immutable")
    add(browser, DEMO, patterns="rc-*", mode="write-once", keep="on")
    for tag, words in (
        ("v1.2.3", "v1.2.3 → rule 1 of demo/web: immutable"),
        ("rc-1", "rc-1 → rule 1 of demo: write-once, kept"),
        ("latest", "latest → the last rule of demo/web: movable"),
    ):
        assert words in see(console("reader"), f"{WEB}?tag={tag}").text
    assert "latest → no rule: the repository decides" in see(browser, f"{DEMO}?tag=latest").text


def test_rules_of_the_project_are_shown_in_their_place(console):
    admin = console("admin")
    add(admin, DEMO, patterns="later-*")
    add(admin, DEMO, patterns="always-*", mode="immutable", locked="on")
    add(admin, patterns="own-*")
    rows = see(console("member"), WEB).table("Rule", "Tags")
    assert [row["Tags"] for row in rows] == ["always-*", "own-*", "later-*", "all other tags"]
    assert rows[0]["Rule"] == "2 of the project"
    assert "locked" in rows[0]["What they are"]
    assert [rule["locked"] for rule in Project.objects.get(name="demo").tag_rules] == [False, True]
    assert not [form for form in see(console("member"), DEMO).forms if "number" in form.names]


def test_preview_shows_what_would_have_been_refused(console, pushed):
    """``pushed`` has moved latest from the first to the second digest."""
    browser = console("member")
    form = see(browser, f"{WEB}/new").form("patterns")
    page = Page(text(form.submit(browser, act="preview", patterns="latest", mode="immutable")), f"{WEB}/new")
    assert "The rules would have refused 1 change." in page.text
    (row,) = page.table("Tag", "What happened")
    assert (row["Tag"], row["Refused by"]) == ("demo/web/app:latest", "rule 1 of demo/web")
    assert row["What happened"].startswith("moved just now · ")
    numbers = {each["Rule"]: each["Tags"] for each in page.table("Rule", "Tags")}
    assert numbers["rule 1 of demo/web"] == "1"
    assert stored() == []
    page.form("patterns").submit(browser, act="save")
    assert stored() == [["latest"]]
    assert "The rules would have refused 1 change." in see(browser, f"{WEB}?preview=yes").text
    assert "The rules would have refused 1 change." in see(browser, f"{DEMO}?preview=yes").text


def test_protected_tags_have_a_lock(console, pushed):
    browser = console("member")
    add(browser, patterns="1.*", mode="immutable")
    names = [row["Tag"] for row in see(browser, "/projects/demo/repositories/web/app/").table("Tag", "Digest")]
    assert [name.split()[0] for name in names if "immutable" in name] == ["1.0"]


def test_refused_deletion_says_which_rule_keeps_the_tag(console, pushed):
    browser = console("member")
    add(browser, patterns="1.*", mode="movable", keep="on")
    path = "/projects/demo/repositories/web/app/-/tags/delete?tag=1.0"
    see(browser, path).form("sure").submit(browser)
    assert "A rule keeps it (rule 1 of demo/web: 1.*)" in see(browser, "/projects/demo/repositories/web/app/").text
    assert Tag.objects.live().filter(name="1.0").exists()


def test_audit_log_tells_the_rules(console):
    browser = console("member")
    add(browser, patterns="v*", mode="write-once", keep="on", pushers="admins")
    page = see(browser, "/projects/demo/audit-log")
    assert "tag rules: v*: write-once, kept, pushed by admins of the project alone" in page.text
