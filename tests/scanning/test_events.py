"""Event webhooks: each event of the audit log once, to those who may hear it, signed so that receivers can check it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.utils import timezone
from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

from accounts.actors import SYSTEM
from accounts.errors import Refusal
from registry import audit, manifests, projects, repositories, trash
from registry.models import Event
from registry.oci.names import ImageName
from scanning import acceptances, scans, tasks, undo
from scanning.models import Delivery, Notification, Subscription
from scanning.notifications import cloud_events, events, messages, subscriptions
from scanning.notifications.channels import WrongAddress
from tests.support.factories import high, make_manifest, scanned, set_tag
from tests.support.images import Image, Index

if TYPE_CHECKING:
    from accounts.models import Project

Action = Event.Action
State = Delivery.State


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Run tasks immediately."""
    monkeypatch.setattr(tasks.deliver, "delay", tasks.deliver)


def listen(project: Project, url: str, **target: Any) -> tuple[Subscription, str]:
    """Create a subscription to events. Return it and its secret."""
    made = subscriptions.create(SYSTEM, project, None, "events", {"url": url, **target})
    return made.subscription, made.secret


@pytest.fixture
def hook(project, receiver):
    return listen(project, receiver.url)


def types(receiver) -> list[str]:
    """The types of what the receiver got, without the prefix."""
    return [json.loads(body)["type"].removeprefix("dev.kcr.") for _path, _headers, body in receiver.requests]


# ── The table ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_every_action_has_a_type_of_its_own():
    assert list(cloud_events.TYPES) == list(Action)
    assert len(set(cloud_events.TYPES.values())) == len(Action)


# ── What is sent ─────────────────────────────────────────────────────────────────────────────────────────────────────
def test_each_change_is_sent_once_as_a_cloud_event(hook, project, web, receiver):
    first, second = make_manifest(web, "one", image="team/app"), make_manifest(web, "two", image="team/app")
    name = ImageName("demo", "web", "team/app")
    audit.record(SYSTEM, Action.TAG_MOVE, first.image, tag="1.0", digest=second.digest, before=first.digest)
    repositories.update(SYSTEM, web, description="x")
    set_tag(second, "2.0")
    trash.delete_references(SYSTEM, web, name, ["2.0"])
    for _ in range(2):
        tasks.spread_events()
    moved, updated, deleted = (json.loads(body) for _path, _headers, body in receiver.requests)
    event = Event.objects.get(action="tag.move")
    assert moved == {
        "specversion": "1.0",
        "id": f"evt_{event.pk}",
        "type": "dev.kcr.tag.moved",
        "source": "http://localhost:8080/api/v1/projects/demo",
        "subject": "demo/web/team/app:1.0",
        "time": event.at.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "sequence": f"{event.pk:020}",
        "data": {
            "project": "demo",
            "repository": "web",
            "image": "team/app",
            "tag": "1.0",
            "digest": second.digest,
            "actor": "system",
            "key": None,
            "detail": {"before": first.digest},
        },
    }
    assert datetime.fromisoformat(moved["time"]) == event.at.astimezone(UTC)
    assert (updated["type"], updated["subject"]) == ("dev.kcr.repository.updated", "demo/web")
    assert (updated["data"]["image"], updated["data"]["detail"]["after"]) == (None, {"description": "x"})
    assert (deleted["type"], deleted["data"]["tag"]) == ("dev.kcr.tag.deleted", "2.0")
    assert moved["sequence"] < updated["sequence"] < deleted["sequence"]
    assert receiver.requests[0][1]["Content-Type"] == "application/cloudevents+json; charset=utf-8"


# ── Pushes ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def received(receiver) -> list[tuple[str, str | None, str]]:
    """Type, tag and digest of each event that came since the last call."""
    tasks.spread_events()
    events = [json.loads(body) for _path, _headers, body in receiver.requests]
    receiver.requests.clear()
    return [(each["type"].removeprefix("dev.kcr."), each["data"]["tag"], each["data"]["digest"]) for each in events]


def test_each_push_is_one_event(hook, docker, receiver):
    client, first, second = docker("member"), Image.random("first"), Image.random("second")
    for reference, image in (
        ("1.0", first),  # a new image
        ("1.0", second),  # moved to a new digest
        ("1.0", first),  # moved back to a known one
        ("stable", first),  # a known digest under another tag
        ("stable", first),  # the same again
        ("stable", first),
    ):
        client.push("web/app", reference, image)
        assert received(receiver) == [("image.pushed", reference, image.digest)]
    by_digest = Image.random("third")
    client.push("web/app", by_digest.digest, by_digest)
    assert received(receiver) == [("digest.pushed", None, by_digest.digest)]
    client.push("web/app", by_digest.digest, by_digest)
    assert received(receiver) == []


