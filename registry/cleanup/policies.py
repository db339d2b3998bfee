"""Cleanup policies: save, preview and replay. registry.cleanup.runs runs them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, Subquery
from django.utils import timezone
from django.utils.translation import gettext as _

from registry import audit, edits, errors, tag_rules
from registry.cleanup import replay as replays
from registry.cleanup import rules
from registry.models import CleanupPolicy, CleanupRun, Event, Image, Manifest, ManifestChild, Repository, Tag
from registry.oci import names
from registry.statistics import pulls

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from datetime import datetime

    from accounts.actors import Actor

RULES = ("is_active", "keep_last", "keep_patterns", "tag_days", "unpulled_days", "untagged_days", "most_percent")
MAX_PATTERNS = 50
MAX_NUMBER = 36_500
IMAGES = 50  # of one batch


@dataclass(frozen=True, slots=True)
class Judged:
    """The verdict on a tag, or an untagged digest, of an image."""

    image: Image
    verdict: rules.Verdict


@dataclass(frozen=True, slots=True)
class Replayed:
    """A deletion that a policy would have made in an image."""

    image: Image
    deletion: replays.Replayed


def set_policy(
    actor: Actor,
    repository: Repository,
    *,
    seen: dict[str, Any] | None = None,
    undoes: Collection[int] = (),
    **wanted: Any,
) -> CleanupPolicy:
    """Create or change the policy of a repository. RULES that are not given keep their values.

    ``seen``: the rules on the submitted page, empty if there was no policy. Dismisses runs that are open or await
    approval, because they used other rules. Raises RequestInvalid (a rule is out of range), NameUnknown, Changed (the
    rules differ from ``seen``).
    """
    _check(wanted)
    with transaction.atomic():
        live = Repository.objects.live().select_related("project")
        locked = live.select_for_update(of=("self",), no_key=True).filter(pk=repository.pk).first()
        if locked is None:
            raise errors.NameUnknown(_("there is no repository %(repository)s any more") % {"repository": repository})
        policy = CleanupPolicy.objects.filter(repository=locked).first() or CleanupPolicy(repository=locked)
        before = rules_of(policy) if policy.pk else {}
        past = Event.objects.filter(repository=locked, action=Event.Action.CLEANUP_POLICY)
        edits.alter(policy, wanted, seen if policy.pk else None, past)
        after = rules_of(policy)
        if before == after:
            return policy
        policy.updated_at = timezone.now()
        policy.save()
        ended = CleanupRun.objects.filter(repository=locked).unfinished()
        ended.update(
            state=CleanupRun.State.DISMISSED, finished_at=policy.updated_at, problem=CleanupRun.Problem.POLICY_CHANGED
        )
        audit.record(actor, Event.Action.CLEANUP_POLICY, locked, undoes=undoes, before=before, after=after)
    return policy


def rules_of(policy: CleanupPolicy) -> dict[str, Any]:
    """Return the RULES of the policy as JSON."""
    return {name: getattr(policy, name) for name in RULES}


def _check(wanted: dict[str, Any]) -> None:
    if unknown := wanted.keys() - set(RULES):
        raise TypeError(f"a policy has no rule {', '.join(sorted(unknown))}")
    for name in ("keep_last", "tag_days", "unpulled_days", "untagged_days"):
        if (value := wanted.get(name)) is not None and not 1 <= value <= MAX_NUMBER:
            raise errors.RequestInvalid(f"{name} is a number from 1 to {MAX_NUMBER:,}, or nothing")
    if not 0 <= wanted.get("most_percent", 0) <= 100:
        raise errors.RequestInvalid("most_percent is a number from 0 to 100")
    patterns = wanted.get("keep_patterns", [])
    if len(patterns) > MAX_PATTERNS or not all(0 < len(pattern) <= names.MAX_TAG for pattern in patterns):
        raise errors.RequestInvalid(
            _("a policy has at most %(count)s patterns of 1 to %(length)s characters, such as release-*")
            % {"count": MAX_PATTERNS, "length": names.MAX_TAG}
        )


def preview(repository: Repository, policy: CleanupPolicy, now: datetime) -> list[Judged]:
    """Return what a run at ``now`` would delete. The policy need not be saved."""
    return [judged for judged in judge(repository, policy, now) if judged.verdict.will_delete]


def judge(repository: Repository, policy: CleanupPolicy, now: datetime) -> Iterator[Judged]:
    """Yield the verdicts on all tags of the repository, and with ``untagged_days`` on its untagged digests."""
    for chunk in in_chunks(repository):
        yield from judge_images(chunk, policy, now, Pulls(repository, chunk))


def replay(repository: Repository, policy: CleanupPolicy, days: int = 90) -> Iterator[Replayed]:
    """Yield what nightly runs of the policy would have deleted in the last days, by image, then by night.

    Reads the rows of tags and manifests, so purged ones are missing. Ignores ``most_percent``. Each result has the
    first pull and the first new tag after the deletion.
    """
    now = timezone.now()
    protection = tag_rules.effective(repository)
    nights = [now - timedelta(days=day) for day in range(days, -1, -1)]
    for chunk in in_chunks(repository):
        pulled = Pulls(repository, chunk)
        tag_periods, digest_periods = _tag_periods(chunk, pulled), _digest_periods(chunk, policy)
        for image in chunk:
            periods = tag_periods[image.pk], digest_periods[image.pk]
            past = replays.replay(policy, *periods, nights, pulled.counted_since, protection)
            yield from (Replayed(image, deletion) for deletion in past)


def _tag_periods(images: Sequence[Image], pulled: Pulls) -> dict[int, list[replays.TagPeriod]]:
    """Return {image id: all versions of its tags}."""
    found = defaultdict(list)
    rows = Tag.objects.filter(image__in=images).order_by("pk")
    columns = ("image", "pk", "name", "manifest__digest", "started_at", "ended_at", "pushed_at")
    for image_id, pk, name, digest, start, end, pushed_at in rows.values_list(*columns):
        found[image_id].append(replays.TagPeriod(pk, name, digest, start, end, pulled.last.get(pk), pushed_at))
    return found


def _digest_periods(images: Sequence[Image], policy: CleanupPolicy) -> dict[int, list[replays.DigestPeriod]]:
    """Return {image id: all its digests, deleted ones too}."""
    found = defaultdict(list)
    rows = Manifest.objects.filter(image__in=images).annotate(alone=_may_go_alone()).order_by("pk")
    columns = ("image", "digest", "pushed_at", "deletion__at", "alone", "last_pushed_at")
    for image_id, digest, start, end, alone, last in rows.values_list(*columns):
        may_go = alone and policy.untagged_days is not None
        found[image_id].append(replays.DigestPeriod(digest, start, end, may_go, last))
    return found


class Pulls:
    """The recorded pulls of some images of a repository."""

    def __init__(self, repository: Repository, images: Sequence[Image]) -> None:
        self.last = pulls.last_pulls(images)
        self.counted_since = pulls.counted_since(repository)


def in_chunks(repository: Repository, after: int = 0) -> Iterator[list[Image]]:
    """Yield batches of live images of the repository by id, after the id ``after``."""
    images = Image.objects.live().filter(repository=repository).order_by("pk")
    while chunk := list(images.filter(pk__gt=after)[:IMAGES]):
        yield chunk
        after = chunk[-1].pk


def judge_images(images: Sequence[Image], policy: CleanupPolicy, now: datetime, pulled: Pulls) -> Iterator[Judged]:
    """Yield the verdicts on some images. At most three queries."""
    tags: dict[int, list[rules.TagVersion]] = defaultdict(list)
    live = Tag.objects.live().filter(image__in=images)
    for pk, image_id, name, digest, since in live.values_list("pk", "image", "name", "manifest__digest", "pushed_at"):
        wanted_at = pulled.last.get(pk, pulled.counted_since)
        tags[image_id].append(rules.TagVersion(pk, name, digest, since, wanted_at))
    subjects = _subjects(images)
    untagged = _untagged(images) if policy.untagged_days is not None else {}
    protection = tag_rules.effective(policy.repository)
    for image in images:
        found = tags.get(image.pk, ()), untagged.get(image.pk, ()), subjects.get(image.pk, set())
        for verdict in rules.judge(policy, *found, now, protection):
            yield Judged(image, verdict)


def _subjects(images: Sequence[Image]) -> dict[int, set[str]]:
    """Return {image id: the subjects of its attached tags}."""
    subjects = defaultdict(set)
    for image_id, subject in Tag.objects.live().filter(image__in=images).attached().values_list("image", "subject"):
        subjects[image_id].add(subject)
    return subjects


def _untagged(images: Sequence[Image]) -> dict[int, list[rules.Untagged]]:
    """Return {image id: untagged digests that rule 5 may delete}."""
    live_tags = Tag.objects.live().filter(manifest=OuterRef("pk"))
    found = Manifest.objects.live().filter(image__in=images).filter(_may_go_alone(), ~Exists(live_tags))
    ended = Tag.objects.filter(manifest=OuterRef("pk")).order_by("-ended_at").values("ended_at")[:1]
    since = found.annotate(untagged_at=Subquery(ended)).order_by("pk")
    untagged = defaultdict(list)
    columns = ("image", "digest", "last_pushed_at", "untagged_at")
    for image_id, digest, pushed_at, untagged_at in since.values_list(*columns):
        untagged[image_id].append(rules.Untagged(digest, max(pushed_at, untagged_at or pushed_at)))
    return untagged


def _may_go_alone() -> Q:
    """True if no index (live or deleted) references the manifest and its subject is not in the same image."""
    named = ManifestChild.objects.filter(child=OuterRef("pk"))
    subjects = Manifest.objects.filter(image=OuterRef("image"), digest=OuterRef("subject"))
    return ~Q(Exists(named)) & ~Q(Exists(subjects))
