"""Mails, Kakao Work and webhooks: sent messages, failures and retries."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from django.utils import timezone, translation

from accounts.actors import SYSTEM
from accounts.errors import Refusal
from accounts.models import User
from registry.models import Severity
from scanning import tasks
from scanning.models import Delivery, Subscription
from scanning.notifications import channels, deliveries, messages, recipients, subscriptions
from scanning.notifications.channels import mail
from tests.support.factories import critical, high, make_manifest, scanned, subscribe
from tests.support.pages import dangers
from tests.support.server import SOURCE

State = Delivery.State
EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture
def webhook(project, receiver):
    """Create a subscription to a webhook. Return it and its secret."""
    made = subscriptions.create(
        SYSTEM,
        project,
        None,
        "webhook",
        {"url": receiver.url},
        min_severity=Severity.HIGH,
        frequency="new",
        language="en",
    )
    return made.subscription, made.secret


def content_for(subscription: Subscription) -> dict:
    return messages.test_content(subscription, timezone.now()) | {"event": "scan.findings"}


def queued(subscription: Subscription, content: dict | None = None, **more) -> Delivery:
    made = deliveries.queue(subscription, content or content_for(subscription))
    Delivery.objects.filter(pk=made.pk).update(**more)
    return made


def sent(delivery: Delivery) -> Delivery:
    """Attempt the delivery now. Return its new state."""
    Delivery.objects.filter(pk=delivery.pk).update(next_at=timezone.now())
    deliveries.deliver(delivery.pk)
    delivery.refresh_from_db()
    return delivery


# ── Mail ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_each_recipient_gets_one_mail_about_many_images(project, web, mail_server):
    subscribe(project, web)
    for number in range(3):
        scanned(make_manifest(web, f"app {number}", image=f"app{number}", tag="1.0"), critical("CVE-2026-1", "curl"))
    tasks.gather_notices()
    (delivery,) = Delivery.objects.all()
    assert sent(delivery).state == State.SENT
    assert mail_server.recipients == [["mina@acme.test"], ["joon@acme.test"]]
    mail = mail_server.mails[0]
    assert mail["Subject"] == "[KCR] demo/web: 3 new vulnerabilities, worst Critical"
    assert (mail["To"], mail["Auto-Submitted"]) == ("mina@acme.test", "auto-generated")
    for kind in ("plain", "html"):
        words = mail_server.part(0, kind)
        for each in ("demo/web/app0", "demo/web/app1", "demo/web/app2", "CVE-2026-1", "curl", "1.1", "Critical", "1.0"):
            assert each in words, (kind, each)
    assert (delivery.recipients, delivery.problem, delivery.sent_at is None) == ([], "", False)


def test_every_recipient_has_a_link_of_their_own(project, web, mail_server):
    subscription = subscribe(project, web)
    sent(queued(subscription))
    links = [re.fullmatch(r"<(.+)>", mail["List-Unsubscribe"])[1] for mail in mail_server.mails]
    assert [mail["List-Unsubscribe-Post"] for mail in mail_server.mails] == ["List-Unsubscribe=One-Click"] * 2
    assert links[0].startswith("http://localhost:8080/notices/unsubscribe/")
    for number, address in enumerate(subscription.recipients):
        assert links[number] in mail_server.part(number, "plain")
        assert links[number] in mail_server.part(number, "html")
        leaving = subscriptions.read_unsubscribe_link(links[number].rpartition("/")[2])
        assert (leaving.address, leaving.subscription) == (address, subscription)


def test_times_are_in_the_zone_of_the_recipient(project, web, mail_server):
    User.objects.create_user("joon@acme.test", time_zone="Asia/Seoul")
    delivery = queued(subscribe(project, web))
    Delivery.objects.filter(pk=delivery.pk).update(content=at(delivery.content, "2026-11-27T20:05:00+00:00"))
    sent(delivery)
    for kind in ("plain", "html"):
        assert "Scanned on 27 Nov 2026, 20:05 UTC" in mail_server.part(0, kind)
        assert "Scanned on 28 Nov 2026, 05:05 KST" in mail_server.part(1, kind)


def at(content: dict[str, Any], moment: str) -> dict[str, Any]:
    """The content with this time of the scans."""
    return content | {"images": [image | {"scanned_at": moment} for image in content["images"]]}


def test_log_keeps_the_mail_without_personal_links(project, web, mail_server):
    delivery = sent(queued(subscribe(project, web)))
    assert delivery.request.startswith(
        "From: KCR <kcr@localhost>\nTo: mina@acme.test, joon@acme.test\nSubject: [KCR] demo/web/example:test: 1 new vulnerability"
    )
    assert "CVE-2021-44228" in delivery.request
    assert "unsubscribe" not in delivery.request
    assert (delivery.status, delivery.response) == (None, "mina@acme.test: accepted\njoon@acme.test: accepted")


def test_a_mail_in_korean(project, web, mail_server):
    sent(queued(subscribe(project, web, language="ko")))
    assert "취약점" in mail_server.mails[0]["Subject"]
    assert 'lang="ko"' in mail_server.part(0, "html")
    for kind in ("plain", "html"):
        assert "심각" in mail_server.part(0, kind)
        assert "수신 거부" in mail_server.part(0, kind)


def test_hostile_texts_are_escaped(project, web, mail_server):
    subscription = subscribe(project, web)
    scanned(
        make_manifest(web, "app", tag="1"),
        critical(EVIL[:90], EVIL, version=EVIL, fixed=EVIL, title=EVIL, url="javascript:alert(1)"),
        high("CVE-1", url='https://evil.test/"><script>', title="\r\nBcc: x@evil.test"),
    )
    (pk,) = messages.gather()
    assert sent(Delivery.objects.get(pk=pk)).state == State.SENT
    html = mail_server.part(0, "html")
    assert "<script" not in html
    assert "<img" not in html
    assert "javascript:" not in html
    assert {word.partition(" ")[0] for word in dangers(html) if not word.endswith(" style")} <= {"style", "a"}
    assert EVIL in mail_server.part(0, "plain").replace("\n", " ")
    assert mail_server.mails[0]["Bcc"] is None
    assert subscription.recipients[0] in mail_server.mails[0]["To"]


def test_temporarily_refused_recipient_is_retried_and_no_mail_is_sent_twice(project, web, mail_server):
    delivery = queued(subscribe(project, web))
    mail_server.refusals["mina@acme.test"] = ["450 greylisted"]
    assert sent(delivery).state == State.WAITING
    assert delivery.recipients == ["mina@acme.test"]
    assert "450 greylisted" in delivery.problem
    assert mail_server.recipients == [["joon@acme.test"]]
    assert sent(delivery).state == State.SENT
    assert mail_server.recipients == [["joon@acme.test"], ["mina@acme.test"]]
    assert delivery.problem == ""


def test_permanently_refused_recipient_is_retried_by_hand_only(project, web, mail_server):
    delivery = queued(subscribe(project, web))
    mail_server.refusals["mina@acme.test"] = ["550 no such user"]
    assert sent(delivery).state == State.FAILED
    assert "mina@acme.test: refused: 550 no such user" in delivery.problem
    repeated = sent(deliveries.again(delivery))
    assert repeated.pk != delivery.pk
    assert repeated.state == State.SENT
    assert mail_server.recipients == [["joon@acme.test"], ["mina@acme.test"]]


def test_unreachable_mail_server_is_retried(project, web, mail_server, settings):
    delivery = queued(subscribe(project, web))
    port, settings.EMAIL_PORT = settings.EMAIL_PORT, 1
    assert sent(delivery).state == State.WAITING
    assert "cannot be reached" in delivery.problem
    settings.EMAIL_PORT = port
    assert sent(delivery).state == State.SENT
    assert len(mail_server.mails) == 2


def test_unsubscribed_recipient_gets_no_queued_mail(project, web, mail_server):
    subscription = subscribe(project, web)
    delivery = queued(subscription)
    subscription.recipients = ["joon@acme.test"]
    subscription.save()
    assert sent(delivery).state == State.SENT
    assert mail_server.recipients == [["joon@acme.test"]]
    subscription.recipients = []
    subscription.save()
    gone = queued(subscription, recipients=["joon@acme.test"])
    assert (sent(gone).state, gone.problem) == (State.FAILED, "no recipient is left to send to")


def test_retried_mail_keeps_its_message_id(project, web):
    delivery = queued(subscribe(project, web))
    with translation.override("en"):
        one, two = (mail.mail(delivery, "mina@acme.test").message()["Message-ID"] for _ in range(2))
        other = mail.mail(delivery, "joon@acme.test").message()["Message-ID"]
    assert one == two != other


# ── Webhook ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def receivers_check():
    """Verify the signature as docs/reference/webhook.md tells receivers to do."""
    document = (SOURCE / "docs" / "reference" / "webhook.md").read_text()
    found: dict = {}
    exec(document.partition("```python\n")[2].partition("```")[0], found)
    return found["is_genuine"]


verified = receivers_check()


@pytest.mark.parametrize(
    ("kind", "is_kept"),
    [
        ("text/plain; charset=utf-8", True),
        ("application/json", True),
        ("application/problem+json", True),
        ("TEXT/HTML", True),
        ("application/octet-stream", False),
        ("image/png", False),
        ("", False),
    ],
)
def test_answer_is_stored_in_part(webhook, receiver, kind, is_kept):
    receiver.will_say(500, b"x" * 5000, Content_Type=kind)
    delivery = sent(queued(webhook[0]))
    assert (delivery.status, delivery.response) == (500, "x" * 256 if is_kept else "")


def test_a_webhook_is_signed(webhook, web, receiver):
    _subscription, secret = webhook
    scanned(make_manifest(web, "app", tag="1"), high("CVE-1", title="취약점"))
    (pk,) = messages.gather()
    delivery = sent(Delivery.objects.get(pk=pk))
    ((path, headers, body),) = receiver.requests
    assert path == "/hook?secret=path"
    assert verified(secret, headers, body)
    assert not verified(secret, headers, body + b" ")
    assert not verified(secret, headers | {"X-KCR-Timestamp": str(int(headers["X-KCR-Timestamp"]) - 1)}, body)
    assert not verified("kcrw_other", headers, body)
    assert json.loads(body) == delivery.content
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert (headers["X-KCR-Event"], headers["X-KCR-Delivery"]) == ("scan.findings", str(pk))
    assert abs(int(headers["X-KCR-Timestamp"]) - timezone.now().timestamp()) < 60
    assert (delivery.state, delivery.status, delivery.response) == (State.SENT, 200, "thanks")


def test_database_and_log_contain_no_secret(webhook, receiver):
    subscription, secret = webhook
    receiver.will_say(200, b"a\x00b\xff" + b"x" * 10_000)
    big = content_for(subscription) | {"filler": "y" * 30_000}
    delivery = sent(queued(subscription, big))
    subscription.refresh_from_db()
    stored = "".join(map(str, (*vars(subscription).values(), *vars(delivery).values())))
    assert secret.startswith("kcrw_")
    assert secret not in stored
    assert "secret=path" not in delivery.request + delivery.response + delivery.problem
    assert len(delivery.request) < 17_000
    assert delivery.response.startswith("ab\ufffdx")
    assert len(delivery.response) == 256


def test_webhook_secret_survives_a_new_installation_secret(webhook, receiver, settings):
    subscription, secret = webhook
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "n" * 50, [settings.SECRET_KEY]
    sent(queued(subscription))
    assert verified(secret, *receiver.requests[0][1:])
    settings.SECRET_KEY_FALLBACKS = []
    lost = sent(queued(subscription))
    assert lost.state == State.FAILED
    assert "another KCR_SECRET_KEY" in lost.problem
    renewed = subscriptions.renew_secret(SYSTEM, subscription)
    sent(queued(Subscription.objects.get(pk=subscription.pk)))
    assert verified(renewed, *receiver.requests[1][1:])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422, 301, 307])
def test_permanent_refusal_is_not_retried(webhook, receiver, status):
    receiver.will_say(status, b"no", Location=receiver.url)
    delivery = sent(queued(webhook[0]))
    assert (delivery.state, delivery.status, delivery.attempts) == (State.FAILED, status, 1)
    assert str(status) in delivery.problem
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_temporary_failure_is_retried(webhook, receiver, status):
    receiver.will_say(status)
    delivery = sent(queued(webhook[0]))
    assert (delivery.state, delivery.status) == (State.WAITING, status)
    assert sent(delivery).state == State.SENT
    assert [headers["X-KCR-Delivery"] for _path, headers, _body in receiver.requests] == [str(delivery.pk)] * 2


def test_delivery_is_tried_eight_times_with_growing_delays(webhook, receiver):
    delivery = queued(webhook[0])
    waits = []
    for _ in range(8):
        receiver.will_say(500)
        before = timezone.now()
        sent(delivery)
        waits.append((delivery.next_at - before).total_seconds() / 60)
    assert [round(wait) for wait in waits[:-1]] == [1, 3, 8, 20, 60, 150, 360]
    assert (delivery.state, delivery.attempts, len(receiver.requests)) == (State.FAILED, 8, 8)
    assert sent(delivery).attempts == 8


@pytest.mark.parametrize(
    ("asked", "minutes"),
    [("1800", 30), ("5", 1), ("999999999999", 360), ("nonsense", 1), ("-5", 1), ("", 1), ("٣", 1)],
)
def test_retry_after_in_seconds_is_respected(webhook, receiver, asked, minutes):
    receiver.will_say(503, Retry_After=asked.encode().decode("latin-1"))
    before = timezone.now()
    delivery = sent(queued(webhook[0]))
    assert round((delivery.next_at - before).total_seconds() / 60) == minutes


def test_retry_after_as_a_date_is_respected(webhook, receiver):
    receiver.will_say(429, Retry_After=format_datetime(timezone.now() + timedelta(minutes=42), usegmt=False))
    before = timezone.now()
    delivery = sent(queued(webhook[0]))
    assert round((delivery.next_at - before).total_seconds() / 60) == 42


def test_address_that_became_internal_is_refused_when_sending(webhook, receiver, settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = []
    delivery = sent(queued(webhook[0]))
    assert delivery.state == State.FAILED
    assert "127.0.0.1 is not a public address" in delivery.problem
    assert receiver.requests == []


# ── Kakao Work ───────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def kakao(project, web, receiver):
    return subscribe(project, web, channel="kakaowork", recipients=[], url=receiver.url, language="ko")


def test_a_message_of_kakao_work(kakao, web, receiver):
    for number in range(7):
        image = make_manifest(web, f"app {number}", image=f"app{number}-{'long' * 20}", tag="1.0")
        scanned(image, *(critical(f"CVE-2026-{each}", "p" * 290) for each in range(5)))
    (pk,) = messages.gather()
    assert sent(Delivery.objects.get(pk=pk)).state == State.SENT
    message = json.loads(receiver.requests[0][2])
    assert set(message) == {"text", "blocks"}
    assert "취약점" in message["text"]
    kinds = [block["type"] for block in message["blocks"]]
    assert kinds == ["header", *["text"] * 7, "button"]
    header, button = message["blocks"][0], message["blocks"][-1]
    assert (header["style"], len(header["text"]) <= 20) == ("red", True)
    assert button["action"] == {
        "type": "open_system_browser",
        "name": "open",
        "value": "http://localhost:8080/projects/demo/repositories/web/",
    }
    assert max(len(block["text"]) for block in message["blocks"]) <= 500
    assert len(message["text"]) <= 500


def test_kakao_work_error_with_status_200_is_a_failure(kakao, receiver):
    receiver.will_say(200, b'{"success": false, "error": {"code": "invalid_parameter"}}')
    delivery = sent(queued(kakao))
    assert (delivery.state, delivery.status) == (State.FAILED, 200)
    receiver.will_say(200, b'{"success": true}')
    assert sent(queued(kakao)).state == State.SENT
    receiver.will_say(200, b"ok")
    assert sent(queued(kakao)).state == State.SENT


# ── The queue ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_repeated_task_sends_once(webhook, receiver):
    delivery = queued(webhook[0])
    for _ in range(3):
        tasks.deliver(delivery.pk)
    assert len(receiver.requests) == 1
    tasks.deliver(0)


def test_running_delivery_is_taken_over_only_from_a_lost_worker(webhook, receiver):
    delivery = queued(webhook[0], lease_until=timezone.now() + timedelta(minutes=1), attempts=1)
    assert deliveries.due() == []
    assert deliveries.deliver(delivery.pk) is None
    Delivery.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    assert deliveries.due() == [delivery.pk]
    assert deliveries.deliver(delivery.pk) == State.SENT
    assert len(receiver.requests) == 1


def test_late_result_of_a_lost_sender_changes_nothing(webhook, receiver):
    delivery = queued(webhook[0])
    slow = deliveries._claim(delivery.pk)
    Delivery.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    receiver.will_say(500)
    assert deliveries.deliver(delivery.pk) == State.WAITING
    assert deliveries._finish(slow, channels.Outcome(is_sent=True)) is None
    assert not deliveries._keep(slow, [])
    delivery.refresh_from_db()
    assert (delivery.state, delivery.status) == (State.WAITING, 500)


def test_delivery_that_kills_its_worker_ends(webhook, receiver):
    delivery = queued(webhook[0], attempts=8, lease_until=timezone.now() - timedelta(seconds=1))
    assert deliveries.deliver(delivery.pk) == State.FAILED
    assert receiver.requests == []


def test_message_that_cannot_be_rendered_fails_once(project, caplog):
    delivery = sent(queued(subscribe(project), {"event": "scan.findings"}))
    assert delivery.state == State.WAITING
    assert "could not be made" in delivery.problem
    assert "could not be made" in caplog.text


def test_sweep_queues_lost_deliveries(webhook, receiver, monkeypatch):
    monkeypatch.setattr(tasks.deliver, "delay", tasks.deliver)
    later = queued(webhook[0], next_at=timezone.now() + timedelta(hours=1))
    lost = queued(webhook[0])
    assert tasks.sweep_deliveries() == 1
    assert [headers["X-KCR-Delivery"] for _path, headers, _body in receiver.requests] == [str(lost.pk)]
    later.refresh_from_db()
    assert later.state == State.WAITING


def test_paused_notification_sends_only_tests(webhook, receiver):
    subscription, _ = webhook
    delivery = queued(subscription)
    subscriptions.set_active(SYSTEM, subscription, is_active=False)
    subscription.refresh_from_db()
    assert (sent(delivery).state, delivery.problem) == (
        State.FAILED,
        "the notification was paused before this was sent",
    )
    delivery.subscription = subscription
    with pytest.raises(Refusal, match="paused"):
        deliveries.again(delivery)
    content = messages.test_content(subscription, timezone.now())
    assert sent(deliveries.queue(subscription, content, is_test=True)).state == State.SENT
    assert receiver.requests[0][1]["X-KCR-Event"] == "test"
    with pytest.raises(Refusal, match="a moment ago"):
        deliveries.queue(subscription, content, is_test=True)


def test_delivery_is_sent_again_by_hand(webhook, receiver):
    delivery = sent(queued(webhook[0]))
    repeated = sent(deliveries.again(delivery))
    assert repeated.pk != delivery.pk
    assert receiver.requests[0][2] == receiver.requests[1][2]
    waiting = queued(webhook[0], next_at=timezone.now() + timedelta(hours=1))
    assert deliveries.again(waiting).pk == waiting.pk  # a waiting delivery is tried now
    assert deliveries.due() == [waiting.pk]


def test_old_deliveries_are_forgotten(webhook):
    old = queued(webhook[0], created_at=timezone.now() - timedelta(days=91))
    kept = queued(webhook[0], created_at=timezone.now() - timedelta(days=89))
    assert tasks.forget_deliveries() == 1
    assert list(Delivery.objects.values_list("pk", flat=True)) == [kept.pk]
    assert old.pk != kept.pk


def test_test_message_has_the_fields_of_a_real_one(project, web):
    subscription = subscribe(project, web)
    scanned(make_manifest(web, "app", tag="1"), high("CVE-1"))
    (pk,) = messages.gather()
    real, test = Delivery.objects.get(pk=pk).content, messages.test_content(subscription, timezone.now())
    for one, two in ((real, test), (real["totals"], test["totals"]), (real["images"][0], test["images"][0])):
        assert set(one) == set(two)
    assert set(real["images"][0]["new"][0]) == set(test["images"][0]["new"][0])


# ── Unsubscribing ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_forged_unsubscribe_links_are_refused(project):
    subscription = subscribe(project)
    link = recipients.unsubscribe_link(subscription.pk, "mina@acme.test").rpartition("/")[2]
    for bad in ("", "x", link[:-1], link[1:], f"{link}x", recipients.signing.dumps([subscription.pk, "a@b.test"])):
        assert subscriptions.read_unsubscribe_link(bad) is None
    stranger = recipients.unsubscribe_link(subscription.pk, "other@acme.test").rpartition("/")[2]
    assert subscriptions.read_unsubscribe_link(stranger).subscription is None


# ── Contents of messages ─────────────────────────────────────────────────────────────────────────────────────────────
def test_mail_about_one_image_names_it_and_shows_fifteen_findings_and_a_link(project, web, mail_server):
    subscribe(project, web)
    manifest = make_manifest(web, "app", tag="1.0")
    scanned(manifest, *(critical(f"CVE-2026-{number:02}") for number in range(20)))
    tasks.gather_notices()
    sent(Delivery.objects.get())
    assert mail_server.mails[0]["Subject"] == "[KCR] demo/web/app:1.0: 20 new vulnerabilities, worst Critical"
    for kind in ("plain", "html"):
        text = mail_server.part(0, kind)
        assert len(set(re.findall(r"CVE-2026-\d\d", text))) == 15, kind
        assert "5 more" in text
        assert f"{manifest.digest}/vulnerabilities" in text


def test_messages_report_what_a_scan_could_not_cover(project, web, mail_server):
    subscribe(project, web)
    old, kali = make_manifest(web, "old", tag="1"), make_manifest(web, "kali", tag="2")
    scanned(old, critical("CVE-2026-1"), system="debian 9.5", is_end_of_life=True)
    scanned(kali, critical("CVE-2026-2"), system="debian kali-rolling", is_covered=False)
    tasks.gather_notices()
    delivery = Delivery.objects.get()
    said = {image["digest"]: (image["state"], image["end_of_life"]) for image in delivery.content["images"]}
    assert said == {old.digest: ("scanned", True), kali.digest: ("uncovered", False)}
    sent(delivery)
    for kind in ("plain", "html"):
        assert "debian 9.5 has reached its end of life" in mail_server.part(0, kind)
        assert "could not be checked (debian kali-rolling)" in mail_server.part(0, kind)