def test_push_under_several_tags_is_an_event_for_each(hook, docker, receiver):
    client, image = docker("member"), Image.random("tags")
    for part in image.parts[:-1]:
        client.push_blob("web/app", part)
    client.put(
        f"web/app/manifests/{image.digest}?tag=a&tag=b",
        201,
        body=image.manifest,
        headers={"Content-Type": image.media_type},
    )
    assert received(receiver) == [("image.pushed", "a", image.digest), ("image.pushed", "b", image.digest)]


def test_image_of_two_platforms_is_one_pushed_image(hook, docker, receiver):
    index = Index.random("platforms")
    docker("member").push("web/app", "1.0", index)
    digests = [("digest.pushed", None, each.digest) for each in index.images]
    assert received(receiver) == [*digests, ("image.pushed", "1.0", index.digest)]


def test_event_of_a_push_has_its_media_type_and_the_former_digest(hook, docker, receiver):
    client, first, second = docker("member"), Image.random("first"), Image.random("second")
    client.push("web/app", "1.0", first)
    client.push("web/app", "1.0", second)
    tasks.spread_events()
    details = [json.loads(body)["data"]["detail"] for _path, _headers, body in receiver.requests]
    assert details == [
        {"media_type": first.media_type},
        {"media_type": second.media_type, "before": first.digest},
    ]


def test_tag_that_is_set_without_a_push_is_no_push(hook, docker, receiver, world):
    first, second = Image.random("first"), Image.random("second")
    docker("member").push("web/app", "1.0", first)
    docker("member").push("web/app", "2.0", second)
    name, web = ImageName("demo", "web", "app"), world.repository("web")
    tasks.spread_events()
    receiver.requests.clear()
    manifests.point_tag(world.member.actor, web, name, "new", first.digest)
    manifests.point_tag(world.member.actor, web, name, "new", second.digest, seen=first.digest)
    assert received(receiver) == [("tag.added", "new", first.digest), ("tag.moved", "new", second.digest)]


def test_change_feed_and_webhook_have_the_same_events(hook, project, docker, receiver):
    subscription, _secret = hook
    subscription.refresh_from_db()
    docker("member").push("web/app", "1.0", Index.random("platforms"))
    docker("member").push("web/app", "1.0", Image.random("other"))
    tasks.spread_events()
    sent = [json.loads(body) for _path, _headers, body in receiver.requests]
    assert len(sent) == 4
    assert [cloud_events.of(event, project) for event in audit.changes(project, subscription.position, 100)] == sent


def test_scans_and_acceptances_are_events(hook, project, web, receiver):
    manifest = make_manifest(web, "app", tag="1")
    scanned(manifest, high("CVE-1"))
    scan = scans.Scan.objects.latest("pk")
    scans._record(scan)
    acceptances.accept(SYSTEM, project, "CVE-1", reason="none", covers_fixed=True)
    tasks.spread_events()
    assert types(receiver) == ["scan.done", "vulnerability.accepted"]
    detail = json.loads(receiver.requests[0][2])["data"]["detail"]
    assert (detail["high"], detail["state"]) == (1, "scanned")


def test_lists_are_cut(hook, web, receiver):
    image = make_manifest(web, "app").image
    audit.record(SYSTEM, Action.IMAGE_DELETE, image, tags=[f"v{number}" for number in range(500)], digests=3)
    tasks.spread_events()
    detail = json.loads(receiver.requests[0][2])["data"]["detail"]
    assert (len(detail["tags"]), detail["digests"], detail["truncated"]) == (100, 3, ["tags"])


def test_types_and_repositories_are_chosen(project, web, receiver):
    api, _ = repositories.create(SYSTEM, project, "api")
    subscription, _ = listen(project, receiver.url, types=["tag.added", "repository.updated"], repositories="w*, none")
    assert (subscription.types, subscription.repositories) == (["repository.updated", "tag.added"], "w* none")
    for repository in (web, api):
        image = make_manifest(repository, "app").image
        audit.record(SYSTEM, Action.TAG_ADD, image, tag="1", digest="sha256:x")
        audit.record(SYSTEM, Action.TAG_MOVE, image, tag="1", digest="sha256:x", before="sha256:y")
        repositories.update(SYSTEM, repository, description="x")
    projects.update(SYSTEM, project, description="x")
    tasks.spread_events()
    assert types(receiver) == ["tag.added", "repository.updated"]
    assert {json.loads(body)["data"]["repository"] for _path, _headers, body in receiver.requests} == {"web"}


