"""Consent to mails: users of the organization get them, other addresses are asked first."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from scanning import tasks
from scanning.models import Delivery, MailHour, Recipient, Subscription
from scanning.notifications import deliveries, recipients, subscriptions
from tests.support.factories import subscribe
from tests.support.pages import see, text

pytestmark = pytest.mark.django_db

DEMO = "/projects/demo/notifications"
CHOSEN = {"min_severity": "4", "frequency": "new", "language": "en"}
STRANGER = "Sam@Elsewhere.test"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Run tasks immediately."""
    for task in (tasks.deliver, tasks.ask_recipients):
        monkeypatch.setattr(task, "delay", task)


def send(browser: Client, path: str, **fields: str):
    """Fill in the form of the page with these fields and submit it."""
    return see(browser, path).form(**fields).submit(browser, **fields)


def create(browser: Client, *addresses: str) -> Subscription:
    answer = send(browser, f"{DEMO}/new?channel=mail", recipients="\n".join(addresses), **CHOSEN)
    assert answer.status_code == 302, text(answer)
    return Subscription.objects.latest("pk")


def link_in_first(mails) -> str:
    return re.search(r"http://localhost:8080(/notices/confirm/\S+)", mails.part(0, "plain"))[1]


def outsider() -> Client:
    return Client(SERVER_NAME="localhost", SERVER_PORT="8080", enforce_csrf_checks=True)


# ── Consent ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_external_address_gets_only_the_consent_question_until_it_agrees(console, world, project, mail_server):
    browser = console("admin")
    made = create(browser, STRANGER, "member@acme.test")
    page = f"{DEMO}/{made.pk}"
    assert mail_server.recipients == [[STRANGER.lower()]]
    assert mail_server.mails[0]["Subject"] == "Do you want notifications about demo?"
    shown = text(browser.get(page))
    assert "has not agreed yet" in shown
    assert "Ask again" not in shown
    for _ in range(3):
        send(browser, page, act="test")
        Delivery.objects.update(created_at=timezone.now() - timedelta(hours=1))
    assert mail_server.recipients[1:] == [["member@acme.test"]] * 3
    assert f"{STRANGER}: has not agreed to get mails" in Delivery.objects.latest("pk").response
    create(browser, STRANGER, "joined@elsewhere.test")
    assert [each for each in mail_server.recipients if each == [STRANGER.lower()]] == [[STRANGER.lower()]]

    link = link_in_first(mail_server)
    assert "demo" in text(outsider().get(link))
    assert Recipient.objects.filter(confirmed_at=None).count() == 2, "a program that follows links agrees to nothing"
    answer = send(outsider(), link, answer="yes")
    assert "gets notifications about demo" in text(answer)
    assert "has agreed" in text(browser.get(page))
    send(browser, page, act="test")
    assert [STRANGER] in mail_server.recipients


def test_declined_address_is_not_asked_again(console, project, mail_server):
    browser = console("admin")
    made = create(browser, STRANGER)
    assert "is not asked again" in text(send(outsider(), link_in_first(mail_server), answer="no"))
    Recipient.objects.update(asked_at=timezone.now() - timedelta(days=3))
    page = text(browser.get(f"{DEMO}/{made.pk}"))
    assert "declined" in page
    assert "Ask again" not in page
    refused = browser.post(f"{DEMO}/{made.pk}", {"act": "ask", "address": STRANGER}, follow=True)
    assert "asked recently" in text(refused)
    create(browser, STRANGER, "other@elsewhere.test")
    assert mail_server.recipients == [[STRANGER.lower()], ["other@elsewhere.test"]]


def test_consent_question_is_repeated_a_limited_number_of_times(console, project, mail_server):
    browser = console("admin")
    made = create(browser, STRANGER)
    page = f"{DEMO}/{made.pk}"
    for _ in range(recipients.QUESTIONS - 1):
        refused = browser.post(page, {"act": "ask", "address": STRANGER}, follow=True)
        assert "asked recently" in text(refused)
        Recipient.objects.update(asked_at=timezone.now() - recipients.BETWEEN_QUESTIONS)
        send(browser, page, act="ask", address=STRANGER)
    assert len(mail_server.mails) == recipients.QUESTIONS
    Recipient.objects.update(asked_at=timezone.now() - recipients.BETWEEN_QUESTIONS)
    assert "Ask again" not in text(browser.get(page))
    browser.post(page, {"act": "ask", "address": STRANGER})
    assert len(mail_server.mails) == recipients.QUESTIONS


