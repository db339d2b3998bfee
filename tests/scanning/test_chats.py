"""Slack, Microsoft Teams and Discord: their formats and limits, hostile names, refusals, waits and addresses."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from scanning.models import Delivery
from scanning.notifications import channels, deliveries, messages
from scanning.notifications.channels import WrongAddress
from tests.support.chats import DiscordService, Service, SlackService, TeamsService
from tests.support.factories import critical, make_manifest, scanned, subscribe

State = Delivery.State
HOSTILE = [
    "<!channel> <!here> <@U0123> <#C0123>",
    "<https://evil.test|click>",
    "*bold* _it_ ~no~ `code` ```block```",
    "[click](https://evil.test) ![x](https://evil.test/x.png)",
    "@everyone @here <@123> <@&456> <#789> <t:1> <a:x:1>",
    "<at>Everyone</at> {{DATE(2026-01-01T00:00:00Z,SHORT)}}",
    "||spoiler|| > quote # head\n# head\n- item",
    "&lt;!channel&gt; &amp;",
    "한글 <!channel> 이름",
]


@pytest.fixture(params=[SlackService, TeamsService, DiscordService], ids=lambda each: each.kind)
def service(request, receiver) -> Service:
    """The service, behind the receiver."""
    receiver.service = request.param()
    return receiver.service


@pytest.fixture
def subscription(service, receiver, project, web):
    return subscribe(project, web, channel=service.kind, recipients=[], url=receiver.url)


def sent(subscription, content=None) -> Delivery:
    content = content or messages.test_content(subscription, timezone.now()) | {"event": "scan.findings"}
    delivery = deliveries.queue(subscription, content)
    deliveries.deliver(delivery.pk)
    delivery.refresh_from_db()
    return delivery


def test_message_names_images_and_findings_and_links_to_the_console(subscription, service, web):
    for number in range(2):
        scanned(make_manifest(web, f"app {number}", image=f"app{number}", tag="1.0"), critical("CVE-2026-1", "curl"))
    (pk,) = messages.gather()
    deliveries.deliver(pk)
    assert Delivery.objects.get().state == State.SENT
    (message,) = service.messages
    words = service.visible(message)
    assert "[KCR] demo/web: 2 new vulnerabilities, worst Critical" in words
    assert "Critical 2" in words
    for image in ("demo/web/app0", "demo/web/app1"):
        assert image in words
    assert words.count("CVE-2026-1 curl 1.0 → 1.1") == 2
    assert set(service.calls(message)) >= {"http://localhost:8080/projects/demo/repositories/web/"}
    assert all(call.startswith("http://localhost:8080/projects/demo/") for call in service.calls(message))


def test_test_message_says_that_it_is_one(subscription, service):
    assert sent(subscription, messages.test_content(subscription, timezone.now())).state == State.SENT
    assert "[KCR] Test notification for demo/web" in service.visible(service.messages[0])


def test_message_is_in_the_language_of_the_subscription(subscription, service):
    subscription.language = "ko"
    subscription.save()
    assert sent(subscription).state == State.SENT
    assert "취약점" in service.visible(service.messages[0])
    assert "KCR에서 보기" in json.dumps(service.messages[0], ensure_ascii=False)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_and_call_nobody(subscription, service, name):
    content = messages.test_content(subscription, timezone.now()) | {"event": "scan.findings"}
    image = content["images"][0]
    finding = image["new"][0] | {"package": name, "installed": name, "fixed": name, "vulnerability": name}
    content["images"] = [image | {"tags": [name], "new": [finding], "state": "uncovered", "system": name}]
    assert sent(subscription, content).state == State.SENT
    (message,) = service.messages
    words, wanted = service.visible(message), name
    if service.kind == "slack":  # it has no escape for its emphasis and code: these characters are left out
        words, wanted = (text.replace("*", "").replace("`", " ") for text in (words, wanted))
    assert " ".join(wanted.split()) in " ".join(words.split())
    assert all(call.startswith("http://localhost:8080/") for call in service.calls(message)), service.calls(message)


@pytest.mark.parametrize("letter", ["x", "취", "<", "_", "`", "\\"])
def test_largest_message_is_within_the_limits(subscription, service, letter):
    subscription.language = "ko"
    subscription.save()
    content = messages.test_content(subscription, timezone.now()) | {"event": "scan.findings"}
    image = content["images"][0]
    long = letter * 300
    finding = image["new"][0] | {"package": long, "installed": long, "fixed": long, "vulnerability": long}
    image |= {"path": "a/" + "b" * 253, "tags": ["t" * 128] * 20, "new": [finding] * 50, "new_total": 50}
    image |= {"state": "uncovered", "system": long, "end_of_life": True}
    content["images"] = [image] * 50
    content["totals"] |= {"images": 12_345, "fixed": 10**9, "new": 10**9}
    content |= {"project": "p" * 63, "repository": "r" * 63}
    assert sent(subscription, content).state == State.SENT
    words = service.visible(service.messages[0])
    shown = words.count("a/" + "b" * 50)
    assert 3 <= shown <= 10
    assert f"{12_345 - shown}" in words


def test_message_without_findings_is_accepted(subscription, service):
    content = messages.test_content(subscription, timezone.now())
    content["totals"] |= {"counts": {}, "new_counts": {}, "new": 0, "fixed": 0, "images": 0}
    assert sent(subscription, content | {"images": []}).state == State.SENT


def test_deleted_webhook_is_final_and_the_log_says_what_the_service_says(subscription, service, receiver):
    receiver.answers.append(service.gone())
    delivery = sent(subscription)
    assert (delivery.state, delivery.status, delivery.attempts) == (State.FAILED, 404, 1)
    reason = {"slack": "no_service", "teams": "WorkflowNotFound", "discord": "Unknown Webhook (10015)"}[service.kind]
    assert delivery.problem == f"the other side refused it with status 404: {reason}"
    assert "secret=path" not in delivery.request + delivery.response + delivery.problem


def test_service_that_is_too_busy_is_asked_again_after_its_time(subscription, service, receiver):
    body = json.dumps({"message": "You are being rate limited.", "retry_after": 1260.5, "global": False}).encode()
    header = {} if service.kind == "discord" else {"Retry_After": "1260"}
    receiver.will_say(429, body, Content_Type="application/json", **header)
    before = timezone.now()
    delivery = sent(subscription)
    assert delivery.state == State.WAITING
    assert timedelta(minutes=20.9) < delivery.next_at - before < timedelta(minutes=21.2)
    deliveries.again(delivery)
    deliveries.deliver(delivery.pk)
    assert len(service.messages) == 1


@pytest.mark.parametrize("asked", ["1e999", "NaN", "-1", "true", '"60"', "null", "0"])
def test_strange_wait_of_discord_is_harmless(project, web, receiver, asked):
    subscription = subscribe(project, web, channel="discord", recipients=[], url=receiver.url)
    receiver.will_say(429, f'{{"retry_after": {asked}}}'.encode(), Content_Type="application/json")
    delivery = sent(subscription)
    assert delivery.state == State.WAITING
    assert delivery.next_at - timezone.now() <= timedelta(hours=6)


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b'{"error": 1, "message": 5}', b"<b>no</b>", b"[" * 60_000])
def test_strange_refusal_is_a_refusal(subscription, service, receiver, body):
    receiver.will_say(400, body, Content_Type="application/json")
    delivery = sent(subscription)
    assert delivery.state == State.FAILED
    assert delivery.problem.startswith("the other side refused it with status 400")


def test_discord_is_told_which_program_asks(project, web, receiver):
    receiver.service = DiscordService()
    sent(subscribe(project, web, channel="discord", recipients=[], url=receiver.url))
    assert receiver.requests[0][1]["User-Agent"] == "DiscordBot (http://localhost:8080, 1) KCR"


# ── Addresses ────────────────────────────────────────────────────────────────────────────────────────────────────────
WORKFLOW = (
    f"https://default{1:032x}.a1.environment.api.powerplatform.com:443/powerautomate/automations/direct/workflows/"
    f"{2:032x}/triggers/manual/paths/invoke?api-version=1&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=x_y-z"
)


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("slack", "https://hooks.slack.com/services/T000/B000/XXXX"),
        ("slack", "https://hooks.slack-gov.com/services/T000/B000/XXXX"),
        ("teams", WORKFLOW),
        ("teams", "https://prod-05.westeurope.logic.azure.com:443/workflows/1/triggers/manual/paths/invoke?sig=x"),
        ("discord", "https://discord.com/api/webhooks/123/abc-DEF_1"),
        ("discord", "https://ptb.discord.com/api/v10/webhooks/123/abc?thread_id=5"),
    ],
)
def test_addresses_of_the_service_are_accepted(kind, url, resolver):
    resolver(url.split("/")[2].removesuffix(":443"), "8.8.8.8")
    assert channels.CHANNELS[kind].columns({"url": url}) == {"url": url}


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("slack", "https://example.com/services/T000/B000/XXXX"),
        ("slack", "http://hooks.slack.com/services/T000/B000/XXXX"),
        ("slack", "https://hooks.slack.com:8443/services/T000/B000/XXXX"),
        ("slack", "https://hooks.slack.com.example.com/services/T000/B000/XXXX"),
        ("slack", "https://hooks.slack.com/triggers/T000/1/XXXX"),
        ("teams", "https://acme.webhook.office.com/webhookb2/x"),
        ("teams", "https://api.powerplatform.com.example.com/x"),
        ("teams", "https://evilapi.powerplatform.com/x"),
        ("discord", "https://discord.com/api/webhooks/123/abc/slack"),
        ("discord", "https://discord.com/channels/1/2"),
        ("discord", "https://example.com/api/webhooks/123/abc"),
    ],
)
def test_other_addresses_are_refused_with_what_is_wanted(kind, url, resolver):
    resolver(url.split("/")[2].partition(":")[0], "8.8.8.8")
    wanted = {
        "slack": "its address begins with https://hooks.slack.com/services/.",
        "teams": "its host ends with .api.powerplatform.com. Webhooks of the former connectors",
        "discord": "its address begins with https://discord.com/api/webhooks/.",
    }
    with pytest.raises(WrongAddress, match=wanted[kind].replace(".", r"\.")):
        channels.CHANNELS[kind].columns({"url": url})


@pytest.mark.parametrize("kind", ["slack", "teams", "discord"])
def test_program_in_a_network_of_the_operator_may_take_the_messages(kind, receiver):
    assert channels.CHANNELS[kind].columns({"url": receiver.url}) == {"url": receiver.url}
