"""Invitations: users join by accepting, and no answer reveals who has an account."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import organizations, tasks
from accounts.actors import SYSTEM
from accounts.errors import Refusal
from accounts.models import AuditEvent, Invitation, OrganizationMembership, User
from tests.support import PASSWORD

HERE = "/organizations/acme/"
KNOWN, UNKNOWN = "outsider@other.test", "nobody@other.test"
NEW = "a good long password 7"


@pytest.fixture(autouse=True)
def mailing(monkeypatch):
    """Mails are sent at once."""
    for task in (tasks.send_invitation, tasks.tell_of_owner):
        monkeypatch.setattr(task, "delay", task)


def invite(browser, email: str, role: str = "member"):
    return browser.post(f"{HERE}invite", {"email": email, "role": role}, follow=True)


def link() -> str:
    """Return the link of the last mail without the host."""
    return re.search(r"http://localhost:8080(/invitations/kcri_\w+)", mail.outbox[-1].body)[1]


def is_member(email: str) -> bool:
    return OrganizationMembership.objects.filter(organization__name="acme", user__email=email).exists()


def answered(answer, email: str) -> str:
    """Return the page without the parts that differ in every request."""
    page = re.sub(r'name="csrfmiddlewaretoken" value="\w+"|<time [^>]*>', "", answer.content.decode())
    return page.replace(email, "EMAIL")


# ── Accounts are not revealed ────────────────────────────────────────────────────────────────────────────────────────
def test_known_and_unknown_addresses_get_the_same_answer(console, world):
    """Text, status, queries and mail are the same, and also for a repeated form."""
    world.outsider.user.name = "Olga Outside"
    world.outsider.user.save()
    browser, seen = console("owner"), {}
    browser.get(HERE)
    for email in (KNOWN, UNKNOWN):
        pages, statements = [], []
        for _ in range(2):
            with CaptureQueriesContext(connection) as queries:
                answer = invite(browser, email)
            pages.append((answer.status_code, answer.redirect_chain, answered(answer, email)))
            statements.append([re.sub(r"'[^']*'|\d+", "?", query["sql"]) for query in queries])
            body = mail.outbox[-1].body.replace(link(), "LINK").replace(email, "EMAIL")
            assert mail.outbox[-1].to == [email]
        seen[email] = (pages, statements, body, mail.outbox[-1].subject)
        assert f"An invitation to {email} is on its way." in answer.content.decode()
        assert "Olga" not in answer.content.decode()
        browser.post(HERE, {"act": "withdraw", "email": email}, follow=True)
    assert seen[KNOWN] == seen[UNKNOWN]
    assert not is_member(KNOWN)
    assert not User.objects.filter(email=UNKNOWN).exists()


def test_a_deactivated_account_gets_the_same_answer(console, world):
    organizations.deactivate(SYSTEM, world.outsider.user)
    first = answered(invite(console("owner"), KNOWN), KNOWN)
    Invitation.objects.all().delete()
    assert answered(invite(console("owner"), UNKNOWN), UNKNOWN) == first


def test_the_name_is_shown_after_they_accept(console, world):
    world.outsider.user.name = "Olga Outside"
    world.outsider.user.save()
    owner, theirs = console("owner"), console("outsider")
    invite(owner, KNOWN)
    assert "Olga Outside" not in owner.get(HERE).content.decode()
    page = theirs.get(link(), follow=True).content.decode()
    assert "owner@acme.test invites you to the organization acme." in page
    assert theirs.post("/invitation", {"act": "accept"}).url == HERE
    assert is_member(KNOWN)
    assert "Olga Outside" in owner.get(HERE).content.decode()


def test_inviting_a_member_says_that_they_are_a_member(console, world):
    said = invite(console("owner"), "Stranger@acme.test").content.decode()
    assert "stranger@acme.test is here already: change the role in the list." in said
    assert mail.outbox == []


# ── Accepting ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_new_user_sets_a_password_and_joins(console, world):
    invite(console("owner"), "New@other.test", "member")
    browser = console(None)
    opened = browser.get(link())
    assert opened.url == "/invitation"
    weak = browser.post("/invitation", {"new_password1": "password", "new_password2": "password", "act": "accept"})
    assert weak.status_code == 200
    assert not User.objects.filter(email="new@other.test").exists()
    words = {"name": "New", "new_password1": NEW, "new_password2": NEW, "act": "accept"}
    assert browser.post("/invitation", words).url == HERE
    assert browser.get("/profile").status_code == 200
    user = User.objects.get(email="new@other.test")
    assert (user.name, user.check_password(NEW)) == ("New", True)
    assert is_member("new@other.test")
    assert browser.get("/invitation").status_code == 410
    assert console(None).get(link()).status_code == 410, "the link works once"


def test_user_with_a_password_must_sign_in_first(console, world):
    """A link from a mail does not replace the password."""
    world.outsider.user.set_password(PASSWORD)
    world.outsider.user.save()
    invite(console("owner"), KNOWN)
    browser = console(None)
    page = browser.get(link(), follow=True).content.decode()
    assert 'href="/sign-in?next=/invitation"' in page
    for words in ({"act": "accept"}, {"act": "accept", "new_password1": NEW, "new_password2": NEW}):
        assert browser.post("/invitation", words).status_code == 200
    assert not is_member(KNOWN)
    signed = browser.post("/sign-in", {"email": KNOWN, "password": PASSWORD, "next": "/invitation"})
    assert signed.url == "/invitation"
    assert browser.post("/invitation", {"act": "accept"}).url == HERE
    assert is_member(KNOWN)


def test_account_without_a_password_sets_one(console, world):
    """adduser created the account without a password."""
    organizations.add_user(world.projects["rival"].organization, "fresh@other.test")
    invite(console("owner"), "fresh@other.test")
    browser = console(None)
    browser.get(link())
    browser.post("/invitation", {"new_password1": NEW, "new_password2": NEW, "act": "accept"})
    assert is_member("fresh@other.test")
    assert User.objects.get(email="fresh@other.test").check_password(NEW)


def test_an_invitation_is_for_its_address_only(console, world):
    invite(console("owner"), KNOWN, "owner")
    browser = console("stranger")
    page = browser.get(link(), follow=True).content.decode()
    assert "You are signed in as stranger@acme.test." in page
    assert 'value="accept"' not in page
    assert browser.post("/invitation", {"act": "accept"}).status_code == 200
    assert OrganizationMembership.objects.get(user=world.stranger.user).role == "member"
    with pytest.raises(Refusal, match="another e-mail address"):
        organizations.accept(SYSTEM, Invitation.objects.get(), world.stranger.user)


def test_deactivated_user_cannot_accept(console, world):
    organizations.add_user(world.projects["rival"].organization, "fresh@other.test")
    invite(console("owner"), "fresh@other.test")
    organizations.deactivate(SYSTEM, User.objects.get(email="fresh@other.test"))
    browser = console(None)
    browser.get(link())
    browser.post("/invitation", {"new_password1": NEW, "new_password2": NEW, "act": "accept"})
    assert not is_member("fresh@other.test")
    with pytest.raises(Refusal):
        organizations.join(SYSTEM, Invitation.objects.get(), name="", password=NEW)
    assert not User.objects.get(email="fresh@other.test").has_usable_password()


@pytest.mark.parametrize("way", ["withdrawn", "declined", "replaced", "expired", "accepted"])
def test_expired_used_and_withdrawn_links_are_refused(console, world, way):
    owner, theirs = console("owner"), console("outsider")
    invite(owner, KNOWN)
    old = link()
    theirs.get(old)
    if way == "withdrawn":
        owner.post(HERE, {"act": "withdraw", "email": KNOWN})
    elif way == "declined":
        theirs.post("/invitation", {"act": "decline"})
    elif way == "replaced":
        invite(owner, KNOWN)
        assert link() != old
    elif way == "expired":
        Invitation.objects.update(expires_at=timezone.now())
    else:
        theirs.post("/invitation", {"act": "accept"})
    before = is_member(KNOWN)
    assert theirs.get(old).status_code == 410
    assert theirs.post("/invitation", {"act": "accept"}).status_code == 410
    assert is_member(KNOWN) == before == (way == "accepted")
    if way == "expired":
        assert tasks.forget_expired() == 1
        assert not Invitation.objects.exists()


def test_accepted_owner_invitation_notifies_the_other_owners(console, world, django_capture_on_commit_callbacks):
    invite(console("owner"), KNOWN, "owner")
    theirs = console("outsider")
    theirs.get(link())
    with django_capture_on_commit_callbacks(execute=True):
        theirs.post("/invitation", {"act": "accept"})
    assert OrganizationMembership.objects.get(organization__name="acme", user__email=KNOWN).role == "owner"
    told = mail.outbox[-1]
    assert told.to == ["owner@acme.test"]
    assert f"owner@acme.test made {KNOWN} an owner of acme" in told.body


def test_every_step_is_in_the_log_of_the_organization_alone(console, world):
    AuditEvent.objects.all().delete()
    owner, theirs = console("owner"), console("outsider")
    AuditEvent.objects.all().delete()
    for act in ("decline", "accept"):
        invite(owner, KNOWN)
        theirs.get(link())
        theirs.post("/invitation", {"act": act})
    found = AuditEvent.objects.filter(organization__name="acme").order_by("pk")
    assert list(found.values_list("action", "subject", "actor")) == [
        ("invitation.send", KNOWN, "owner@acme.test"),
        ("invitation.decline", KNOWN, KNOWN),
        ("invitation.send", KNOWN, "owner@acme.test"),
        ("member.add", KNOWN, KNOWN),
    ]
    assert found.last().detail["invited_by"] == "owner@acme.test"
    assert not AuditEvent.objects.filter(organization__name="other").exists()


# ── Limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_invitations_of_an_organization_are_limited_per_hour(console, world):
    browser = console("owner")
    for number in range(organizations.INVITATIONS_AN_HOUR):
        invite(browser, f"p{number}@other.test")
        browser.post(HERE, {"act": "withdraw", "email": f"p{number}@other.test"})
    sent = len(mail.outbox)
    assert "Try again in an hour." in invite(browser, "more@other.test").content.decode()
    assert len(mail.outbox) == sent
    AuditEvent.objects.update(at=timezone.now() - timedelta(hours=1))
    invite(browser, "more@other.test")
    assert len(mail.outbox) == sent + 1


def test_open_invitations_are_limited(world, monkeypatch):
    monkeypatch.setattr(organizations, "INVITATIONS_OPEN", 2)
    acme = world.projects["demo"].organization
    for name in ("a", "b", "b"):
        organizations.invite(SYSTEM, acme, f"{name}@other.test", "member")
    with pytest.raises(Refusal, match="Withdraw some first"):
        organizations.invite(SYSTEM, acme, "c@other.test", "member")


def test_a_task_that_runs_twice_sends_one_mail(console, world):
    invite(console("owner"), KNOWN)
    assert not tasks.send_invitation(Invitation.objects.get().pk)
    assert len(mail.outbox) == 1


def test_the_secret_of_a_link_is_kept_as_a_hash_only(console, world):
    invite(console("owner"), KNOWN)
    secret = link().rpartition("/")[2]
    assert secret not in str(Invitation.objects.values().get())


def test_only_owners_see_and_send_invitations(console, world):
    invite(console("owner"), KNOWN)
    assert KNOWN in console("owner").get(HERE).content.decode()
    assert KNOWN not in console("admin").get(HERE).content.decode()
    for act in ("again", "withdraw"):
        assert console("admin").post(HERE, {"act": act, "email": KNOWN, "role": "member"}).status_code == 403
    assert Invitation.objects.count() == 1
