"""Undoing what a key or a person did: everything since a moment, or single events.

``acts`` chooses the events, ``preview`` says what undoing them takes, ``undo`` does it. The state of each thing is
followed back as long as the changes that made it are among the acts, or undid them; where they end, the will of others
begins, and that is what it goes back to. What somebody else changed afterwards is left alone, and said.

What was deleted is recovered first, then tags go back, then what the acts brought goes into Recovery, then settings and
roles. Each step looks again under the lock of what it changes; each object changes in a transaction of its own. The
events of all this name the undone ones (``detail["undoes"]``).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from django.db import transaction

from accounts.grants import RepositoryRole
from accounts.models import Project, ProjectRole, User
from registry import errors, history, images, manifests, members, policies, repositories, reversal
from registry.models import Event, Image, Repository
from registry.reversal import Kind, Plan, Step
from registry.transactions import retried

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from accounts.actors import Actor
    from registry.models.history import EventQuerySet

    Restore = Callable[[Actor, Sequence[int]], object]


@dataclass(frozen=True, slots=True)
class Undone:
    """What was done, and what could not be, each with its problem."""

    done: list[Step] = field(default_factory=list)
    left: list[Step] = field(default_factory=list)

    def add(self, step: Step) -> None:
        """Put it where it belongs."""
        (self.left if step.problem else self.done).append(step)


def acts(project: Project, since: datetime, *, key_id: int | None = None, user_id: int | None = None) -> EventQuerySet:
    """The events of a project since then, by one access key or by one user (whichever way they came)."""
    if (key_id is None) == (user_id is None):
        raise TypeError("say whose acts: those of one key, or those of one user")
    whose = {"key": key_id} if key_id is not None else {"user": user_id}
    return Event.objects.filter(project=project, **whose).between(since, None)


def preview(events: EventQuerySet) -> list[Step]:
    """What undoing these events takes, in its order, told from the present state. Changes nothing."""
    plan = Plan(events)
    steps = [*plan.deletions(), *plan.tags(), *plan.digests(), *plan.settings(), *plan.others()]
    return [step for step in steps if step.kind != Kind.RECOVERED]


def undo(actor: Actor, events: EventQuerySet, restore: Restore) -> Undone:
    """Undo these events as far as it can be done; ``restore(actor, [deletion id])`` recovers one deletion.

    Doing it twice changes nothing more.
    """
    plan, result = Plan(events), Undone()
    for step in plan.deletions():
        result.add(_tried(step, restore, actor, [step.deletion]))
    plan.look_again()
    for step in plan.tags():
        if step.kind != Kind.REMOVE:
            result.add(_tried(step, _point, actor, step))
    for image_id in plan.image_ids():
        for step in _remove(actor, plan, image_id):
            result.add(step)
    for step in plan.settings():
        result.add(_tried(step, _set, actor, step))
    for step in plan.others():
        result.add(step)
    return result


def _tried(step: Step, work: Callable[..., object], *arguments: object) -> Step:
    """The step after its work, or with the problem that the work met."""
    if step.problem:
        return step
    try:
        with history.undoing(step.events):
            work(*arguments)
    except errors.RegistryError as error:
        return replace(step, problem=error.message)
    return step


def _point(actor: Actor, step: Step) -> None:
    image = reversal.image_of(step.thing)
    repository = image.repository
    name = reversal.name_of(image)
    manifests.point_tag(actor, repository, name, step.tag, str(step.after), seen=str(step.before))


@retried
def _remove(actor: Actor, plan: Plan, image_id: int) -> list[Step]:
    """Delete the tags and digests that the acts brought into an image, as one act; or say why not."""
    image = reversal.image_of(image_id)
    with transaction.atomic():
        Image.objects.select_for_update(no_key=True).get(pk=image_id)
        plan.look_again()
        steps = [step for step in plan.tags(image_id) if step.kind == Kind.REMOVE] + plan.digests(image_id)
        going = [step for step in steps if not step.problem]
        if not going:
            return steps
        try:
            with transaction.atomic(), history.undoing({event for step in going for event in step.events}):
                manifests.delete_many(
                    actor, image.repository, reversal.name_of(image), [step.tag or step.digest for step in going]
                )
        except errors.RegistryError as error:
            return [step if step.problem else replace(step, problem=error.message) for step in steps]
    return steps


def _set(actor: Actor, step: Step) -> None:
    """Give a setting or role back its value, unless it has another one by now than was seen."""
    with transaction.atomic():
        thing = _locked(step)
        if reversal.present(step.kind, step.thing, step.name) != step.before:
            raise errors.Denied(f"somebody else has just changed {step.name} of {step.path}")
        if isinstance(thing, Image):
            images.update(actor, thing, **{step.name: reversal.from_json(step.name, step.after)})
        elif isinstance(thing, Project):
            role = ProjectRole(step.after) if step.after else None
            members.set_role(actor, thing, User.objects.get(email=step.name), role)
        elif step.kind == Kind.ROLE:
            granted = RepositoryRole(step.after) if step.after else None
            repositories.set_role(actor, thing, User.objects.get(email=step.name), granted)
        elif step.kind == Kind.SET_POLICY:
            policies.set_policy(actor, thing, **{step.name: step.after})
        else:
            repositories.update(actor, thing, **{step.name: step.after})


def _locked(step: Step) -> Image | Project | Repository:
    if step.kind == Kind.SET_IMAGE:
        return Image.objects.select_for_update(no_key=True).get(pk=step.thing)
    if step.kind == Kind.MEMBER:
        return Project.objects.select_for_update(no_key=True).get(pk=step.thing)
    return Repository.objects.select_for_update(no_key=True).get(pk=step.thing)
