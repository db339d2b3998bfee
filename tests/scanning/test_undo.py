"""Undo of notifications and risk acceptances, by event and for all that a person did."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from registry.models import Event, Severity
from scanning import acceptances, undo
from scanning.models import Acceptance, Delivery, Subscription
from scanning.notifications import deliveries, recipients, subscriptions
from tests.support.factories import found, make_report, subscribe
from tests.support.images import image_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def demo(world):
    return world.projects["demo"]


@pytest.fixture
def accepted(docker, world, demo) -> Acceptance:
    """CVE-2026-1 is accepted in the project."""
    digest = docker("member").push("web/app", "1.0", image_of("first")).digest
    image = world.repository("web").images.get()
    make_report(image.manifests.get(digest=digest), [found("CVE-2026-1", severity=Severity.CRITICAL)])
    return acceptances.accept(world.member.actor, demo, "CVE-2026-1", reason="no way to reach it")


def last() -> Event:
    return Event.objects.latest("pk")


def take_back(actor, *events: Event) -> list[str]:
    """Undo the events; the problems."""
    result = undo.undo(actor, Event.objects.filter(pk__in=[event.pk for event in events]))
    return [step.problem for step in result.skipped]


def active(acceptance: Acceptance) -> bool:
    return Acceptance.objects.active(timezone.now()).filter(pk=acceptance.pk).exists()


def worst(acceptance: Acceptance) -> int:
    return acceptance.project.repositories.get(name="web").images.get().manifests.get().worst_severity


# ── Acceptances ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_withdrawal_is_undone_and_counts_again(accepted, world):
    event = acceptances.withdraw(world.admin.actor, accepted)
    assert (active(accepted), worst(accepted)) == (False, Severity.CRITICAL)
    (step,) = undo.preview(world.member.actor, Event.objects.filter(pk=event.pk))
    assert (step.kind, step.before, step.after) == ("acceptance", False, True)
    assert take_back(world.member.actor, event) == []
    assert (active(accepted), worst(accepted)) == (True, Severity.NONE)
    assert (last().action, last().detail["undoes"]) == ("vulnerability.accept", [event.pk])
    assert take_back(world.member.actor, event) == []
    assert last().detail["undoes"] == [event.pk], "doing it twice adds nothing"


def test_an_acceptance_is_undone_by_a_withdrawal(accepted, world):
    event = last()
    assert take_back(world.admin.actor, event) == []
    assert not active(accepted)
    assert (last().action, last().detail["undoes"]) == ("vulnerability.withdraw", [event.pk])


def test_later_changes_of_others_are_kept(accepted, world):
    made = last()
    acceptances.withdraw(world.admin.actor, accepted)
    acceptances.restore(world.owner.actor, accepted)
    acceptances.withdraw(world.admin.actor, accepted)
    assert take_back(world.member.actor, made) == []
    acceptances.restore(world.owner.actor, accepted)
    withdrawn = Event.objects.filter(action="vulnerability.withdraw").order_by("pk")[0]
    assert take_back(world.member.actor, withdrawn) == []
    assert active(accepted)


def test_withdrawal_of_an_expired_acceptance_is_not_undone(accepted, world):
    event = acceptances.withdraw(world.admin.actor, accepted)
    Acceptance.objects.update(expires_at=timezone.now() - timedelta(minutes=1))
    assert take_back(world.member.actor, event) == ["the acceptance holds already, or has reached its end"]
    assert Acceptance.objects.get().withdrawn_at is not None


def test_events_of_former_versions_are_reported_and_not_undone(accepted, world):
    event = acceptances.withdraw(world.admin.actor, accepted)
    Event.objects.filter(pk=event.pk).update(detail={"vulnerability": "CVE-2026-1"})
    assert take_back(world.member.actor, event) == ["an acceptance was withdrawn in demo: look at what is accepted"]


# ── Notifications ────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def mails(demo) -> Subscription:
    return subscribe(demo)


def test_deleted_notification_is_restored_with_its_log_and_sends_no_old_message(mails, demo, world):
    sent = Delivery.objects.create(subscription=mails, state=Delivery.State.SENT)
    Delivery.objects.create(subscription=mails)
    event = subscriptions.delete(world.admin.actor, mails)
    assert not Subscription.objects.live().exists()
    assert not Subscription.objects.of_repository(world.repository("web")).exists()
    assert deliveries.due() == []
    assert take_back(world.admin.actor, event) == []
    assert Subscription.objects.live().get() == mails
    assert list(Delivery.objects.all()) == [sent]
    assert last().detail["undoes"] == [event.pk]
    assert take_back(world.admin.actor, event) == []


def test_a_webhook_comes_back_with_its_secret(demo, world):
    hook = subscribe(demo, channel="webhook", url="https://hooks.example.com/T0", recipients=[], secret="kept")
    event = subscriptions.delete(world.admin.actor, hook)
    assert take_back(world.admin.actor, event) == []
    back = Subscription.objects.live().get()
    assert (back.url, back.secret) == ("https://hooks.example.com/T0", "kept")


def test_a_deletion_is_final_after_the_time_of_recovery(mails, world, settings):
    event = subscriptions.delete(world.admin.actor, mails)
    assert subscriptions.forget() == 0
    Subscription.objects.update(deleted_at=timezone.now() - timedelta(days=settings.RECOVERY_DAYS, minutes=1))
    assert subscriptions.forget() == 1
    assert take_back(world.admin.actor, event) == ["it is gone for good"]


def test_restoring_a_duplicate_notification_is_refused(mails, demo, world):
    event = subscriptions.delete(world.admin.actor, mails)
    subscribe(demo)
    assert take_back(world.admin.actor, event) == ["There is such a notification already, with the same target."]
    assert Subscription.objects.live().count() == 1


def test_undo_sets_back_only_unchanged_values_in_one_event(mails, world):
    target = {"recipients": "joon@acme.test"}
    event = subscriptions.update(world.admin.actor, mails, target, min_severity=5, frequency="daily", language="ko")
    subscriptions.update(world.owner.actor, mails, target, min_severity=5, frequency="each", language="ko")
    before = Event.objects.count()
    assert take_back(world.admin.actor, event) == ["another user has changed it since"]
    mails.refresh_from_db()
    assert (mails.min_severity, mails.frequency, mails.language) == (Severity.HIGH, "each", "en")
    assert mails.recipients == ["mina@acme.test", "joon@acme.test"]
    assert Event.objects.count() == before + 1


def test_unsubscribing_from_a_deleted_notification_survives_its_restoration(mails, world):
    link = recipients.unsubscribe_link(mails.pk, "mina@acme.test")
    event = subscriptions.delete(world.admin.actor, mails)
    leaving = subscriptions.read_unsubscribe_link(link.rpartition("/")[2])
    assert leaving is not None
    subscriptions.unsubscribe(leaving)
    assert take_back(world.admin.actor, event) == []
    assert Subscription.objects.live().get().recipients == ["joon@acme.test"]


def test_new_urls_and_secrets_are_reported_and_not_undone(demo, world):
    hook = subscribe(demo, channel="webhook", url="https://hooks.example.com/T0", recipients=[])
    subscriptions.renew_secret(world.admin.actor, hook)
    assert take_back(world.admin.actor, last()) == [
        "the audit log does not hold URLs and secrets: look at the notification"
    ]


def test_a_notification_of_the_project_is_for_its_admins(mails, demo, world):
    event = subscriptions.delete(world.admin.actor, mails)
    assert take_back(world.member.actor, event) == ["only an admin of the project may change its notifications"]
    own = subscribe(demo, world.repository("web"))
    assert take_back(world.member.actor, subscriptions.delete(world.member.actor, own)) == []


def test_a_new_notification_is_undone_by_deleting_it(demo, world):
    made = subscriptions.create(
        world.admin.actor, demo, None, "mail", {"recipients": "mina@acme.test"}, min_severity=4, frequency="new"
    )
    subscriptions.set_active(world.admin.actor, made.subscription, is_active=False)
    everything = undo.acts(demo, timezone.now() - timedelta(hours=1), user_id=world.admin.user.pk)
    result = undo.undo(world.owner.actor, everything)
    assert not Subscription.objects.live().exists()
    assert [step.kind for step in result.done] == ["notification"]