def test_many_projects_do_not_flood_one_address(world, project, mail_server):
    from accounts.models import Project

    for number in range(recipients.QUESTIONS_PER_DAY + 2):
        other = Project.objects.create(name=f"other{number}", organization=project.organization)
        recipients.ask(other, [STRANGER], "en")
    recipients.send_due()
    recipients.send_due()
    assert len(mail_server.mails) == recipients.QUESTIONS_PER_DAY
    assert not Recipient.objects.exclude(due_at=None).exists()


def test_failed_consent_question_is_sent_again(project, settings, mail_server):
    mail_server.refusals[STRANGER.lower()] = ["450 later"]
    recipients.ask(project, [STRANGER], "ko")
    assert recipients.send_due() == 0
    assert recipients.send_due() == 0, "not at once"
    Recipient.objects.update(due_at=timezone.now())
    assert recipients.send_due() == 1
    assert "demo" in mail_server.mails[0]["Subject"]
    assert "알림" in mail_server.mails[0]["Subject"]


def test_forged_and_expired_links_reveal_nothing(project, monkeypatch):
    recipients.ask(project, [STRANGER], "en")
    row = Recipient.objects.get()
    link = recipients.link(row).removeprefix("http://localhost:8080")
    for bad in (link[:-1], "/notices/confirm/x"):
        assert outsider().get(bad).status_code == 404
    assert outsider().post(link, {"answer": "yes"}).status_code == 403, "no token of a form"
    monkeypatch.setattr(recipients, "ANSWERED_WITHIN", timedelta(0))
    assert outsider().get(link).status_code == 404
    row.refresh_from_db()
    assert row.confirmed_at is None


# ── Unsubscribing ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_unsubscribed_address_must_agree_again(project):
    made = subscribe(project, recipients=[STRANGER])
    other = subscribe(project, recipients=[STRANGER, "mina@acme.test"])
    for subscription, still in ((made, {STRANGER}), (other, set())):
        subscriptions.unsubscribe(subscriptions.UnsubscribeRequest(STRANGER, subscription))
        assert recipients.allowed(project, [STRANGER]) == still


def test_person_who_left_the_organization_gets_no_more_mail(world, project):
    assert recipients.allowed(project, ["Member@acme.test"]) == {"Member@acme.test"}
    world.member.user.organization_memberships.all().delete()
    assert recipients.allowed(project, ["Member@acme.test"]) == set()
    world.admin.user.is_active = False
    world.admin.user.save()
    assert recipients.allowed(project, ["admin@acme.test"]) == set()


# ── Limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_mails_of_a_project_are_limited_per_hour(project, mail_server, monkeypatch):
    monkeypatch.setattr(recipients, "MAILS_PER_HOUR", 3)
    made = subscribe(project, recipients=["a@acme.test", "b@acme.test"])
    from scanning.notifications import messages

    for _ in range(2):
        delivery = deliveries.queue(made, messages.test_content(made, timezone.now()))
        deliveries.deliver(delivery.pk)
    assert mail_server.recipients == [["a@acme.test"], ["b@acme.test"], ["a@acme.test"]]
    delivery.refresh_from_db()
    assert (delivery.state, delivery.recipients) == ("waiting", ["b@acme.test"])
    assert "3 mails this hour" in delivery.problem
    recipients.ask(project, [STRANGER], "en")
    assert recipients.send_due() == 0
    MailHour.objects.update(hour=timezone.now() - timedelta(days=2))
    Delivery.objects.update(next_at=timezone.now())
    Recipient.objects.exclude(due_at=None).update(due_at=timezone.now())
    assert deliveries.deliver(delivery.pk) == "sent"
    assert recipients.send_due() == 1
    recipients.forget()
    assert MailHour.objects.count() == 1


def test_links_for_passwords_to_an_address_have_a_limit(world, mailoutbox):
    from accounts import tasks as account_tasks
    from accounts.models import User

    found = User.objects.filter(pk=world.member.user.pk)
    for _ in range(account_tasks.LINKS + 3):
        account_tasks.send_password_link(world.member.user.email)
        found.update(reset_sent_at=timezone.now() - account_tasks.BETWEEN_LINKS)
    assert len(mailoutbox) == account_tasks.LINKS
    found.update(reset_sent_at=timezone.now() - account_tasks.LINKS_PAUSE)
    assert account_tasks.send_password_link(world.member.user.email)
    assert found.get().resets_sent == 1
