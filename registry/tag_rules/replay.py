"""What rules of tags would have refused lately, and how many tags each of them is for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from django.db.models import F, OuterRef, Q, Subquery
from django.utils import timezone

from accounts.models import OrganizationMembership, OrganizationRole, ProjectMembership, ProjectRole
from registry.models import Event, Repository, Tag
from registry.oci import names
from registry.tag_rules.rules import ADMINS, Mode, Rule, effective, find, rules_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from accounts.models import Project

DAYS = 90
SHOWN = 200  # refused changes of a preview
ROWS = 1_000  # read at a time


class What(StrEnum):
    """What was done to a tag."""

    PUSH = "push"
    MOVE = "move"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Refused:
    """A change of a tag that the rules would have refused. ``path``: of the image. ``actor``: as in the audit log."""

    at: datetime
    path: str
    tag: str
    what: What
    actor: str
    rule: Rule


@dataclass(frozen=True, slots=True)
class Preview:
    """What rules do: how many of today's tags each is for, and how many changes they would have refused lately.

    ``shown``: the newest of these, at most SHOWN.
    """

    numbers: list[tuple[Rule, int]]
    total: int
    shown: list[Refused]

    @property
    def days(self) -> int:
        """The days of ``total``."""
        return DAYS


def preview(thing: Repository | Project) -> Preview:
    """What the rules of the repository or project, which need not be saved, do. At most five queries."""
    if isinstance(thing, Repository):
        found, order = [thing], effective(thing)
    else:
        found, order = list(Repository.objects.live().filter(project=thing).order_by("name")), rules_of(thing)
        for repository in found:
            repository.project = thing
    number = numbers(found)
    refused = sorted(replay(found), key=lambda each: each.at, reverse=True)
    return Preview([(rule, number[rule]) for rule in order], len(refused), refused[:SHOWN])


def replay(repositories: Sequence[Repository], days: int = DAYS) -> Iterator[Refused]:
    """Yield what the rules of repositories of one project, which need not be saved, would have refused in these days.

    Reads the rows of tags in live images, so purged ones are missing. Each change is judged as it happened: after what
    was not refused then. Those who are admins now count as admins.
    """
    since = timezone.now() - timedelta(days=days)
    rules_of = {repository.pk: effective(repository) for repository in repositories}
    some = {rule for rules in rules_of.values() for rule in rules if rule.restricts}
    if not some:
        return
    admins = _admins(repositories[0].project) if any(ADMINS in rule.pushers for rule in some) else set()
    former = Tag.objects.filter(image=OuterRef("image"), name=OuterRef("name"), pk__lt=OuterRef("pk")).order_by("-pk")
    rows: Any = Tag.objects.filter(
        Q(started_at__gte=since) | Q(ended_at__gte=since), image__repository__in=repositories, image__deletion=None
    )
    rows = rows.annotate(
        digest=F("manifest__digest"),
        former_digest=Subquery(former.values("manifest__digest")[:1]),
        former_closed_by=Subquery(former.values("closed_by")[:1]),
    )
    rows = rows.select_related("image", "opened_by", "closed_by").only(
        *("name", "started_at", "ended_at", "image__path", "image__repository"),
        *(f"{by}__{column}" for by in ("opened_by", "closed_by") for column in ("actor", "user_id", "action")),
    )
    for row in rows.order_by("-pk").iterator(ROWS):
        subject = names.tag_subject(row.name)
        if subject and not row.digest.startswith(subject):
            continue
        rule = find(rules_of[row.image.repository_id], row.name)
        if row.ended_at is not None and row.ended_at >= since and rule.keep and _was_deleted(row):
            yield _refused(row, rule, What.DELETE, row.ended_at, row.closed_by)
        if row.started_at >= since and (what := _refused_push(row, rule, admins)):
            yield _refused(row, rule, what, row.started_at, row.opened_by)


def _refused_push(row: Any, rule: Rule, admins: set[str]) -> What | None:
    """What the push of this version was, if the rule refuses it."""
    event = row.opened_by
    what = What.MOVE if event is not None and row.former_closed_by == event.pk else What.PUSH
    if what == What.MOVE and rule.mode != Mode.MOVABLE:
        return what
    if rule.mode == Mode.WRITE_ONCE and row.former_digest not in {None, row.digest}:
        return what
    if rule.pushers and event is not None and event.user_id is not None:
        allowed = event.actor in rule.pushers or (ADMINS in rule.pushers and event.actor in admins)
        return None if allowed else what
    return None


def _was_deleted(row: Any) -> bool:
    return row.closed_by is not None and row.closed_by.action != Event.Action.TAG_MOVE


def _refused(row: Any, rule: Rule, what: What, at: datetime, event: Event | None) -> Refused:
    return Refused(at, row.image.path, row.name, what, event.actor if event else "", rule)


def _admins(project: Project) -> set[str]:
    """The e-mail addresses of the admins of the project and the owners of its organization. Two queries."""
    admins = ProjectMembership.objects.filter(project=project, role=ProjectRole.ADMIN)
    owners = OrganizationMembership.objects.filter(organization=project.organization_id, role=OrganizationRole.OWNER)
    return {*admins.values_list("user__email", flat=True), *owners.values_list("user__email", flat=True)}


def numbers(repositories: Sequence[Repository]) -> Counter[Rule]:
    """How many of the live tags each of the ``effective`` rules is for. Attached tags are left out. One query."""
    rules_of = {repository.pk: effective(repository) for repository in repositories}
    live = Tag.objects.live().unattached().filter(image__repository__in=repositories, image__deletion=None)
    rows = live.values_list("image__repository", "name").iterator(ROWS)
    return Counter(find(rules_of[repository], name) for repository, name in rows)
