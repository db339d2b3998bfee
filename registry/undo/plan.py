"""What it takes to undo events, told from the present state: the plan that ``registry.undo`` shows and carries out.

A tag's past is in its intervals, each with the event that began it and the one that ended it: the plan walks back.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from django.db.models import Exists, OuterRef
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from accounts.models import Project, User
from registry import images, members, repositories
from registry.cleanup import policies
from registry.models import CleanupPolicy, Deletion, Event, Image, Manifest, ManifestChild, Repository, Tag
from registry.oci.names import ImageName

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django.db.models import QuerySet

    from registry.models.audit import EventQuerySet

CHUNK = 500
Action = Event.Action
_OF_TAGS = frozenset({Action.TAG_ADD, Action.TAG_MOVE, Action.TAG_DELETE, Action.TAG_RECOVER})
_OF_GROUPS = frozenset({Action.IMAGE_DELETE, Action.REPOSITORY_DELETE, Action.IMAGE_RECOVER, Action.REPOSITORY_RECOVER})
_BY_HAND = {
    Action.REPOSITORY_CREATE: gettext_noop("%(path)s was made: delete it if it is not wanted"),
    Action.REPOSITORY_RECOVER: gettext_noop("%(path)s was recovered: delete it again if it is not wanted"),
    Action.IMAGE_RECOVER: gettext_noop("%(path)s was recovered: delete again what is not wanted"),
    Action.NOTICE_CHANGE: gettext_noop("%(path)s has other notices now: look at who gets them"),
    Action.VULNERABILITY_ACCEPT: gettext_noop("a vulnerability was accepted in %(path)s: look at what is accepted"),
    Action.VULNERABILITY_WITHDRAW: gettext_noop("an acceptance was withdrawn in %(path)s: look at what is accepted"),
    Action.DELETION_PURGE: gettext_noop("something of %(path)s was deleted for good"),
    Action.DELETION_HOLD: gettext_noop("something of %(path)s is held in Recovery, or not any more: look at it"),
    Action.PROJECT_UPDATE: gettext_noop("%(path)s has other settings or quotas now: look at them"),
}


class Kind(StrEnum):
    """What a step does. RECOVERED: recovering a deletion brings it back already."""

    RECOVER = "recover"
    RECOVERED = "recovered"
    POINT = "point"
    REMOVE = "remove"
    SET_REPOSITORY = "set repository"
    SET_IMAGE = "set image"
    SET_POLICY = "set policy"
    ROLE = "role"
    MEMBER = "member"
    BY_HAND = "by hand"


_SETTINGS = {
    Action.REPOSITORY_UPDATE: Kind.SET_REPOSITORY,
    Action.IMAGE_UPDATE: Kind.SET_IMAGE,
    Action.EXPIRY_CHANGE: Kind.SET_IMAGE,
    Action.CLEANUP_POLICY: Kind.SET_POLICY,
    Action.ROLE_CHANGE: Kind.ROLE,
    Action.MEMBER_CHANGE: Kind.MEMBER,
}


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what it changes, from what it is now (``before``) to what it is to be (``after``); in words as well.

    ``thing`` is the id of the image, repository or project. ``name`` is the setting, or the e-mail address of the one
    whose role it is. ``problem`` says why it cannot be done, "" when it can. ``events`` are the ids of the undone ones.
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


class Plan:
    """The steps that undo some events. Asked again after ``look_again``, it answers from the state of then."""

    def __init__(self, events: EventQuerySet) -> None:
        self._events = list(events.defer("client", "address").order_by("-pk"))
        self._ids = frozenset(event.pk for event in self._events)
        self._pushed: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        self._touched: dict[int, set[str]] = defaultdict(set)
        for event in self._events:
            if event.image_id is not None and event.action == Action.IMAGE_PUSH:
                self._pushed[event.image_id][event.digest].append(event.pk)
            elif event.image_id is not None and event.action in _OF_TAGS:
                self._touched[event.image_id].add(event.tag)
        self._touch_tags_of_groups()
        self._walks: dict[int, list[_Walk]] = {}

    def look_again(self) -> None:
        """Forget what was read of tags."""
        self._walks = {}

    def is_ours(self, event: Event | None) -> bool:
        """Whether the event is one of those to be undone, or one that undid some of them."""
        return event is not None and (event.pk in self._ids or not self._ids.isdisjoint(event.detail.get("undoes", ())))

    def image_ids(self) -> list[int]:
        """Images whose tags or digests the events changed."""
        return sorted(self._pushed.keys() | self._touched.keys())

    # ── Deletions ────────────────────────────────────────────────────────────────────────────────────────────────
    def deletions(self) -> list[Step]:
        """Deletions that are still in Recovery, the last one first."""
        found = [deletion for ids in _chunks(sorted(self._ids)) for deletion in Deletion.objects.filter(event__in=ids)]
        return [
            Step(
                Kind.RECOVER,
                deletion.path,
                _("recover %(deletion)s") % {"deletion": deletion},
                (deletion.event_id,),
                deletion=deletion.pk,
            )
            for deletion in sorted(found, key=lambda deletion: deletion.pk, reverse=True)
        ]

    def _touch_tags_of_groups(self) -> None:
        """Tags that a deletion or recovery of more than a tag took or brought."""
        ids = [event.pk for event in self._events if event.action in _OF_GROUPS]
        for some in _chunks(ids):
            for column in ("opened_by__in", "closed_by__in"):
                for image_id, name in Tag.objects.filter(**{column: some}).values_list("image", "name"):
                    self._touched[image_id].add(name)

    # ── Tags ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def tags(self, image_id: int | None = None) -> list[Step]:
        """What becomes of each tag, of one image or of all."""
        walks = (walk for pk in self._image_ids(image_id) for walk in self._walked(pk))
        return [step for walk in walks if (step := self._step_of(walk)) is not None]

    def _image_ids(self, image_id: int | None) -> list[int]:
        return self.image_ids() if image_id is None else [image_id]

    def _walked(self, image_id: int) -> list[_Walk]:
        image = None if image_id in self._walks else _images().filter(pk=image_id).first()
        if image is not None:
            names = _chunks(sorted(self._touched.get(image_id, ())))
            self._walks[image_id] = [walk for some in names for walk in self._walks_of(image, some)]
        return self._walks.get(image_id, [])

    def _walks_of(self, image: Image, names: Sequence[str]) -> list[_Walk]:
        meanings: dict[str, list[Tag]] = defaultdict(list)
        for tag in Tag.objects.history(image).select_related("manifest__deletion").filter(name__in=names):
            meanings[tag.name].append(tag)
        return [_Walk(self, image, name, rows) for name, rows in meanings.items()]

    def _step_of(self, walk: _Walk) -> Step | None:
        if not walk.undone:
            who = walk.last.actor if walk.last else _("somebody, longer ago than the history goes,")
            return Step(
                Kind.BY_HAND,
                walk.path,
                _("%(image)s:%(tag)s stays what it is") % {"image": walk.path, "tag": walk.name},
                (),
                thing=walk.image.pk,
                tag=walk.name,
                problem=_("%(who)s has changed it since") % {"who": who},
            )
        if walk.target == walk.present:
            return None
        kind, words = Kind.REMOVE, _("remove %(image)s:%(tag)s")
        if walk.meaning is not None:
            words = _("point %(image)s:%(tag)s to %(digest)s again")
            is_in_recovery = not walk.present and walk.meaning.deletion_id is not None
            kind = Kind.RECOVERED if is_in_recovery and self.is_ours(walk.meaning.closed_by) else Kind.POINT
        return Step(
            kind,
            walk.path,
            words % {"image": walk.path, "tag": walk.name, "digest": walk.target},
            tuple(walk.undone),
            thing=walk.image.pk,
            tag=walk.name,
            before=walk.present,
            after=walk.target,
            problem=self._problem_of(walk),
        )

    def _problem_of(self, walk: _Walk) -> str:
        if walk.image.deletion_id is not None and not self._is_recovered(walk.image.deletion):
            return _("the image is deleted")
        gone = walk.meaning.manifest.deletion if walk.meaning else None
        if gone is not None and not self._is_recovered(gone):
            words = _("what it named is in Recovery until %(end)s UTC: %(deletion)s")
            return words % {"end": f"{gone.purge_after:%Y-%m-%d %H:%M}", "deletion": gone}
        return ""

    def _is_recovered(self, deletion: Deletion | None) -> bool:
        """Whether undoing recovers it anyway."""
        return deletion is not None and deletion.event_id in self._ids

    # ── Digests ──────────────────────────────────────────────────────────────────────────────────────────────────
    def digests(self, image_id: int | None = None) -> list[Step]:
        """Digests that came with the events and that nothing else names: they go with the tags."""
        return [step for pk in self._image_ids(image_id) for step in self._digests_of(pk)]

    def _digests_of(self, image_id: int) -> Iterator[Step]:
        pushed = self._pushed.get(image_id, {})
        leaving = {
            step.tag for step in self.tags(image_id) if step.kind in {Kind.REMOVE, Kind.POINT} and not step.problem
        }
        children = ManifestChild.objects.filter(child=OuterRef("pk"), parent__deletion=None)
        for digests in _chunks(sorted(pushed)):
            roots = Manifest.objects.live().filter(~Exists(children), image=image_id, digest__in=digests)
            others = self._pushed_by_others(image_id, digests, min(min(pushed[digest]) for digest in digests))
            for manifest in roots.only("digest", "image__path").select_related("image").order_by("pk"):
                names = set(Tag.objects.live().filter(manifest=manifest).values_list("name", flat=True)) - leaving
                problem = _("%(tags)s names it") % {"tags": ", ".join(sorted(names)[:5])} if names else ""
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

    def _pushed_by_others(self, image_id: int, digests: Sequence[str], since: int) -> dict[str, str]:
        rows = Event.objects.filter(image=image_id, action=Action.IMAGE_PUSH, digest__in=digests, pk__gte=since)
        return {event.digest: event.actor for event in rows if not self.is_ours(event)}

    # ── Settings and roles ───────────────────────────────────────────────────────────────────────────────────────
    def settings(self) -> list[Step]:
        """Settings, policies and roles that have to go back to what they were."""
        changes: dict[tuple[Kind, int, str], list[tuple[Event, Any, Any]]] = defaultdict(list)
        for event in self._events:
            if event.action in _SETTINGS:
                kind = _SETTINGS[Action(event.action)]
                thing = {Kind.SET_IMAGE: event.image_id, Kind.MEMBER: event.project_id}.get(kind, event.repository_id)
                for name, before, after in _changes(kind, event):
                    if thing is not None:
                        changes[kind, thing, name].append((event, before, after))
        steps = (self._step_of_setting(*where, found) for where, found in changes.items())
        return [step for step in steps if step is not None]

    def _step_of_setting(self, kind: Kind, thing: int, name: str, found: list[tuple[Event, Any, Any]]) -> Step | None:
        now = value = present(kind, thing, name)
        undone = []
        for event, before, after in found:  # the newest first
            if value != after:
                break
            value = before
            undone.append(event.pk)
        newest, theirs = found[0][0], [after for _event, _before, after in found]
        was_put_back = any(now == before for _event, before, _after in found if before not in theirs)
        if now == value and (undone or was_put_back):
            return None
        is_role = kind in {Kind.ROLE, Kind.MEMBER}
        words = (
            _("set the role of %(name)s in %(path)s back to %(value)s")
            if is_role
            else _("set %(name)s of %(path)s back to %(value)s")
        )
        since = (
            _("somebody else has changed the role since") if is_role else _("somebody else has changed %(name)s since")
        )
        said = {"name": name, "path": newest.path, "value": value or _("none")}
        return Step(
            kind,
            newest.path,
            words % said,
            tuple(undone),
            thing=thing,
            name=name,
            before=now,
            after=value,
            problem="" if undone else since % said,
        )

    def others(self) -> list[Step]:
        """What these events did and no step undoes."""
        return [
            Step(
                Kind.BY_HAND,
                event.path,
                event.path,
                (event.pk,),
                problem=_(_BY_HAND[Action(event.action)]) % {"path": event.path},
            )
            for event in self._events
            if event.action in _BY_HAND
        ]


class _Walk:
    """The way back of one tag. ``present``, ``target``: the digests that it names and is to name, "": none.

    ``meaning`` is the interval of the target; ``undone`` the ids of the acts on the way; ``last`` the latest change.
    """

    def __init__(self, plan: Plan, image: Image, name: str, rows: list[Tag]) -> None:
        """``rows``: every meaning of the tag, newest first."""
        self.image, self.path, self.name = image, image.path, name
        self.undone: list[int] = []
        self.meaning = rows[0] if rows[0].ended_at is None else None
        self.present = self.meaning.manifest.digest if self.meaning else ""
        self.last = change = rows[0].opened_by if self.meaning else rows[0].closed_by
        at = 0
        while change is not None and plan.is_ours(change):
            self.undone.append(change.pk)
            if self.meaning is None:  # it was deleted: before that it had the meaning of the row
                self.meaning, change = rows[at], rows[at].opened_by
                continue
            at += 1
            former = rows[at] if at < len(rows) else None
            was_moved = former is not None and former.closed_by_id == change.pk
            self.meaning = former if was_moved else None
            if former is None:
                break
            change = former.opened_by if was_moved else former.closed_by
        self.target = self.meaning.manifest.digest if self.meaning else ""


def image_of(image_id: int) -> Image:
    """The image with its repository and project, and its deletion if there is one."""
    return _images().get(pk=image_id)


def _images() -> QuerySet[Image]:
    return Image.objects.select_related("repository__project", "deletion")


def name_of(image: Image) -> ImageName:
    """Where the image lives."""
    return ImageName(image.repository.project.name, image.repository.name, image.name)


def _chunks(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))


def _changes(kind: Kind, event: Event) -> Iterator[tuple[str, Any, Any]]:
    """Name, before and after of each setting that the event changed."""
    before, after = event.detail.get("before"), event.detail.get("after")
    if kind in {Kind.ROLE, Kind.MEMBER}:
        yield event.detail["user"], before, after
    elif isinstance(before, dict) and isinstance(after, dict):
        defaults = policies.rules_of(CleanupPolicy(is_active=False)) if kind == Kind.SET_POLICY else {}
        for name, value in after.items():
            former = before.get(name, defaults.get(name))
            if former != value:
                yield name, former, value


def present(kind: Kind, thing: int, name: str) -> Any:
    """The value that a setting, rule or role has now, as events write it."""
    if kind == Kind.SET_IMAGE:
        return images.in_json(getattr(image_of(thing), name))
    if kind == Kind.SET_POLICY:
        policy = CleanupPolicy.objects.filter(repository=thing).first()
        return getattr(policy or CleanupPolicy(is_active=False), name)
    if kind == Kind.SET_REPOSITORY:
        return getattr(Repository.objects.get(pk=thing), name)
    user = User.objects.filter(email=name).first()
    if user is None:
        return ""
    if kind == Kind.MEMBER:
        return members.role_of(Project.objects.get(pk=thing), user) or ""
    return repositories.role_of(Repository.objects.get(pk=thing), user) or ""


def from_json(name: str, value: Any) -> Any:
    """A setting of an image from the words of an event (``images.in_json``)."""
    return datetime.fromisoformat(value) if name == "expires_at" and value else value
