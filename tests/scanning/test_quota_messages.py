"""Warnings of quotas that are nearly full, to the chats and webhooks of a project."""

from __future__ import annotations

import json
import smtplib

import pytest
from django.core.mail.backends.locmem import EmailBackend
from django.utils import timezone

from accounts import organizations
from accounts.actors import SYSTEM
from registry import projects, quota_warnings
from registry.models import ProjectUsage, Severity
from registry.tasks import warn_of_quotas
from scanning import tasks
from scanning.models import Delivery, Subscription
from scanning.notifications import quota_messages, subscriptions
from tests.support import threads
from tests.support.chats import DiscordService, SlackService, TeamsService
from tests.support.factories import subscribe

KINDS = ("kakaowork", "slack", "teams", "discord", "webhook")
USAGE = "http://localhost:8080/projects/demo/usage"


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Run tasks immediately."""
    monkeypatch.setattr(tasks.deliver, "delay", tasks.deliver)


@pytest.fixture
def demo(project):
    """The project, with a quota of 1,000 bytes."""
    projects.update(SYSTEM, project, size_limit=1_000)
    return project


def fill(project, size: int) -> None:
    """Let the last measurement of the project say this, and look at the quotas."""
    ProjectUsage.objects.update_or_create(project=project, defaults={"size": size, "measured_at": timezone.now()})
    warn_of_quotas()


def listen(project, receiver, kind: str = "slack", **more) -> Subscription:
    return subscribe(project, channel=kind, recipients=[], url=receiver.url, **more)


def levels() -> list[int]:
    """The levels of the messages, in their order."""
    return [delivery.content["quota"]["level"] for delivery in Delivery.objects.order_by("pk")]


@pytest.mark.parametrize("service", [SlackService, TeamsService, DiscordService], ids=lambda each: each.kind)
def test_chat_says_which_quota_is_how_full_and_links_to_its_page(demo, receiver, service):
    receiver.service = service()
    listen(demo, receiver, service.kind)
    fill(demo, 915)
    tasks.sweep_deliveries()
    (message,) = receiver.service.messages
    visible = receiver.service.visible(message)
    for words in (
        "[KCR] demo: the quota of stored bytes is 91 % full",
        "915 B of 1.0 kB are used",
        "When it is full, pushes that need more are refused.",
    ):
        assert words in visible
    assert set(receiver.service.calls(message)) == {USAGE}


def test_kakao_work_gets_words_in_its_language(demo, receiver):
    listen(demo, receiver, "kakaowork", language="ko")
    fill(demo, 1_000)
    tasks.sweep_deliveries()
    ((_path, _headers, body),) = receiver.requests
    message = json.loads(body)
    assert "할당량" in message["text"]
    assert message["blocks"][0]["style"] == "red"
    assert message["blocks"][-1]["action"]["value"] == USAGE


def test_webhook_gets_the_numbers(demo, receiver):
    made = subscriptions.create(SYSTEM, demo, None, "webhook", {"url": receiver.url})
    fill(demo, 915)
    tasks.sweep_deliveries()
    ((_path, headers, body),) = receiver.requests
    content = json.loads(body)
    assert headers["X-KCR-Event"] == content["event"] == "quota.reached"
    assert content["quota"] == {
        "name": "bytes",
        "full": "demo",
        "used": 915,
        "limit": 1_000,
        "percent": 91,
        "level": 90,
    }
    assert (content["project"], content["repository"], content["url"]) == ("demo", None, USAGE)
    assert made.subscription.deliveries.get().state == Delivery.State.SENT


@pytest.mark.parametrize("kind", KINDS)
def test_each_level_is_one_message_and_comes_again_only_after_a_fall(demo, receiver, kind):
    listen(demo, receiver, kind)
    for size in (700, 850, 850, 999, 1_200, 950, 1_000, 700, 850):
        fill(demo, size)
    assert levels() == [80, 90, 100, 100, 80]


def test_who_gets_none(demo, project, web, receiver, world):
    """Mails go to the admins without a subscription; an event webhook has events of the audit log only."""
    listen(demo, receiver, is_active=False)
    listen(demo, receiver, deleted_at=timezone.now())
    listen(demo, receiver, repository=web)
    listen(demo, receiver, Subscription.EVENTS)
    subscribe(demo)
    other, _is_new = projects.create(SYSTEM, demo.organization, "other")
    listen(other, receiver)
    fill(demo, 900)
    assert Delivery.objects.count() == 0


def test_severity_and_frequency_are_about_scans(demo, receiver):
    listen(demo, receiver, min_severity=Severity.CRITICAL, frequency=Subscription.Frequency.DAILY)
    fill(demo, 900)
    assert levels() == [90]


def test_quota_of_the_organization_is_for_its_owners_only(demo, receiver):
    listen(demo, receiver)
    projects.update(SYSTEM, demo, size_limit=None)
    organizations.set_size_limit(SYSTEM, demo.organization, 1_000)
    fill(demo, 950)
    assert Delivery.objects.count() == 0


def test_mail_server_that_is_away_neither_holds_a_message_back_nor_repeats_it(demo, receiver, monkeypatch, mailoutbox):
    def fail(self, messages):
        raise smtplib.SMTPServerDisconnected

    listen(demo, receiver)
    with monkeypatch.context() as patch:
        patch.setattr(EmailBackend, "send_messages", fail)
        for _ in range(3):
            fill(demo, 900)
            assert levels() == [90]
    fill(demo, 900)
    assert (len(mailoutbox), levels()) == (1, [90])


def test_message_that_could_not_be_made_is_made_later(demo, receiver, monkeypatch):
    listen(demo, receiver)
    with monkeypatch.context() as patch:
        patch.setattr(quota_messages, "_content", lambda _fill: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            fill(demo, 900)
    assert levels() == []
    fill(demo, 900)
    assert levels() == [90]


@pytest.mark.django_db(transaction=True)
def test_two_runs_at_once_write_one_message(demo, receiver):
    listen(demo, receiver)
    ProjectUsage.objects.update_or_create(project=demo, defaults={"size": 900, "measured_at": timezone.now()})
    threads.at_once(*[quota_warnings.warn] * 4)
    assert levels() == [90]
