"""What undoing events changes, read from the present state. Nothing here writes.

A plan is a list of steps for each kind of thing: deletions, tags, digests, settings. Each function reads again, so a
caller who holds the lock of an image asks again for the steps of that image.

A tag's past is in its rows (``registry.models.Tag``), each with the event that opened it and the one that closed it.
``_walk_back`` goes from row to row.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from django.db.models import Exists, OuterRef
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from accounts.models import Project, User
from registry import images, members, projects, repositories
from registry.cleanup import policies
from registry.database.batches import in_batches
from registry.models import CleanupPolicy, Deletion, Event, Image, Manifest, ManifestChild, Repository, Tag
from registry.oci.names import ImageName

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from django.db.models import QuerySet

    from registry.models.audit import EventQuerySet

CHUNK = 500  # ids or names in one query
Action = Event.Action
_OF_TAGS = frozenset(
    {
        *(Action.TAG_ADD, Action.TAG_MOVE, Action.TAG_DELETE, Action.TAG_RECOVER),
        *(Action.IMAGE_DELETE, Action.REPOSITORY_DELETE, Action.IMAGE_RECOVER, Action.REPOSITORY_RECOVER),
    }
)
_BY_HAND = {
    Action.REPOSITORY_CREATE: gettext_noop("%(path)s was created: delete it if it is not needed"),
    Action.REPOSITORY_RECOVER: gettext_noop("%(path)s was recovered: delete it again if it is not needed"),
    Action.IMAGE_RECOVER: gettext_noop("%(path)s was recovered: delete again what is not needed"),
    Action.DELETION_PURGE: gettext_noop("a part of %(path)s was deleted for good"),
    Action.DELETION_HOLD: gettext_noop("a hold in the Recovery of %(path)s was changed: check it"),
    Action.PROJECT_UPDATE: gettext_noop("the quotas of %(path)s were changed: check them"),
    Action.REPOSITORY_UPDATE: gettext_noop("the readme of %(path)s was changed: its former text is not kept"),
}


class Kind(StrEnum):
    """What a step does. Those of notifications and acceptances are made by ``scanning.undo``."""

    RESTORE = "restore"
    POINT = "point"
    REMOVE = "remove"
    SET_REPOSITORY = "set repository"
    SET_IMAGE = "set image"
    SET_POLICY = "set policy"
    SET_PROJECT = "set project"
    ROLE = "role"
    MEMBER = "member"
    NOTIFICATION = "notification"
    SET_NOTIFICATION = "set notification"
    ACCEPTANCE = "acceptance"
    BY_HAND = "by hand"


_SETTINGS = {
    Action.REPOSITORY_UPDATE: Kind.SET_REPOSITORY,
    Action.IMAGE_UPDATE: Kind.SET_IMAGE,
    Action.EXPIRY_CHANGE: Kind.SET_IMAGE,
    Action.CLEANUP_POLICY: Kind.SET_POLICY,
    Action.PROJECT_UPDATE: Kind.SET_PROJECT,
    Action.ROLE_CHANGE: Kind.ROLE,
    Action.MEMBER_CHANGE: Kind.MEMBER,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One change: from the present value (``before``) to the one that it is to have (``after``).

    ``words`` say it for people. ``thing`` is the id of the image, repository or project. ``name`` is that of the
    setting, or the e-mail address of the user whose role it is. ``problem`` says why the step cannot be done; "" if it
    can be. ``events`` are the ids of the events that it undoes.
    """

    kind: Kind
    path: str
    words: str
    events: tuple[int, ...]
    thing: int = 0
    tag: str = ""
    digest: str = ""
    name: str = ""
    deletion: int = 0
    before: Any = ""
    after: Any = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The events to undo (newest first, and their ids), and what they changed.

    ``deletions``: what they deleted and is still in Recovery, by id, newest first. ``pushed``: for each image, the
    digests that they pushed, each with the ids of its events. ``tags``: for each image, the names of the tags that they
    changed.
    """

    events: list[Event]
    ids: frozenset[int]
    deletions: Mapping[int, Deletion]
    pushed: Mapping[int, Mapping[str, list[int]]]
    tags: Mapping[int, set[str]]

    def includes(self, event: Event | None) -> bool:
        """Whether the event is one of those to undo, or has undone one of them."""
        return event is not None and (event.pk in self.ids or not self.ids.isdisjoint(event.detail.get("undoes", ())))

    def restores(self, deletion_id: int | None) -> bool:
        """Whether undoing restores this deletion."""
        return deletion_id in self.deletions

    def image_ids(self) -> list[int]:
        """The images whose tags or digests the events changed."""
        return sorted(self.pushed.keys() | self.tags.keys())


def choose(events: EventQuerySet) -> Chosen:
    """Read the events that are to be undone, and what they changed."""
    found = list(events.defer("client", "address").order_by("-pk"))
    ids = frozenset(event.pk for event in found)
    pushed: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for event in found:
        if event.image_id is not None and event.action == Action.IMAGE_PUSH:
            pushed[event.image_id][event.digest].append(event.pk)
    names: dict[int, set[str]] = defaultdict(set)
    for some in in_batches([event.pk for event in found if event.action in _OF_TAGS], CHUNK):
        for column in ("opened_by__in", "closed_by__in"):
            for image_id, name in Tag.objects.filter(**{column: some}).values_list("image", "name"):
                names[image_id].add(name)
    made = [deletion for some in in_batches(sorted(ids), CHUNK) for deletion in Deletion.objects.filter(event__in=some)]
    deletions = {deletion.pk: deletion for deletion in sorted(made, key=lambda each: each.pk, reverse=True)}
    return Chosen(found, ids, deletions, pushed, names)


# ── Deletions ────────────────────────────────────────────────────────────────────────────────────────────────────────
def of_deletions(chosen: Chosen) -> list[Step]:
    """Restore what the events deleted."""
    return [
        Step(
            Kind.RESTORE,
            deletion.path,
            _("recover %(deletion)s") % {"deletion": deletion},
            (deletion.event_id,) if deletion.event_id else (),
            deletion=deletion.pk,
        )
        for deletion in chosen.deletions.values()
    ]


# ── Tags ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(slots=True)
class _Way:
    """The way back of one tag through its rows.

    ``undone``: the ids of the events on it, newest first. ``target``: the row that it leads to, None if it leads to
    before the tag was there. ``last``: the latest change of the tag.
    """

    last: Event | None
    target: Tag | None
    undone: list[int] = field(default_factory=list)


def _walk_back(chosen: Chosen, rows: Sequence[Tag]) -> _Way:
    """Go back as long as the changes are among the chosen events. ``rows``: all rows of the tag, newest first."""
    newest = rows[0]
    change = newest.opened_by if newest.ended_at is None else newest.closed_by
    way = _Way(last=change, target=newest if newest.ended_at is None else None)
    at = 0
    while change is not None and chosen.includes(change):
        way.undone.append(change.pk)
        if way.target is None:  # the change deleted the tag: before that it named what this row says
            way.target, change = rows[at], rows[at].opened_by
            continue
        at += 1
        if at == len(rows):  # the change added the tag
            way.target = None
            break
        was_moved = rows[at].closed_by_id == change.pk
        way.target = rows[at] if was_moved else None
        change = rows[at].opened_by if was_moved else rows[at].closed_by
    return way


def of_tags(chosen: Chosen, image_id: int) -> list[Step]:
    """Let the tags of an image name again what they named before the events."""
    image = _images().filter(pk=image_id).first()
    if image is None:
        return []
    steps = []
    for names in in_batches(sorted(chosen.tags.get(image_id, ())), CHUNK):
        rows: dict[str, list[Tag]] = defaultdict(list)
        for tag in Tag.objects.history(image).select_related("manifest__deletion").filter(name__in=names):
            rows[tag.name].append(tag)
        steps += [_of_tag(chosen, image, found) for found in rows.values()]
    return [step for step in steps if step is not None]


def _of_tag(chosen: Chosen, image: Image, rows: Sequence[Tag]) -> Step | None:
    """None if the tag names the right digest, or is restored with a deletion. ``rows``: as for ``_walk_back``."""
    way, name = _walk_back(chosen, rows), rows[0].name
    now = rows[0].manifest.digest if rows[0].ended_at is None else ""
    if not way.undone:
        who = way.last.actor if way.last else _("another user, before the audit log begins,")
        return Step(
            Kind.BY_HAND,
            image.path,
            _("%(image)s:%(tag)s is left as it is") % {"image": image.path, "tag": name},
            (),
            thing=image.pk,
            tag=name,
            problem=_("%(who)s has changed it since") % {"who": who},
        )
    target = way.target.manifest.digest if way.target else ""
    if target == now:
        return None
    if way.target and not now and chosen.restores(way.target.deletion_id):
        return None
    words = _("point %(image)s:%(tag)s to %(digest)s again") if way.target else _("remove %(image)s:%(tag)s")
    return Step(
        Kind.POINT if way.target else Kind.REMOVE,
        image.path,
        words % {"image": image.path, "tag": name, "digest": target},
        tuple(way.undone),
        thing=image.pk,
        tag=name,
        before=now,
        after=target,
        problem=_problem_of_tag(chosen, image, way.target),
    )


def _problem_of_tag(chosen: Chosen, image: Image, target: Tag | None) -> str:
    if image.deletion_id is not None and not chosen.restores(image.deletion_id):
        return _("the image is deleted")
    gone = target.manifest.deletion if target else None
    if gone is not None and not chosen.restores(gone.pk):
        words = _("what it pointed to is in Recovery until %(end)s UTC: %(deletion)s")
        return words % {"end": f"{gone.purge_after:%Y-%m-%d %H:%M}", "deletion": gone}
    return ""


# ── Digests ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def of_digests(chosen: Chosen, image_id: int, tags: Iterable[Step]) -> list[Step]:
    """Delete the digests that the events pushed to an image, if no tag, index or push of others names them.

    ``tags``: the steps for the image's tags, after which fewer tags may name a digest.
    """
    return list(_of_digests(chosen, image_id, {step.tag for step in tags if not step.problem}))


def _of_digests(chosen: Chosen, image_id: int, leaving: set[str]) -> Iterator[Step]:
    pushed = chosen.pushed.get(image_id, {})
    children = ManifestChild.objects.filter(child=OuterRef("pk"), parent__deletion=None)
    for digests in in_batches(sorted(pushed), CHUNK):
        roots = Manifest.objects.live().filter(~Exists(children), image=image_id, digest__in=digests)
        others = _pushed_by_others(chosen, image_id, digests)
        for manifest in roots.only("digest", "image__path").select_related("image").order_by("pk"):
            names = set(Tag.objects.live().filter(manifest=manifest).values_list("name", flat=True)) - leaving
            problem = _("%(tags)s points to it") % {"tags": ", ".join(sorted(names)[:5])} if names else ""
            if who := others.get(manifest.digest):
                problem = _("%(who)s has pushed it as well") % {"who": who}
            yield Step(
                Kind.REMOVE,
                manifest.image.path,
                _("delete %(image)s@%(digest)s") % {"image": manifest.image.path, "digest": manifest.digest},
                tuple(pushed[manifest.digest]),
                thing=image_id,
                digest=manifest.digest,
                problem=problem,
            )


def _pushed_by_others(chosen: Chosen, image_id: int, digests: Sequence[str]) -> dict[str, str]:
    """Who has pushed these digests since the first of the chosen events did."""
    since = min(min(chosen.pushed[image_id][digest]) for digest in digests)
    rows = Event.objects.filter(image=image_id, action=Action.IMAGE_PUSH, digest__in=digests, pk__gte=since)
    return {event.digest: event.actor for event in rows if not chosen.includes(event)}


# ── Settings and roles ───────────────────────────────────────────────────────────────────────────────────────────────
def of_settings(chosen: Chosen) -> list[Step]:
    """Give settings, cleanup policies and roles the values that they had before the events."""
    changes: dict[tuple[Kind, int, str], list[tuple[Event, Any, Any]]] = defaultdict(list)
    for event in chosen.events:
        if event.action in _SETTINGS:
            kind = _SETTINGS[Action(event.action)]
            of_project = {Kind.MEMBER: event.project_id, Kind.SET_PROJECT: event.project_id}
            thing = {Kind.SET_IMAGE: event.image_id, **of_project}.get(kind, event.repository_id)
            for name, before, after in _changes(kind, event):
                if thing is not None:
                    changes[kind, thing, name].append((event, before, after))
    steps = (_of_setting(*where, found) for where, found in changes.items())
    return [step for step in steps if step is not None]


def _of_setting(kind: Kind, thing: int, name: str, found: list[tuple[Event, Any, Any]]) -> Step | None:
    """None if the setting has the right value. ``found``: its changes, newest first, with the values around each."""
    now, newest = present(kind, thing, name), found[0][0]
    way = way_back(now, found)
    if way is None:
        return None
    value, undone = way
    if kind in {Kind.ROLE, Kind.MEMBER}:
        words = _("set the role of %(name)s in %(path)s back to %(value)s")
        since = _("another user has changed the role since")
    else:
        words = _("set %(name)s of %(path)s back to %(value)s")
        since = _("another user has changed %(name)s since")
    said = {"name": name, "path": newest.path, "value": value or _("none")}
    return Step(
        kind,
        newest.path,
        words % said,
        undone,
        thing=thing,
        name=name,
        before=now,
        after=value,
        problem="" if undone else since % said,
    )


def way_back(now: Any, found: Sequence[tuple[Event, Any, Any]]) -> tuple[Any, tuple[int, ...]] | None:
    """The value before these changes, and the ids of the events that lead there; None if it is the present value.

    ``found``: the changes of one value, newest first, with the values around each. No ids: another change came later.
    """
    value, undone = now, []
    for event, before, after in found:
        if value != after:
            break
        value = before
        undone.append(event.pk)
    theirs = [after for _event, _before, after in found]
    was_put_back = any(now == before for _event, before, _after in found if before not in theirs)
    return None if now == value and (undone or was_put_back) else (value, tuple(undone))


def by_hand(chosen: Chosen) -> list[Step]:
    """What the events did and no other step undoes: people have to look at it."""
    return [
        Step(
            Kind.BY_HAND,
            event.path,
            event.path,
            (event.pk,),
            problem=_(_BY_HAND[Action(event.action)]) % {"path": event.path},
        )
        for event in chosen.events
        if event.action in _BY_HAND and _is_by_hand(event)
    ]


def _is_by_hand(event: Event) -> bool:
    """Whether an event of _BY_HAND changed something that no step undoes."""
    if event.action == Action.REPOSITORY_UPDATE:
        return "readme" in event.detail
    return event.action != Action.PROJECT_UPDATE or _sets_quotas(event)


def _sets_quotas(event: Event) -> bool:
    """Whether the event changed quotas of a project, which operators alone may do."""
    after = event.detail.get("after")
    return isinstance(after, dict) and not after.keys() <= set(projects.SETTINGS)


def image_of(image_id: int) -> Image:
    """The image with its repository and project, and its deletion if there is one. Raises Image.DoesNotExist."""
    return _images().get(pk=image_id)


def _images() -> QuerySet[Image]:
    return Image.objects.select_related("repository__project", "deletion")


def name_of(image: Image) -> ImageName:
    """The name by which clients pull the image."""
    return ImageName(image.repository.project.name, image.repository.name, image.name)


def _changes(kind: Kind, event: Event) -> Iterator[tuple[str, Any, Any]]:
    """Name, value before and value after of each setting that the event changed."""
    before, after = event.detail.get("before"), event.detail.get("after")
    if kind in {Kind.ROLE, Kind.MEMBER}:
        yield event.detail["user"], before, after
    elif isinstance(before, dict) and isinstance(after, dict):
        defaults = policies.rules_of(CleanupPolicy(is_active=False)) if kind == Kind.SET_POLICY else {}
        for name, value in after.items():
            former = before.get(name, defaults.get(name))
            is_quota = kind == Kind.SET_PROJECT and name not in projects.SETTINGS
            if former != value and not is_quota:
                yield name, former, value


def present(kind: Kind, thing: int, name: str) -> Any:
    """The value that a setting, rule or role has now, as events write it."""
    if kind == Kind.SET_IMAGE:
        return images.in_json(getattr(image_of(thing), name))
    if kind == Kind.SET_POLICY:
        policy = CleanupPolicy.objects.filter(repository=thing).first()
        return getattr(policy or CleanupPolicy(is_active=False), name)
    if kind == Kind.SET_PROJECT:
        return getattr(Project.objects.get(pk=thing), name)
    if kind == Kind.SET_REPOSITORY:
        return getattr(Repository.objects.get(pk=thing), name)
    user = User.objects.filter(email=name).first()
    if user is None:
        return ""
    if kind == Kind.MEMBER:
        return members.role_of(Project.objects.get(pk=thing), user) or ""
    return repositories.role_of(Repository.objects.get(pk=thing), user) or ""


def from_json(name: str, value: Any) -> Any:
    """A setting of an image from its value in an event (``images.in_json``)."""
    return datetime.fromisoformat(value) if name == "expires_at" and value else value