def test_subscription_to_repositories_has_no_events_of_the_project(project, web, receiver):
    listen(project, receiver.url, repositories="w*")
    receiver.requests.clear()
    projects.update(SYSTEM, project, description="x")
    repositories.update(SYSTEM, web, description="x")
    tasks.spread_events()
    assert types(receiver) == ["repository.updated"]


@pytest.mark.parametrize("typed", ["demo/web", "web$", "a b " * 30])
def test_wrong_repositories_are_refused(project, receiver, typed):
    if typed.startswith("a b"):
        typed = " ".join(f"r{number}" for number in range(30))
    with pytest.raises(WrongAddress):
        listen(project, receiver.url, repositories=typed)


def test_a_subscription_hears_of_its_own_project_only(hook, project, web, receiver):
    organization = project.organization
    other, _ = projects.create(SYSTEM, organization, "other")
    secret, _ = repositories.create(SYSTEM, other, "web")
    audit.record(SYSTEM, Action.TAG_ADD, make_manifest(secret, "app").image, tag="1", digest="sha256:x")
    repositories.update(SYSTEM, web, description="x")
    tasks.spread_events()
    assert types(receiver) == ["repository.updated"]
    assert "other" not in receiver.requests[0][2].decode()


def test_events_are_of_whole_projects(project, web, receiver):
    with pytest.raises(Refusal):
        subscriptions.create(SYSTEM, project, web, "events", {"url": receiver.url})


def test_nothing_is_sent_of_the_time_before_and_of_a_pause(project, web, receiver):
    repositories.update(SYSTEM, web, description="before")
    subscription, _ = listen(project, receiver.url)
    subscriptions.set_active(SYSTEM, subscription, is_active=False)
    repositories.update(SYSTEM, web, description="paused")
    tasks.spread_events()
    subscriptions.set_active(SYSTEM, subscription, is_active=True)
    repositories.update(SYSTEM, web, description="after")
    tasks.spread_events()
    assert types(receiver) == ["repository.updated"]
    assert json.loads(receiver.requests[0][2])["data"]["detail"]["after"] == {"description": "after"}


def test_scans_make_no_notification_of_scans(hook, web):
    scanned(make_manifest(web, "app", tag="1"), high("CVE-1"))
    assert messages.gather() == []
    assert not Notification.objects.exists()


def test_a_change_of_types_can_be_undone(world, receiver):
    subscription, _secret = listen(world.projects["demo"], receiver.url)
    admin = world.admin.actor
    event = subscriptions.update(admin, subscription, {"url": "", "types": ["tag.added"], "repositories": "web"})
    assert event.detail["after"] == {"types": ["tag.added"], "repositories": "web"}
    assert undo.undo(admin, Event.objects.filter(pk=event.pk)).skipped == []
    subscription.refresh_from_db()
    assert (subscription.types, subscription.repositories) == ([], "")


# ── Signatures ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_reference_library_accepts_each_message_and_refuses_a_flipped_bit(hook, web, receiver):
    _subscription, secret = hook
    image = make_manifest(web, "app").image
    for action in Action:
        audit.record(SYSTEM, action, image, tag="1.0", text="취약점 'x'")
    tasks.spread_events()
    library = Webhook(secret)
    assert types(receiver) == list(cloud_events.TYPES.values())
    for _path, headers, body in receiver.requests:
        assert library.verify(body, headers)["id"] == headers["webhook-id"]
    _path, headers, body = receiver.requests[0]
    for place in range(len(body)):
        flipped = bytearray(body)
        flipped[place] ^= 1 << place % 8
        with pytest.raises((WebhookVerificationError, UnicodeDecodeError)):
            library.verify(bytes(flipped), headers)
    for name, value in (("webhook-id", "evt_1"), ("webhook-timestamp", str(int(headers["webhook-timestamp"]) + 1))):
        with pytest.raises(WebhookVerificationError):
            library.verify(body, headers | {name: value})


def test_both_secrets_sign_for_a_day(hook, web, receiver):
    subscription, former = hook
    newer = subscriptions.renew_secret(SYSTEM, subscription)
    repositories.update(SYSTEM, web, description="1")
    tasks.spread_events()
    _path, headers, body = receiver.requests[-1]
    assert Webhook(former).verify(body, headers) == Webhook(newer).verify(body, headers)
    Subscription.objects.update(former_until=timezone.now() - timedelta(seconds=1))
    repositories.update(SYSTEM, web, description="2")
    tasks.spread_events()
    _path, headers, body = receiver.requests[-1]
    assert Webhook(newer).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(former).verify(body, headers)
    stored = str(vars(Subscription.objects.get()))
    assert former not in stored
    assert newer not in stored


