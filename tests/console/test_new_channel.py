"""A new channel is one class. These tests define two and use them in the console and the queue."""

from __future__ import annotations

import json
import re

import pytest
from django import forms
from django.utils import timezone

from registry.models import Event
from scanning import tasks
from scanning.models import Delivery, Subscription
from scanning.notifications import channels, messages, words
from scanning.notifications.channels.base import Channel, Outcome, WrongAddress
from scanning.notifications.channels.web import WebChannel
from tests.console.test_mail_consent import send
from tests.support.factories import high, make_manifest, scanned, subscribe
from tests.support.pages import text

NOTIFICATIONS = "/projects/demo/notifications"
CHOSEN = {"min_severity": "4", "frequency": "new"}


class Board(Channel):
    """A channel that writes to a named board, which the test reads."""

    kind = "a-board-on-the-wall"  # 19 characters, more than any kind before
    label = "Board"
    icon = "bell"

    def __init__(self) -> None:
        self.written: list[tuple[str, str]] = []

    def fields(self, current):
        return {"url": forms.CharField(label="Name of the board", initial=current.url if current else "")}

    def columns(self, typed, current=None):
        if " " in typed["url"]:
            raise WrongAddress("no spaces, please")
        return {"url": typed["url"]}

    def is_ready(self, subscription):
        return True

    def target(self, subscription):
        return f"board {subscription.url}"

    def audited(self, subscription):
        return {"board": subscription.url}

    def send(self, delivery):
        self.written.append((delivery.subscription.url, words.headline(delivery.content)))
        yield Outcome(is_sent=True, request="a line on the board")


class Chat(WebChannel):
    """A channel for a chat program such as Slack."""

    kind = "chat"
    label = "Chat"
    help_text = "The address of a room."

    def message(self, content):
        return {"text": words.headline(content)}


@pytest.fixture
def board(monkeypatch) -> Board:
    made = Board()
    monkeypatch.setitem(channels.CHANNELS, made.kind, made)
    return made


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Run tasks immediately."""
    monkeypatch.setattr(tasks.deliver, "delay", tasks.deliver)


def test_console_offers_validates_tests_and_edits_the_new_channel(console, world, board):
    browser = console("admin")
    new = f"{NOTIFICATIONS}/new?channel={board.kind}"
    page = text(browser.get(f"{NOTIFICATIONS}/new"))
    assert re.search(rf'href="\?channel={board.kind}">.*?Board\s*</a>', page, re.DOTALL)
    assert "Name of the board" in text(browser.get(new))
    refused = text(send(browser, new, url="two words", language="en", **CHOSEN))
    assert "No spaces, please." in refused.partition('id="id_url_error"')[2][:400]
    answer = send(browser, new, url="kitchen", language="en", **CHOSEN)
    made = Subscription.objects.get()
    assert answer.url == f"{NOTIFICATIONS}/{made.pk}"
    assert (made.channel, made.url, made.secret) == (board.kind, "kitchen", "")
    assert Event.objects.get(action="notice.change").detail["after"]["board"] == "kitchen"
    assert "board kitchen" in text(browser.get(NOTIFICATIONS))

    send(browser, answer.url, act="test")
    assert board.written == [("kitchen", "[KCR] Test notification for demo")]
    assert "a line on the board" in text(browser.get(f"{answer.url}/{Delivery.objects.get().pk}"))

    assert 'value="kitchen"' in text(browser.get(f"{answer.url}/edit"))
    send(browser, f"{answer.url}/edit", url="hall", language="ko", **CHOSEN)
    made.refresh_from_db()
    assert (made.url, made.language) == ("hall", "ko")


def test_scan_is_delivered_through_the_new_channel(world, board):
    subscribe(world.projects["demo"], channel=board.kind, url="kitchen", recipients=[])
    scanned(make_manifest(world.repository("web"), "app", tag="1"), high("CVE-1"))
    assert tasks.gather_notices() == 1
    assert board.written == [("kitchen", "[KCR] demo/web/app:1: 1 new vulnerability, worst High")]
    assert Delivery.objects.get().state == "sent"


def test_chat_channel_sends_a_translated_message(console, world, receiver, monkeypatch):
    monkeypatch.setitem(channels.CHANNELS, Chat.kind, Chat())
    browser = console("admin")
    answer = send(browser, f"{NOTIFICATIONS}/new?channel=chat", url=receiver.url, language="ko", **CHOSEN)
    send(browser, answer.url, act="test")
    assert json.loads(receiver.requests[0][2]) == {"text": "[KCR] demo 테스트 알림"}
    assert "secret=path" not in text(browser.get(f"{answer.url}/{Delivery.objects.get().pk}"))


def test_unknown_kind_of_channel_is_shown_and_fails_once(console, world):
    made = subscribe(world.projects["demo"], channel="pigeon", recipients=[], url="https://hooks.test/secret")
    browser = console("admin")
    for address in (NOTIFICATIONS, f"{NOTIFICATIONS}/{made.pk}", f"{NOTIFICATIONS}/{made.pk}/edit"):
        page = text(browser.get(address))
        assert "pigeon" in page or address.endswith("edit")
        assert "hooks.test" not in page
    refused = text(browser.post(f"{NOTIFICATIONS}/{made.pk}/edit", CHOSEN | {"language": "en"}))
    assert "has no channel “pigeon”" in refused
    send(browser, f"{NOTIFICATIONS}/{made.pk}", act="test")
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.attempts) == ("failed", 1)
    assert "has no channel “pigeon”" in delivery.problem
    browser.post(f"{NOTIFICATIONS}/{made.pk}", {"act": "delete"})
    assert not Subscription.objects.live().exists()


@pytest.mark.parametrize("kind", channels.CHANNELS)
def test_every_kind_fits_its_column_and_speaks_korean(kind, world, settings):
    from django.utils import translation

    channel = channels.CHANNELS[kind]
    assert channel.kind == kind
    assert len(kind) <= Subscription._meta.get_field("channel").max_length
    with translation.override("ko"):
        assert str(channel.label)
        made = subscribe(world.projects["demo"], channel=kind, url="https://hooks.test/x")
        content = messages.test_content(made, timezone.now())
        assert content.get("event", content.get("type")) in {"test", "dev.kcr.test"}
