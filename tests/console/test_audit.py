"""Pages of the audit log of an organization and of a user."""

from __future__ import annotations

import csv
import re
from datetime import timedelta

import pytest
from django.contrib.auth.tokens import default_token_generator
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from hypothesis import given
from hypothesis import strategies as st

from accounts import audit, keys
from accounts.actors import Actor
from accounts.limits import Limits
from accounts.models import AuditEvent
from console.forms.audit_log import KINDS
from console.templatetags.organization_audit_log import _sentences, audit_icon, audit_words
from tests.support import PASSWORD
from tests.support.pages import see, walk

AUDIT = "/organizations/acme/audit-log"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture(autouse=True)
def empty(world):
    """Delete the events of creating the world."""
    AuditEvent.objects.all().delete()


def lines(browser, address: str = AUDIT) -> list[str]:
    """Return the sentences of the page without markup."""
    page = browser.get(address).content.decode()
    timeline = page.partition('<ol class="timeline">')[2].partition("</ol>")[0]
    items = re.findall(r"</svg>\s*<div>(.*?)<div", timeline, re.DOTALL)
    return [re.sub(r"<[^>]+>", "", item).strip() for item in items]


def test_log_of_the_organization_shows_new_owners(console, world):
    browser = console("owner")
    there = {"email": "stranger@acme.test", "role": "owner", "seen": "member"}
    browser.post("/organizations/acme/", there, headers={"user-agent": FIREFOX}, REMOTE_ADDR="192.0.2.7")
    assert lines(browser)[0] == "Changed the role of stranger@acme.test in acme: Member → Owner"
    page = " ".join(browser.get(AUDIT).content.decode().split())
    assert "owner@acme.test · 192.0.2.7 ·" in page
    assert "console, Firefox (Linux)" in page
    browser.post("/organizations/acme/", there | {"role": "", "seen": "owner"})
    assert lines(browser)[0] == "Removed stranger@acme.test from acme"


def test_sign_ins_are_shown_with_address_and_browser(console, world):
    world.member.user.set_password(PASSWORD)
    world.member.user.save()
    stranger = console(None, headers={"user-agent": FIREFOX}, REMOTE_ADDR="192.0.2.9")
    for _ in range(3):
        stranger.post("/sign-in", {"email": "Member@acme.test", "password": "wrong"})
    stranger.post("/sign-in", {"email": "member@acme.test", "password": PASSWORD})
    browser = console("owner")
    assert lines(browser, f"{AUDIT}?person=member@acme.test")[0] == "member@acme.test signed in"
    failed = lines(browser, f"{AUDIT}?action=sign-in.failure")
    assert len(failed) == 1
    assert failed[0].startswith("A sign-in as member@acme.test failed, 3 times, the last on ")
    page = browser.get(f"{AUDIT}?action=sign-in.failure").content.decode()
    assert "192.0.2.9 · " in " ".join(page.split())
    assert lines(stranger, "/profile/activity")[0] == "member@acme.test signed in"


def test_password_changes_and_resets_are_shown(console, world):
    user = world.member.user
    user.set_password(PASSWORD)
    user.save()
    words = {"old_password": PASSWORD, "new_password1": "another good one 1", "new_password2": "another good one 1"}
    console("member").post("/profile/password", words)
    user.refresh_from_db()
    link = f"/password/new/{urlsafe_base64_encode(force_bytes(user.pk))}/{default_token_generator.make_token(user)}"
    both = {"new_password1": "a third good one 2", "new_password2": "a third good one 2"}
    newcomer = console(None)
    newcomer.post(newcomer.get(link).url, both)
    said = lines(console("owner"), f"{AUDIT}?person=member@acme.test")
    assert "member@acme.test changed their password" in said
    assert "member@acme.test set a password with a link from a mail" in said


def test_created_and_revoked_keys_are_shown(console, world):
    key = keys.create(world.member.user, "ci", project=world.projects["demo"], only=Limits(["pull"])).key
    console("owner").post(f"/organizations/acme/keys/{key.identifier}")
    said = [line for line in lines(console("owner")) if key.identifier in line]
    assert said == [
        f"Revoked the access key “ci” ({key.identifier}) of member@acme.test, demo, may only pull",
        f"Created the access key “ci” ({key.identifier}) of member@acme.test, demo, may only pull",
    ]
    own = lines(console("member"), "/profile/activity")
    assert set(said) <= set(own)


