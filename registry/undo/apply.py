"""Undoing what a key or a person did: everything since a moment, or single events.

``acts`` chooses the events, ``preview`` says what undoing them takes, ``undo`` does it. The state of each thing is
followed back as long as the changes that made it are among the acts, or undid them; where they end, the will of others
begins, and that is what it goes back to. What somebody else changed afterwards is left alone, and said.

What was deleted is recovered first, then tags go back, then what the acts brought goes into Recovery, then settings and
roles. Each step looks again under the lock of what it changes; each object changes in a transaction of its own. The
events of all this name the undone ones (``detail["undoes"]``).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from django.core.exceptions import ObjectDoesNotExist
from django.db import transaction
from django.utils.translation import gettext as _

from accounts.grants import RepositoryRole
from accounts.models import Project, ProjectRole, User
from registry import access, audit, errors, images, manifests, members, repositories
from registry.cleanup import policies
from registry.database.transactions import retried
from registry.models import Event, Image, Repository
from registry.undo.plan import Kind, Plan, Step, from_json, image_of, name_of, present

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from accounts.actors import Actor
    from registry.models.audit import EventQuerySet
    from registry.oci.names import ImageName

    Restore = Callable[[Actor, Sequence[int]], object]


@dataclass(frozen=True, slots=True)
class Undone:
    """What was done, and what could not be, each with its problem."""

    done: list[Step] = field(default_factory=list)
    left: list[Step] = field(default_factory=list)

    def add(self, steps: Iterable[Step]) -> None:
        """Put each where it belongs."""
        for step in steps:
            (self.left if step.problem else self.done).append(step)


def acts(project: Project, since: datetime, *, key_id: int | None = None, user_id: int | None = None) -> EventQuerySet:
    """The events of a project since then, by one access key or by one user (whichever way they came)."""
    if (key_id is None) == (user_id is None):
        raise TypeError("say whose acts: those of one key, or those of one user")
    whose = {"key": key_id} if key_id is not None else {"user": user_id}
    return Event.objects.filter(project=project, **whose).between(since, None)


def preview(actor: Actor, events: EventQuerySet) -> list[Step]:
    """What the actor's undoing these events takes, in its order, told from the present state. Changes nothing."""
    plan = Plan(events)
    settings = _permitted(actor, plan.settings())
    steps = [*plan.deletions(), *plan.tags(), *plan.digests(), *settings, *plan.others()]
    return [step for step in steps if step.kind != Kind.RECOVERED]


def undo(actor: Actor, events: EventQuerySet, restore: Restore) -> Undone:
    """Undo these events as far as it can be done; ``restore(actor, [deletion id])`` recovers one deletion.

    Doing it twice changes nothing more. The actor may MANAGE the project; what takes more is asked for here.
    """
    plan, result = Plan(events), Undone()
    for step in plan.deletions():
        result.add(_tried([step], restore, actor, [step.deletion]))
    plan.look_again()
    for step in plan.tags():
        if step.kind != Kind.REMOVE:
            result.add(_tried([step], _point, actor, step))
    for image_id in plan.image_ids():
        result.add(_remove(actor, plan, image_id))
    for steps in _of_one_thing(_permitted(actor, plan.settings())):
        result.add(_tried(steps, _set, actor, steps))
    result.add(plan.others())
    return result


def _tried(steps: list[Step], work: Callable[..., object], *arguments: object) -> list[Step]:
    """The steps after their common work, or with the problem that it met; not begun when one has a problem already."""
    if any(step.problem for step in steps):
        return steps
    try:
        with audit.undoing({event for step in steps for event in step.events}):
            work(*arguments)
    except errors.RegistryError as error:
        return [replace(step, problem=error.message) for step in steps]
    except ObjectDoesNotExist:
        return [replace(step, problem=_("it is gone for good")) for step in steps]
    return steps


def _point(actor: Actor, step: Step) -> None:
    image = image_of(step.thing)
    name = name_of(image)
    manifests.point_tag(actor, image.repository, name, step.tag, str(step.after), seen=str(step.before))


@retried
def _remove(actor: Actor, plan: Plan, image_id: int) -> list[Step]:
    """Delete the tags and digests that the acts brought into an image, as one act; or say why not."""
    with transaction.atomic():
        try:
            image = image_of(image_id)
            name = name_of(image)
            manifests.lock_live_image(image.repository, name)
        except (errors.NameUnknown, Image.DoesNotExist):
            return []  # what was in it is in Recovery with it, or gone for good
        plan.look_again()
        steps = [step for step in plan.tags(image_id) if step.kind == Kind.REMOVE] + plan.digests(image_id)
        going = [step for step in steps if not step.problem]
        left = [step for step in steps if step.problem]
        if not going:
            return left
        return left + _tried(going, _delete, actor, image.repository, name, [step.tag or step.digest for step in going])


def _delete(actor: Actor, repository: Repository, name: ImageName, references: list[str]) -> None:
    with transaction.atomic():
        manifests.delete_many(actor, repository, name, references)


def _permitted(actor: Actor, steps: list[Step]) -> list[Step]:
    """The steps; those that change who belongs to a project have a problem unless the actor may ADMINISTER it."""
    projects = Project.objects.in_bulk({step.thing for step in steps if step.kind == Kind.MEMBER})
    closed = {pk for pk, project in projects.items() if not access.may(actor, access.Action.ADMINISTER, project)}
    problem = _("only an admin of the project may change the roles in it")
    return [
        replace(step, problem=problem) if step.kind == Kind.MEMBER and step.thing in closed else step for step in steps
    ]


def _of_one_thing(steps: list[Step]) -> Iterator[list[Step]]:
    """Settings of one thing change together, in one event; roles one by one, and so does what cannot be done."""
    together: dict[tuple[Kind, int], list[Step]] = defaultdict(list)
    for step in steps:
        if step.problem or step.kind in {Kind.ROLE, Kind.MEMBER}:
            yield [step]
        else:
            together[step.kind, step.thing].append(step)
    yield from together.values()


def _set(actor: Actor, steps: list[Step]) -> None:
    """Give settings or a role back what they were, unless one is something else by now than was seen."""
    first = steps[0]
    if first.kind in {Kind.ROLE, Kind.MEMBER}:
        _set_role(actor, first)
        return
    with transaction.atomic():
        thing = _locked(first)
        for step in steps:
            if present(step.kind, step.thing, step.name) != step.before:
                raise errors.Denied(
                    _("somebody else has just changed %(what)s of %(where)s") % {"what": step.name, "where": step.path}
                )
        if isinstance(thing, Image):
            images.update(actor, thing, **{step.name: from_json(step.name, step.after) for step in steps})
        elif first.kind == Kind.SET_POLICY:
            policies.set_policy(actor, thing, **{step.name: step.after for step in steps})
        else:
            repositories.update(actor, thing, **{step.name: step.after for step in steps})


def _set_role(actor: Actor, step: Step) -> None:
    user, seen = User.objects.get(email=step.name), str(step.before or "")
    if step.kind == Kind.MEMBER:
        role = ProjectRole(step.after) if step.after else None
        members.set_role(actor, Project.objects.get(pk=step.thing), user, role, seen=seen)
    else:
        granted = RepositoryRole(step.after) if step.after else None
        repositories.set_role(actor, Repository.objects.get(pk=step.thing), user, granted, seen=seen)


def _locked(step: Step) -> Image | Repository:
    if step.kind == Kind.SET_IMAGE:
        return Image.objects.select_for_update(no_key=True).get(pk=step.thing)
    return Repository.objects.select_for_update(no_key=True).get(pk=step.thing)
