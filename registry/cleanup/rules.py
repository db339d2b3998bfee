"""What a cleanup policy says of the tags of one image: the rules alone, no database.

    1. A signature or attestation kept under a tag (sha256-….sig) stays while the digest that it belongs to is there.
    2. A tag whose name matches a pattern stays.
    3. Of the others the newest ``keep_last`` stay. The age of a tag is the time since it was last moved.
    4. Of the rest a tag is deleted when it is older than ``tag_days``, or was not pulled for ``unpulled_days``. A
       policy that has neither rule but ``keep_last`` deletes all of the rest.
    5. A digest that no tag has named for ``untagged_days`` is deleted, with its untagged children and referrers; never
       one that an index names, live or deleted, nor one that refers to another digest of the image.

Reasons are sentences made from one of REASONS, so that a stored reason can be shown in another language.
``now`` is passed in, so that the same rules can be applied to the past.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, replace
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from django.utils.translation import gettext_noop

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from registry.models import CleanupPolicy

_BELONGS = gettext_noop("belongs to %(subject)s")
_MATCHES = gettext_noop("its name matches %(pattern)s")
_NEWEST = gettext_noop("one of the newest %(number)s of its image")
_NOT_NEWEST = gettext_noop("the newest %(number)s of its image are kept, and this is none of them")
_NO_RULE = gettext_noop("no rule takes it")
_UNTAGGED = gettext_noop("no tag names it since %(day)s")
_OLD = (
    gettext_noop("older than %(days)s day: means this since %(day)s"),
    gettext_noop("older than %(days)s days: means this since %(day)s"),
)
_UNPULLED = (
    gettext_noop("not pulled for %(days)s day: last wanted %(day)s"),
    gettext_noop("not pulled for %(days)s days: last wanted %(day)s"),
)
_UNTAGGED_LONG = (
    gettext_noop("no tag names it since %(day)s, more than %(days)s day"),
    gettext_noop("no tag names it since %(day)s, more than %(days)s days"),
)
SKIPPED = gettext_noop("left: it was changed, or is needed, since it was judged")
SKIPPED_BECAUSE = gettext_noop("left: %(why)s")
REASONS = (
    *(_BELONGS, _MATCHES, _NEWEST, _NOT_NEWEST, _NO_RULE, *_UNTAGGED_LONG, _UNTAGGED, *_OLD, *_UNPULLED),
    *(SKIPPED, SKIPPED_BECAUSE),
)
_ATTACHED = re.compile(r"(sha256|sha512)-([a-f0-9]{64,128})(?:\..*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TagVersion:
    """The current version of a tag: since when it names this digest, and its last known pull (None: unknown)."""

    id: int
    name: str
    digest: str
    since: datetime
    wanted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Untagged:
    """A digest that no tag has named since then, and that rule 5 may delete."""

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
    reason: str


def judge(
    policy: CleanupPolicy,
    tags: Iterable[TagVersion],
    untagged: Iterable[Untagged],
    subjects: Collection[str],
    now: datetime,
) -> list[Verdict]:
    """The verdict on each live tag of an image, newest first, then on each of its untagged digests.

    ``subjects``: those of ``attached_to`` that are there.
    """
    ranked = sorted(tags, key=lambda tag: (tag.since, tag.id), reverse=True)
    verdicts, place = [], 0
    for tag in ranked:
        reason = _kept(policy, tag, subjects)
        place += not reason
        reason = reason or _among_newest(policy, place)
        delete_because = "" if reason else _taken(policy, tag, now)
        verdicts.append(
            Verdict(tag.name, tag.digest, tag.id, bool(delete_because), reason or delete_because or _NO_RULE)
        )
    return verdicts + [_of_untagged(policy, digest, now) for digest in untagged]


def attached_to(tag: str) -> str:
    """The digest that a tag like ``sha256-….sig`` belongs to (the referrers' fallback and cosign's form); else ""."""
    match = _ATTACHED.fullmatch(tag)
    return f"{match[1]}:{match[2]}" if match else ""


def _kept(policy: CleanupPolicy, tag: TagVersion, subjects: Collection[str]) -> str:
    if (subject := attached_to(tag.name)) and subject in subjects:
        return _BELONGS % {"subject": subject}
    for pattern in policy.keep_patterns:
        if fnmatchcase(tag.name, pattern):
            return _MATCHES % {"pattern": pattern}
    return ""


def _among_newest(policy: CleanupPolicy, place: int) -> str:
    if policy.keep_last is None or place > policy.keep_last:
        return ""
    return _NEWEST % {"number": policy.keep_last}


def _taken(policy: CleanupPolicy, tag: TagVersion, now: datetime) -> str:
    if _is_over(tag.since, policy.tag_days, now):
        return _in_days(_OLD, policy.tag_days, tag.since)
    if tag.wanted_at and _is_over(max(tag.wanted_at, tag.since), policy.unpulled_days, now):
        return _in_days(_UNPULLED, policy.unpulled_days, max(tag.wanted_at, tag.since))
    if policy.keep_last is not None and policy.tag_days is None and policy.unpulled_days is None:
        return _NOT_NEWEST % {"number": policy.keep_last}
    return ""


def _of_untagged(policy: CleanupPolicy, digest: Untagged, now: datetime) -> Verdict:
    reason = _UNTAGGED % {"day": f"{digest.since:%Y-%m-%d}"}
    if will_delete := _is_over(digest.since, policy.untagged_days, now):
        reason = _in_days(_UNTAGGED_LONG, policy.untagged_days, digest.since)
    return Verdict("", digest.digest, None, will_delete, reason)


def _is_over(since: datetime, days: int | None, now: datetime) -> bool:
    return days is not None and since + timedelta(days=days) <= now


def _in_days(one_or_many: tuple[str, str], days: int | None, since: datetime) -> str:
    return one_or_many[days != 1] % {"days": days, "day": f"{since:%Y-%m-%d}"}


# ── The past ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class TagPeriod:
    """A version of a tag: from when until when (None: still) it named a digest, and its last known pull."""

    id: int
    name: str
    digest: str
    start: datetime
    end: datetime | None = None
    pulled_at: datetime | None = None

    def covers(self, moment: datetime) -> bool:
        """Whether the tag named the digest at that moment."""
        return self.start <= moment and (self.end is None or moment < self.end)


@dataclass(frozen=True, slots=True)
class DigestPeriod:
    """From when until when (None: still) a digest was there; ``alone``: rule 5 may delete it."""

    digest: str
    start: datetime
    end: datetime | None = None
    alone: bool = True


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a policy would have deleted then, and when it was pulled or tagged again after that."""

    tag: str
    digest: str
    at: datetime
    reason: str
    pulled_at: datetime | None = None
    tagged_at: datetime | None = None


