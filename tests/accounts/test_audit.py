"""The audit log of organizations: its readers, and the rows that anonymous clients can add."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from accounts import audit, keys, organizations, tokens
from accounts import tasks as account_tasks
from accounts.actors import SYSTEM, Actor
from accounts.errors import Refusal
from accounts.models import AuditEvent, OrganizationRole
from registry import members, repositories
from tests.support.database import plan
from tests.support.personas import make_key

BY = Actor(label="owner@acme.test", address="192.0.2.1", client="console, test/1")


def log(organization) -> list[tuple[str, str, str]]:
    """Action, person and actor of the events since the world was made, oldest first."""
    found = AuditEvent.objects.filter(organization=organization).order_by("pk")
    return list(found.values_list("action", "subject", "actor"))


@pytest.fixture
def acme(world):
    AuditEvent.objects.all().delete()
    return world.projects["demo"].organization


@pytest.fixture
def other(world):
    return world.projects["rival"].organization


def test_becoming_an_owner_and_losing_it_leave_a_trace(acme, world):
    user = world.stranger.user
    members.set_organization_role(BY, acme, user, OrganizationRole.OWNER)
    members.set_organization_role(BY, acme, user, OrganizationRole.MEMBER)
    members.set_organization_role(BY, acme, user, OrganizationRole.MEMBER)
    members.set_organization_role(BY, acme, user, None)
    who = ("stranger@acme.test", "owner@acme.test")
    assert log(acme) == [("member.role", *who), ("member.role", *who), ("member.remove", *who)]
    first = AuditEvent.objects.filter(organization=acme).earliest("pk")
    assert (first.detail["before"], first.detail["after"]) == ("member", "owner")
    assert (first.address, first.client) == ("192.0.2.1", "console, test/1")
    assert audit.of_person(user).count() == 3


def test_refused_changes_are_not_in_the_audit_log(acme, world):
    with pytest.raises(Refusal):
        members.set_organization_role(BY, acme, world.owner.user, None)
    assert log(acme) == []


def test_people_roles_and_keys_leave_a_trace(acme, world):
    user, _ = organizations.add_user(acme, "new@acme.test", by=BY)
    members.set_role(BY, world.projects["demo"], user, "reader")
    members.set_role(BY, world.projects["demo"], user, None)
    repositories.set_role(BY, world.repository("web"), user, "viewer")
    made = keys.create(user, "laptop")
    keys.revoke(made.key, by=BY)
    keys.revoke(made.key, by=BY)
    organizations.deactivate(BY, user)
    organizations.activate(BY, user)
    tokens.rotate_signing_key(BY)
    assert [action for action, _, _ in log(acme)] == [
        *("member.add", "project.role", "project.role", "repository.role", "key.create", "key.revoke"),
        *("user.deactivate", "user.activate", "signing-key.rotate"),
    ]
    assert {subject for _, subject, _ in log(acme)[:-1]} == {"new@acme.test"}
    assert ("key.create", "new@acme.test", "new@acme.test") in log(acme)
    secret = made.secret.removeprefix(keys.SECRET_PREFIX)
    assert all(secret not in str(row) for row in AuditEvent.objects.values())


def test_owner_reads_no_events_from_before_a_person_joined_or_from_other_organizations(acme, other, world):
    """The person belongs to two organizations. Owners of one do not read about keys and roles in the other."""
    user = world.outsider.user
    audit.record(Actor(label=user.email), audit.Action.SIGN_IN, person=user)
    assert log(acme) == []
    assert [action for action, _, _ in log(other)] == ["sign-in.success"]
    organizations.add_user(acme, user.email, by=BY)
    keys.create(user, "theirs", project=world.projects["rival"])
    members.set_role(SYSTEM, world.projects["rival"], user, None)
    assert [action for action, _, _ in log(acme)] == ["member.add"]
    keys.create(user, "everywhere")
    assert [action for action, _, _ in log(acme)] == ["member.add", "key.create"]
    members.set_organization_role(BY, acme, user, None)
    audit.record(Actor(label=user.email), audit.Action.SIGN_IN, person=user)
    assert [action for action, _, _ in log(acme)] == ["member.add", "key.create", "member.remove"]
    assert audit.of_person(user).count() == 7


def test_key_limited_to_a_project_is_logged_in_the_organization_of_that_project_only(acme, other, world):
    organizations.add_user(other, world.member.user.email)
    AuditEvent.objects.all().delete()
    make_key(world.member.user, "ci", project=world.projects["demo"])
    assert [action for action, _, _ in log(acme)] == ["key.create"]
    assert log(other) == []


# ── Failed sign-ins ──────────────────────────────────────────────────────────────────────────────────────────────────
def fail(email: str, address: str = "198.51.100.7") -> None:
    audit.record_failed_sign_in(email, address=address, client="console, test/1")


def test_many_failures_of_an_address_share_one_row_with_a_count(acme, world):
    for _ in range(40):
        fail("Owner@acme.test")
    (event,) = AuditEvent.objects.filter(organization=acme)
    assert (event.action, event.subject, event.actor) == ("sign-in.failure", "owner@acme.test", "anonymous")
    assert (event.count, event.address) == (40, "198.51.100.7")
    assert event.at < event.last_at <= timezone.now()
    (own,) = audit.of_person(world.owner.user)
    assert own.count == 40


def test_many_addresses_do_not_fill_the_table(acme, world):
    for number in range(100):
        fail("owner@acme.test", f"2001:db8::{number:x}")
    found = AuditEvent.objects.filter(organization=acme)
    assert found.count() == audit.FAILURES_ADDRESSES + 1
    rest = found.get(address=audit.SEVERAL_ADDRESSES)
    assert rest.count == 100 - audit.FAILURES_ADDRESSES


def test_failures_for_unknown_accounts_share_rows_and_keep_no_typed_text(acme):
    for number in range(100):
        fail(f"my password {number}", f"2001:db8::{number:x}")
    assert AuditEvent.objects.count() == audit.FAILURES_ADDRESSES + 1
    assert "password" not in str(list(AuditEvent.objects.values("subject", "actor", "detail")))
    assert log(acme) == []


def test_known_and_unknown_accounts_cost_the_same_queries(acme, world, django_assert_num_queries):
    for email in ("owner@acme.test", "nobody@acme.test"):
        with django_assert_num_queries(6):  # savepoints are two of them
            fail(email)
        with django_assert_num_queries(6):
            fail(email)


def test_a_later_failure_has_a_row_of_its_own(acme):
    fail("owner@acme.test")
    AuditEvent.objects.update(at=timezone.now() - audit.FAILURES_TIME)
    fail("owner@acme.test")
    assert AuditEvent.objects.filter(organization=acme).count() == 2


# ── Mails ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def mailing(monkeypatch, django_capture_on_commit_callbacks):
    monkeypatch.setattr(account_tasks.tell_of_owner, "delay", account_tasks.tell_of_owner)
    return lambda: django_capture_on_commit_callbacks(execute=True)


def test_other_owners_are_told_of_a_new_owner(acme, world, mailing, mailoutbox):
    """The acting owner gets a mail too: another person may have used their session."""
    with mailing():
        organizations.add_user(acme, "second@acme.test", role=OrganizationRole.OWNER, by=BY)
    assert [letter.to for letter in mailoutbox] == [["owner@acme.test"]]
    assert "second@acme.test" in mailoutbox[0].body
    with mailing():
        members.set_organization_role(BY, acme, world.stranger.user, OrganizationRole.OWNER)
    assert {letter.to[0] for letter in mailoutbox[1:]} == {"owner@acme.test", "second@acme.test"}
    with mailing():
        members.set_organization_role(BY, acme, world.stranger.user, OrganizationRole.MEMBER)
    assert len(mailoutbox) == 3


# ── Retention ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_events_are_kept_as_long_as_the_history(acme, settings):
    fail("owner@acme.test")
    AuditEvent.objects.update(at=timezone.now() - timedelta(days=40))
    fail("owner@acme.test")
    settings.HISTORY_DAYS = 0
    assert audit.prune() == 0
    settings.HISTORY_DAYS = 30
    assert audit.prune() == 2
    assert AuditEvent.objects.count() == 2


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        ({}, "audit_of_organization"),
        ({"action": "key.revoke"}, "audit_by_action"),
        ({"since": timezone.now()}, "audit_of_organization"),
    ],
)
def test_a_page_of_the_log_is_read_from_an_index(acme, wanted, index):
    found = plan(audit.of_organization(acme, **wanted).order_by("-at", "-pk")[:51])
    assert "TEMP B-TREE" not in found
    assert "Sort" not in found
    if connection.vendor == "postgresql":  # chooses among the indexes by its statistics, which an empty table lacks
        assert "Index Scan" in found
    else:
        assert index in found


def test_the_log_of_a_person_is_read_from_an_index(acme, world):
    found = plan(audit.of_person(world.owner.user).order_by("-at", "-pk")[:51])
    assert "Sort" not in found
    assert ("Index Scan" if connection.vendor == "postgresql" else "audit_of_person") in found