def test_a_test_is_signed_and_is_no_event(hook, receiver):
    subscription, secret = hook
    made = tasks.deliveries.queue(subscription, messages.test_content(subscription, timezone.now()), is_test=True)
    tasks.deliver(made.pk)
    ((_path, headers, body),) = receiver.requests
    assert Webhook(secret).verify(body, headers)["type"] == "dev.kcr.test"
    assert headers["webhook-id"].startswith("test_")


# ── Failures ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_message_that_is_sent_again_has_the_same_id(hook, web, receiver):
    repositories.update(SYSTEM, web, description="1")
    receiver.will_say(500)
    tasks.spread_events()
    (delivery,) = Delivery.objects.all()
    for _ in range(2):
        Delivery.objects.update(created_at=timezone.now() - timedelta(minutes=1))
        tasks.deliver(tasks.deliveries.again(delivery).pk)
        delivery.refresh_from_db()
    assert len(receiver.requests) == 3
    assert len({headers["webhook-id"] for _path, headers, _body in receiver.requests}) == 1
    assert len({body for _path, _headers, body in receiver.requests}) == 1


def test_a_receiver_that_is_away_is_asked_once_for_all_its_events(hook, project, web, receiver):
    for number in range(30):
        repositories.update(SYSTEM, web, description=str(number))
    receiver.will_say(503, Retry_After="1800")
    tasks.spread_events()
    tasks.sweep_deliveries()
    assert len(receiver.requests) == 1
    assert (
        Delivery.objects.filter(state=State.WAITING, next_at__gt=timezone.now() + timedelta(minutes=29)).count() == 30
    )
    Delivery.objects.update(next_at=timezone.now())
    tasks.sweep_deliveries()
    assert Delivery.objects.filter(state=State.SENT).count() == 30
    described = [json.loads(body)["data"]["detail"]["after"]["description"] for _, _, body in receiver.requests]
    assert described == ["0", *map(str, range(30))]


def test_a_slow_receiver_holds_one_worker(hook, web, receiver):
    """Its other events wait while a worker sends one; those of a lost worker go on after its lease."""
    for number in range(3):
        repositories.update(SYSTEM, web, description=str(number))
    (first,) = events.spread()
    other = Delivery.objects.latest("pk").pk
    slow = tasks.deliveries._claim(first)
    tasks.deliver(other)
    tasks.sweep_deliveries()
    assert receiver.requests == []
    Delivery.objects.filter(pk=slow.pk).update(lease_until=timezone.now() - timedelta(seconds=1))
    tasks.sweep_deliveries()
    assert Delivery.objects.filter(state=State.SENT).count() == 3


def test_a_worker_takes_turns_between_subscriptions(hook, web, receiver, monkeypatch):
    for number in range(3):
        repositories.update(SYSTEM, web, description=str(number))
    woken = []
    monkeypatch.setattr(tasks, "start_delivery", woken.append)
    monkeypatch.setattr(tasks, "TURN", 0.0)
    tasks.spread_events()
    tasks.deliver(woken[0])
    assert (len(receiver.requests), len(woken)) == (0, 2)


def test_a_worker_that_comes_second_makes_nothing(hook, web, monkeypatch):
    """Another worker moves the position between the read and the write of this one."""
    subscription, _secret = hook
    repositories.update(SYSTEM, web, description="1")
    end = audit.settled()
    reads = Event.objects.acts

    def raced():
        monkeypatch.undo()
        assert len(events._spread(subscription.pk, end)) == 1
        return reads()

    monkeypatch.setattr(Event.objects, "acts", raced)
    assert events._spread(subscription.pk, end) is None
    assert Delivery.objects.count() == 1


def test_a_failed_batch_is_made_again(hook, web, monkeypatch):
    repositories.update(SYSTEM, web, description="1")
    monkeypatch.setattr(events, "failpoint", lambda _name: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        events.spread()
    monkeypatch.undo()
    assert Delivery.objects.count() == 0
    assert len(events.spread()) == 1
    assert Delivery.objects.count() == 1


def test_many_events_are_made_in_batches(hook, project, monkeypatch):
    monkeypatch.setattr(events, "BATCH", 10)
    Event.objects.bulk_create(audit.build(SYSTEM, Action.PROJECT_UPDATE, project) for _ in range(35))
    assert len(events.spread()) == 1
    assert Delivery.objects.count() == 35