def replay(
    policy: CleanupPolicy,
    tag_periods: Sequence[TagPeriod],
    digest_periods: Sequence[DigestPeriod],
    nights: Sequence[datetime],
    counted_since: datetime | None = None,
) -> list[Replayed]:
    """What runs on these nights (oldest first) would have deleted from one image, in that order.

    What a run deletes is gone for the nights after it; a tag that was pushed again later has a new version. Only the
    last pull of a version is known, so it counts as pulled continuously until then.
    """
    remaining = {period.id: period for period in tag_periods}
    present = {period.digest: period for period in digest_periods}
    found = []
    due = _nights_of_change(policy, nights, _moments(tag_periods, digest_periods, counted_since))
    for number, night in enumerate(nights):
        if number > 0 and number not in due:
            continue
        tags = [_as_seen(one, night, counted_since) for one in remaining.values() if one.covers(night)]
        there = [each for each in present.values() if each.start <= night and (each.end is None or night < each.end)]
        named = {tag.digest for tag in tags}
        last_named: dict[str, datetime] = {}
        for one in remaining.values():
            if one.start <= night and one.end is not None:
                last_named[one.digest] = max(one.end, last_named.get(one.digest, one.end))
        untagged = [
            Untagged(each.digest, max(each.start, last_named.get(each.digest, each.start)))
            for each in there
            if each.alone and each.digest not in named
        ]
        for verdict in judge(policy, tags, untagged, {each.digest for each in there}, night):
            if not verdict.will_delete:
                continue
            found.append(_replayed(verdict, night, tag_periods))
            if verdict.tag_version is not None:
                remaining[verdict.tag_version] = replace(remaining[verdict.tag_version], end=night)
            else:
                present[verdict.digest] = replace(present[verdict.digest], end=night)
            due |= {number + 1} | _nights_of_change(policy, nights, {night})
    return found


def _nights_of_change(policy: CleanupPolicy, nights: Sequence[datetime], moments: Iterable[datetime]) -> set[int]:
    """On which nights, by number, verdicts may be others than the night before: something changed, or fell due."""
    waits = [timedelta(days=days or 0) for days in (0, policy.tag_days, policy.unpulled_days, policy.untagged_days)]
    return {bisect_left(nights, moment + wait) for moment in moments for wait in waits}


def _moments(
    tag_periods: Iterable[TagPeriod], digest_periods: Iterable[DigestPeriod], counted_since: datetime | None
) -> set[datetime]:
    """The moments from which verdicts count days."""
    versions = [(one.start, one.end, one.pulled_at) for one in tag_periods]
    digests = [(period.start, period.end) for period in digest_periods]
    return {moment for each in (*versions, *digests, (counted_since,)) for moment in each if moment}


def _as_seen(period: TagPeriod, night: datetime, counted_since: datetime | None) -> TagVersion:
    wanted = counted_since if period.pulled_at is None else min(period.pulled_at, night)
    return TagVersion(period.id, period.name, period.digest, period.start, wanted)


def _replayed(verdict: Verdict, night: datetime, tag_periods: Sequence[TagPeriod]) -> Replayed:
    of_digest = [one for one in tag_periods if one.digest == verdict.digest]
    pulls = [
        one.pulled_at
        for one in of_digest
        if one.pulled_at and one.pulled_at > night and verdict.tag_version in {None, one.id}
    ]
    tagged = [one.start for one in of_digest if one.start > night]
    return Replayed(
        verdict.tag, verdict.digest, night, verdict.reason, min(pulls, default=None), min(tagged, default=None)
    )
