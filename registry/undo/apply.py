"""Undoing what a key or a user did: everything since a moment, or single events.

``acts`` chooses the events, ``preview`` says what undoing them changes, ``undo`` does it.

Each tag and setting is walked back through its changes while they are among these events, or have undone one of them.
The last value that another change set is restored. What others changed later is skipped and reported.

The order is: restore what was deleted, move tags back, delete the tags and digests that were added, set settings and
roles back. Each step checks again under the lock of what it changes, and each thing changes in a transaction of its
own. The events that this records name the undone ones (``detail["undoes"]``).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from django.core.exceptions import ObjectDoesNotExist
from django.db import transaction
from django.utils.translation import gettext as _

from accounts.errors import Refusal
from accounts.models import Project, ProjectRole, RepositoryRole, User
from registry import access, errors, images, manifests, members, projects, repositories, trash
from registry.cleanup import policies
from registry.database.transactions import retried
from registry.models import Event, Image, Repository
from registry.undo import plan
from registry.undo.plan import Chosen, Kind, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from accounts.actors import Actor
    from registry.models.audit import EventQuerySet


@dataclass(frozen=True, slots=True)
class Undone:
    """The steps that were done, and those that were skipped, each with its problem."""

    done: list[Step] = field(default_factory=list)
    skipped: list[Step] = field(default_factory=list)

    def add(self, steps: Iterable[Step]) -> None:
        """Add each step to the list that it belongs to."""
        for step in steps:
            (self.skipped if step.problem else self.done).append(step)


def acts(project: Project, since: datetime, *, key_id: int | None = None, user_id: int | None = None) -> EventQuerySet:
    """The events of a project since then, by one access key or by one user (with any key, and in the console)."""
    if (key_id is None) == (user_id is None):
        raise TypeError("say whose acts: those of one key, or those of one user")
    whose = {"key": key_id} if key_id is not None else {"user": user_id}
    return Event.objects.filter(project=project, **whose).between(since, None)


def preview(actor: Actor, events: EventQuerySet) -> list[Step]:
    """What undoing these events would change now, in the order of ``undo``. Changes nothing."""
    chosen = plan.choose(events)
    tags = {image_id: plan.of_tags(chosen, image_id) for image_id in chosen.image_ids()}
    return [
        *plan.of_deletions(chosen),
        *(step for steps in tags.values() for step in steps),
        *(step for image_id, steps in tags.items() for step in plan.of_digests(chosen, image_id, steps)),
        *_permitted(actor, plan.of_settings(chosen)),
        *plan.by_hand(chosen),
    ]


def undo(actor: Actor, events: EventQuerySet) -> Undone:
    """Undo these events as far as possible. Doing it twice changes nothing more.

    The caller has checked that the actor may MANAGE the project. Roles in a project need more, which is checked here.
    """
    chosen, result = plan.choose(events), Undone()
    for step in plan.of_deletions(chosen):
        result.add(_tried([step], _restore, actor, step))
    for image_id in chosen.image_ids():
        for step in plan.of_tags(chosen, image_id):
            if step.kind != Kind.REMOVE:
                result.add(_tried([step], _point, actor, step))
    for image_id in chosen.image_ids():
        result.add(_remove(actor, chosen, image_id))
    for steps in _of_one_thing(_permitted(actor, plan.of_settings(chosen))):
        result.add(_tried(steps, _set, actor, steps))
    result.add(plan.by_hand(chosen))
    return result


def _tried(steps: list[Step], work: Callable[..., object], *arguments: object) -> list[Step]:
    """Do the common work of the steps, unless one of them has a problem. Returns them with the problem that it met."""
    if any(step.problem for step in steps):
        return steps
    try:
        work(*arguments)
    except Refusal as error:
        return [replace(step, problem=error.message) for step in steps]
    except ObjectDoesNotExist:
        return [replace(step, problem=_("it is gone for good")) for step in steps]
    return steps


def _events(steps: Iterable[Step]) -> set[int]:
    return {event for step in steps for event in step.events}


def _restore(actor: Actor, step: Step) -> None:
    trash.restore(actor, [step.deletion], undoes=step.events)


def _point(actor: Actor, step: Step) -> None:
    image = plan.image_of(step.thing)
    name = plan.name_of(image)
    before, after = str(step.before), str(step.after)
    manifests.point_tag(actor, image.repository, name, step.tag, after, seen=before, undoes=step.events)


@retried
def _remove(actor: Actor, chosen: Chosen, image_id: int) -> list[Step]:
    """Delete the tags and digests that the events added to an image, as one act. Returns the steps for them."""
    with transaction.atomic():
        try:
            image = plan.image_of(image_id)
            manifests.lock_live_image(image.repository, plan.name_of(image))
        except (errors.NameUnknown, Image.DoesNotExist):
            return []  # the image is deleted with everything in it
        tags = plan.of_tags(chosen, image_id)
        steps = [step for step in tags if step.kind == Kind.REMOVE] + plan.of_digests(chosen, image_id, tags)
        going = [step for step in steps if not step.problem]
        skipped = [step for step in steps if step.problem]
        return skipped + _tried(going, _delete, actor, image, going) if going else skipped


def _delete(actor: Actor, image: Image, steps: list[Step]) -> None:
    references = [step.tag or step.digest for step in steps]
    with transaction.atomic():
        trash.delete_references(actor, image.repository, plan.name_of(image), references, undoes=_events(steps))


def _permitted(actor: Actor, steps: list[Step]) -> list[Step]:
    """The steps. Those that change roles or settings of a project have a problem unless the actor may ADMINISTER it."""
    problems = {
        Kind.MEMBER: _("only an admin of the project may change the roles in it"),
        Kind.SET_PROJECT: _("only an admin of the project may change its settings"),
    }
    named = Project.objects.in_bulk({step.thing for step in steps if step.kind in problems})
    closed = {pk for pk, project in named.items() if not access.may(actor, access.Action.ADMINISTER, project)}
    return [
        replace(step, problem=problems[step.kind]) if step.kind in problems and step.thing in closed else step
        for step in steps
    ]


def _of_one_thing(steps: list[Step]) -> Iterator[list[Step]]:
    """Group the settings of one thing, which change in one event. Roles and steps with a problem stay alone."""
    together: dict[tuple[Kind, int], list[Step]] = defaultdict(list)
    for step in steps:
        if step.problem or step.kind in {Kind.ROLE, Kind.MEMBER}:
            yield [step]
        else:
            together[step.kind, step.thing].append(step)
    yield from together.values()


def _set(actor: Actor, steps: list[Step]) -> None:
    """Set the settings of one thing, or one role, back. Raises Denied if the present value is not that of the plan."""
    first, undoes = steps[0], _events(steps)
    if first.kind in {Kind.ROLE, Kind.MEMBER}:
        _set_role(actor, first)
        return
    with transaction.atomic():
        thing = _locked(first)
        for step in steps:
            if plan.present(step.kind, step.thing, step.name) != step.before:
                raise errors.Denied(
                    _("another user has just changed %(what)s of %(where)s") % {"what": step.name, "where": step.path}
                )
        if isinstance(thing, Image):
            wanted = {step.name: plan.from_json(step.name, step.after) for step in steps}
            images.update(actor, thing, undoes=undoes, **wanted)
        elif isinstance(thing, Project):
            projects.update(actor, thing, undoes=undoes, **{step.name: step.after for step in steps})
        elif first.kind == Kind.SET_POLICY:
            policies.set_policy(actor, thing, undoes=undoes, **{step.name: step.after for step in steps})
        else:
            repositories.update(actor, thing, undoes=undoes, **{step.name: step.after for step in steps})


def _set_role(actor: Actor, step: Step) -> None:
    user, seen, undoes = User.objects.get(email=step.name), str(step.before or ""), step.events
    if step.kind == Kind.MEMBER:
        role = ProjectRole(step.after) if step.after else None
        members.set_role(actor, Project.objects.get(pk=step.thing), user, role, seen=seen, undoes=undoes)
    else:
        granted = RepositoryRole(step.after) if step.after else None
        repository = Repository.objects.get(pk=step.thing)
        repositories.set_role(actor, repository, user, granted, seen=seen, undoes=undoes)


def _locked(step: Step) -> Image | Repository | Project:
    if step.kind == Kind.SET_PROJECT:
        return Project.objects.select_for_update(no_key=True).get(pk=step.thing)
    if step.kind == Kind.SET_IMAGE:
        return Image.objects.select_for_update(no_key=True).get(pk=step.thing)
    return Repository.objects.select_for_update(no_key=True).get(pk=step.thing)