def test_users_see_only_their_own_activity(console, world):
    for name in ("member", "admin"):
        user = world.people[name].user
        audit.record(Actor(label=user.email), audit.Action.PASSWORD_CHANGE, person=user)
    page = console("member").get("/profile/activity").content.decode()
    assert "member@acme.test" in page
    assert "admin@acme.test" not in page


def test_the_log_is_filtered(console, world):
    browser = console("owner")
    member, admin = world.member.user, world.admin.user
    audit.record(Actor(label=admin.email), audit.Action.KEY_REVOKE, person=member, detail={"name": "a", "key": "K1"})
    audit.record(Actor(label=member.email), audit.Action.KEY_CREATE, person=member, detail={"name": "b", "key": "K2"})
    AuditEvent.objects.filter(action="key.create").update(at=timezone.now() - timedelta(days=9))
    assert len(lines(browser, f"{AUDIT}?action=key.revoke")) == 1
    assert len(lines(browser, f"{AUDIT}?person=Member@acme.test")) == 2
    assert len(lines(browser, f"{AUDIT}?person=admin@acme.test")) == 1, "by, not only about"
    day = (timezone.now() - timedelta(days=9)).date().isoformat()
    assert [line[:7] for line in lines(browser, f"{AUDIT}?since={day}&until={day}")] == ["Created"]
    assert lines(browser, f"{AUDIT}?person=nobody@acme.test") == []
    assert "Nothing matches" in browser.get(f"{AUDIT}?person=nobody@acme.test").content.decode()
    odd = browser.get(f"{AUDIT}?action=odd&since=odd&before=odd&until=9999-12-31")
    assert odd.status_code == 200


def test_the_log_is_paged_both_ways(console, world):
    for number in range(120):
        detail = {"name": f"n{number:03}", "key": "K"}
        audit.record(Actor(label="a"), audit.Action.KEY_CREATE, person=world.member.user, detail=detail)
    AuditEvent.objects.update(at=timezone.now())  # all at the same time: the id decides
    browser = console("owner")
    pages = walk(browser, f"{AUDIT}?action=key.create", "next")
    seen = [name for page in pages for name in re.findall(r"“(n\d{3})”", page.text)]
    assert seen == [f"n{number:03}" for number in reversed(range(120))]
    assert len(pages) == 3
    assert re.findall(r"“(n\d{3})”", see(browser, pages[-1].link("prev").href).text) == seen[50:100]


def test_log_is_downloaded_as_csv(console, world, monkeypatch):
    monkeypatch.setattr(audit, "ROWS", 2)
    for number in range(5):
        detail = {"name": f"n{number}", "key": "K"}
        by = Actor(label="a@acme.test", client="=HYPERLINK(1)")
        audit.record(by, audit.Action.KEY_CREATE, person=world.member.user, detail=detail)
    answer = console("owner").get("/organizations/acme/audit-log.csv?action=key.create")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="audit-log-acme.csv"'
    rows = list(csv.DictReader(b"".join(answer.streaming_content).decode("utf-8-sig").splitlines()))
    assert [row["detail"] for row in rows] == [f'{{"key": "K", "name": "n{number}"}}' for number in range(4, -1, -1)]
    assert {(row["action"], row["person"], row["who"]) for row in rows} == {
        ("key.create", "member@acme.test", "a@acme.test")
    }
    assert {row["client"] for row in rows} == {"'=HYPERLINK(1)"}


def test_the_log_speaks_korean(console, world):
    audit.record(Actor(label="a"), audit.Action.SIGN_IN, person=world.member.user)
    page = console("owner").get(AUDIT, headers={"Accept-Language": "ko"}).content.decode()
    for words in ("감사 로그", "모든 이벤트", "<strong>member@acme.test</strong> 로그인"):
        assert words in page


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_action_has_a_sentence_and_can_be_chosen():
    assert set(_sentences()) == set(KINDS) == set(AuditEvent.Action)


values = st.none() | st.booleans() | st.integers() | st.text(max_size=12) | st.just("<script>{x}") | st.lists(st.text())
names = st.sampled_from(["before", "after", "organization", "project", "repository", "name", "key", "pull_only"])


@given(
    st.sampled_from(AuditEvent.Action.values), st.dictionaries(names, values, max_size=5), st.sampled_from(["", "<b>"])
)
def test_unusual_details_are_shown_without_an_error(action, detail, subject):
    event = AuditEvent(action=action, subject=subject, detail=detail, actor="a", count=2, last_at=timezone.now())
    words = audit_words(event)
    assert "<script>" not in words
    assert "<b>" not in words
    assert "<svg" in audit_icon(event)
