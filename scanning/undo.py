"""Undo of recorded changes: what ``registry.undo`` takes back, and changes of notifications and risk acceptances."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from accounts.errors import Refusal
from registry import access
from registry import undo as registry_undo
from registry.models import Event
from registry.undo import Kind, Step, Undone, acts, way_back
from scanning import acceptances
from scanning.models import Acceptance, Subscription
from scanning.notifications import subscriptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from accounts.actors import Actor
    from registry.models.audit import EventQuerySet

__all__ = ["Step", "Undone", "acts", "is_undoable", "preview", "undo"]

Action = Event.Action
ACTIONS = (Action.NOTICE_CHANGE, Action.VULNERABILITY_ACCEPT, Action.VULNERABILITY_WITHDRAW)
Changes = list[tuple[Event, Any, Any]]
"""Changes of one value, newest first, with the value before and after each."""


def preview(actor: Actor, events: EventQuerySet) -> list[Step]:
    """What undoing these events would change now, in the order of ``undo``. Changes nothing."""
    return [*registry_undo.preview(actor, events), *_steps(actor, events)]


def undo(actor: Actor, events: EventQuerySet) -> Undone:
    """Undo these events as far as possible. Doing it twice changes nothing more.

    The caller has checked that the actor may MANAGE the project. What needs more is checked here.
    """
    result = registry_undo.undo(actor, events)
    possible: dict[tuple[Kind, int], list[Step]] = defaultdict(list)
    for step in _steps(actor, events):
        if step.problem:
            result.add([step])
        else:
            possible[step.kind, step.thing].append(step)
    for steps in possible.values():
        result.add(_done(actor, steps))
    return result


def is_undoable(event: Event) -> bool:
    """Whether the audit log holds enough of this event to take it back. The page may still refuse it."""
    before, after = event.detail.get("before"), event.detail.get("after")
    if event.action != Action.NOTICE_CHANGE:
        return event.action in ACTIONS and "acceptance" in event.detail
    if not isinstance(before, dict) or not isinstance(after, dict) or "subscription" not in event.detail:
        return False
    return not before or "channel" in after or not after.keys().isdisjoint(subscriptions.SETTABLE)


def _done(actor: Actor, steps: list[Step]) -> list[Step]:
    """Do the steps of one thing in one change. Returns them, with the problem that they met."""
    first, undoes = steps[0], {event for step in steps for event in step.events}
    try:
        if first.kind == Kind.ACCEPTANCE:
            acceptance = Acceptance.objects.select_related("project", "repository__project").get(pk=first.thing)
            change = acceptances.restore if first.after else acceptances.withdraw
            change(actor, acceptance, undoes=undoes)
        else:
            subscription = Subscription.objects.get(pk=first.thing)
            if first.kind == Kind.SET_NOTIFICATION:
                seen, values = ({step.name: getattr(step, when) for step in steps} for when in ("before", "after"))
                subscriptions.set_back(actor, subscription, seen=seen, undoes=undoes, **values)
            else:
                act = subscriptions.restore if first.after else subscriptions.delete
                act(actor, subscription, undoes=undoes)
    except Refusal as error:
        return [replace(step, problem=error.message) for step in steps]
    except (Acceptance.DoesNotExist, Subscription.DoesNotExist):
        return [replace(step, problem=_("it is gone for good")) for step in steps]
    return steps


def _steps(actor: Actor, events: EventQuerySet) -> list[Step]:
    accepted: dict[int, Changes] = defaultdict(list)
    noted: dict[int, list[Event]] = defaultdict(list)
    steps = []
    for event in events.filter(action__in=ACTIONS).select_related("project").order_by("-pk"):
        if not is_undoable(event):
            steps.append(_by_hand(event))
        elif event.action == Action.NOTICE_CHANGE:
            noted[event.detail["subscription"]].append(event)
        else:
            is_accepted = event.action == Action.VULNERABILITY_ACCEPT
            accepted[event.detail["acceptance"]].append((event, not is_accepted, is_accepted))
    steps += [step for pk, found in accepted.items() if (step := _of_acceptance(pk, found))]
    known = Subscription.objects.in_bulk(noted)
    for pk, changes in noted.items():
        made = list(_of_notification(known[pk], changes) if pk in known else _gone(changes[0]))
        steps += [_permitted(actor, step, changes[0]) for step in made]
    return steps


def _by_hand(event: Event) -> Step:
    words = {
        Action.NOTICE_CHANGE: _("the audit log does not hold URLs and secrets: look at the notification"),
        Action.VULNERABILITY_ACCEPT: _("a vulnerability was accepted in %(path)s: look at what is accepted"),
        Action.VULNERABILITY_WITHDRAW: _("an acceptance was withdrawn in %(path)s: look at what is accepted"),
    }[Action(event.action)]
    return Step(Kind.BY_HAND, event.path, event.path, (event.pk,), problem=words % {"path": event.path})


def _gone(event: Event) -> Iterator[Step]:
    yield Step(Kind.NOTIFICATION, event.path, event.path, (event.pk,), problem=_("it is gone for good"))


def _of_acceptance(pk: int, found: Changes) -> Step | None:
    """None if the acceptance holds, or does not, as before the events."""
    event = found[0][0]
    acceptance = Acceptance.objects.filter(pk=pk).first()
    now = acceptance is not None and acceptance.withdrawn_at is None
    way = way_back(now, found)
    if way is None:
        return None
    value, undone = way
    words = _("accept %(what)s in %(path)s again") if value else _("withdraw the acceptance of %(what)s in %(path)s")
    said = {"what": event.detail.get("vulnerability", ""), "path": event.path}
    problem = _problem(undone) if acceptance else _("it is gone for good")
    return Step(Kind.ACCEPTANCE, event.path, words % said, undone, pk, before=now, after=value, problem=problem)


def _of_notification(subscription: Subscription, events: Sequence[Event]) -> Iterator[Step]:
    """Delete it or bring it back, and set its values back."""
    path, now = events[0].path, subscription.deleted_at is None
    existence = [
        (event, not is_made, is_made)
        for event in events
        if (is_made := not event.detail["before"]) or event.detail["after"].get("channel", "") is None
    ]
    will_exist = now
    if existence and (way := way_back(now, existence)):
        will_exist, undone = way
        words = _("bring a notification of %(path)s back") if will_exist else _("delete a notification of %(path)s")
        yield Step(
            *(Kind.NOTIFICATION, path, words % {"path": path}, undone, subscription.pk),
            before=now,
            after=will_exist,
            problem=_problem(undone),
        )
    if not will_exist:
        return
    present = subscriptions.present(subscription)
    changes: dict[str, Changes] = defaultdict(list)
    for event in events:
        before, after = event.detail["before"], event.detail["after"]
        if before and after.get("channel", "") is not None:
            for name in after.keys() & present.keys():
                changes[name].append((event, before.get(name), after[name]))
    for name, found in sorted(changes.items()):
        if way := way_back(present[name], found):
            value, undone = way
            said = _("set %(name)s of %(path)s back to %(value)s") % {"name": name, "path": path, "value": value}
            yield Step(
                *(Kind.SET_NOTIFICATION, path, said, undone, subscription.pk),
                name=name,
                before=present[name],
                after=value,
                problem=_problem(undone),
            )


def _problem(undone: tuple[int, ...]) -> str:
    """Why a value cannot be set back by these events, as ``way_back`` returns them; "" if it can."""
    return "" if undone else _("another user has changed it since")


def _permitted(actor: Actor, step: Step, event: Event) -> Step:
    """The step. One for a notification of a whole project has a problem unless the actor may ADMINISTER it."""
    if event.repository_id or step.problem or access.may(actor, access.Action.ADMINISTER, event.project):
        return step
    return replace(step, problem=_("only an admin of the project may change its notifications"))
