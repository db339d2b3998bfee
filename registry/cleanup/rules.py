"""Apply the rules of a cleanup policy to the tags of one image. No database.

    1. An attached tag (sha256-….sig, see registry.attachments) stays while the digest that it is attached to is there,
       and goes with it. It takes no place among the newest.
    2. A tag whose name matches a pattern stays, and so does one that a rule of tags keeps (registry.tag_rules).
    3. Of the others the newest ``keep_last`` stay. The age of a tag is the time since it was last pushed or moved.
    4. Of the rest a tag is deleted when it is older than ``tag_days``, or was not pulled for ``unpulled_days``. A
       policy that has neither rule but ``keep_last`` deletes all of the rest.
    5. A digest that no tag has named for ``untagged_days`` is deleted, with its untagged children and referrers; never
       one that an index names, live or deleted, nor one that refers to another digest of the image.

Reasons are codes with facts: the console makes the words.
``now`` is an argument, so registry.cleanup.replay can apply the rules to the past.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from registry.models import CleanupLine
from registry.oci import names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from registry.models import CleanupPolicy
    from registry.tag_rules import Rule

Reason = CleanupLine.Reason


@dataclass(frozen=True, slots=True)
class Why:
    """A reason with its facts (see CleanupLine)."""

    reason: CleanupLine.Reason
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TagVersion:
    """The current version of a tag: its last push is at ``since``. ``wanted_at``: last known pull, or None."""

    id: int
    name: str
    digest: str
    since: datetime
    wanted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Untagged:
    """A digest without a tag since ``since``, which rule 5 may delete."""

    digest: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a run will delete a tag, or a digest without one (``tag`` "", ``tag_version`` None), and why.

    ``tag_version``: the id of the tag's row.
    """

    tag: str
    digest: str
    tag_version: int | None
    will_delete: bool
    why: Why


def judge(
    policy: CleanupPolicy,
    tags: Iterable[TagVersion],
    untagged: Iterable[Untagged],
    subjects: Collection[str],
    now: datetime,
    tag_rules: Sequence[Rule] = (),
) -> list[Verdict]:
    """Return the verdicts on all live tags of an image, newest first, then on its untagged digests.

    ``subjects``: those of ``names.tag_subject`` with which digests of the image begin. ``tag_rules``: the effective
    ones of the repository.
    """
    ranked = sorted(tags, key=lambda tag: (tag.since, tag.id), reverse=True)
    verdicts, place = [], 0
    for tag in ranked:
        kept = _kept(policy, tag_rules, tag, subjects)
        place += not kept
        kept = kept or _among_newest(policy, place)
        taken = None if kept else _taken(policy, tag, now)
        verdicts.append(Verdict(tag.name, tag.digest, tag.id, bool(taken), kept or taken or Why(Reason.NO_RULE)))
    return verdicts + [_of_untagged(policy, digest, now) for digest in untagged]


def _kept(policy: CleanupPolicy, tag_rules: Iterable[Rule], tag: TagVersion, subjects: Collection[str]) -> Why | None:
    subject = names.tag_subject(tag.name)
    if subject and subject in subjects and not tag.digest.startswith(subject):
        return Why(Reason.ATTACHED, {"digest": subject})
    for pattern in policy.keep_patterns:
        if fnmatchcase(tag.name, pattern):
            return Why(Reason.PATTERN, {"pattern": pattern})
    rule = next((rule for rule in tag_rules if rule.matches(tag.name)), None)
    if rule is not None and rule.keep:
        return Why(Reason.TAG_RULE, {"number": rule.number, "of": rule.of, "pattern": ", ".join(rule.patterns)})
    return None


def _among_newest(policy: CleanupPolicy, place: int) -> Why | None:
    if policy.keep_last is None or place > policy.keep_last:
        return None
    return Why(Reason.NEWEST, {"number": policy.keep_last})


def _taken(policy: CleanupPolicy, tag: TagVersion, now: datetime) -> Why | None:
    if _is_over(tag.since, policy.tag_days, now):
        return _in_days(Reason.OLD, policy.tag_days, tag.since)
    if tag.wanted_at and _is_over(max(tag.wanted_at, tag.since), policy.unpulled_days, now):
        return _in_days(Reason.UNPULLED, policy.unpulled_days, max(tag.wanted_at, tag.since))
    if policy.keep_last is not None and policy.tag_days is None and policy.unpulled_days is None:
        return Why(Reason.NOT_NEWEST, {"number": policy.keep_last})
    return None


def _of_untagged(policy: CleanupPolicy, digest: Untagged, now: datetime) -> Verdict:
    why = Why(Reason.UNTAGGED, {"since": digest.since.isoformat()})
    if will_delete := _is_over(digest.since, policy.untagged_days, now):
        why = _in_days(Reason.UNTAGGED_LONG, policy.untagged_days, digest.since)
    return Verdict("", digest.digest, None, will_delete, why)


def _is_over(since: datetime, days: int | None, now: datetime) -> bool:
    return days is not None and since + timedelta(days=days) <= now


def _in_days(reason: CleanupLine.Reason, days: int | None, since: datetime) -> Why:
    return Why(reason, {"days": days, "since": since.isoformat()})
