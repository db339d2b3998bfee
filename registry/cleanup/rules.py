"""What a cleanup policy says of the tags of one image: the rules alone, no database.

    1. A signature or attestation kept under a tag (sha256-….sig) stays while the digest that it belongs to is there.
    2. A tag whose name matches a pattern stays.
    3. Of the others the newest ``keep_last`` stay. Newest: since when the name means what it means.
    4. Of the rest a tag goes when it is older than ``tag_days``, or was not pulled for ``unpulled_days``. A policy that
       has neither takes all of the rest, if it has ``keep_last``.
    5. A digest that no tag has named for ``untagged_days`` goes, with what hangs on it; never one that an index names,
       live or deleted, nor one that refers to another digest that is known here.

Reasons are words for people, each made from one of REASONS: so that a stored one can be told in another language.
``now`` is passed in, so that the same rules can be asked about the past.
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
LEFT = gettext_noop("left: it was changed, or is needed, since it was judged")
LEFT_BECAUSE = gettext_noop("left: %(why)s")
REASONS = (
    *(_BELONGS, _MATCHES, _NEWEST, _NOT_NEWEST, _NO_RULE, *_UNTAGGED_LONG, _UNTAGGED, *_OLD, *_UNPULLED),
    *(LEFT, LEFT_BECAUSE),
)
_ATTACHED = re.compile(r"(sha256|sha512)-([a-f0-9]{64,128})(?:\..*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Meaning:
    """A tag as the rules see it: since when it means this digest, and when it was wanted last (None: unknown)."""

    id: int
    name: str
    digest: str
    since: datetime
    wanted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Untagged:
    """A digest that no tag names, since then; one that may go by itself (rule 5)."""

    digest: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a tag, or a digest without one (``tag`` "" and ``meaning`` None), goes, and why."""

    tag: str
    digest: str
    meaning: int | None
    goes: bool
    reason: str


def judge(
    policy: CleanupPolicy,
    tags: Iterable[Meaning],
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
        goes = "" if reason else _taken(policy, tag, now)
        verdicts.append(Verdict(tag.name, tag.digest, tag.id, bool(goes), reason or goes or _NO_RULE))
    return verdicts + [_of_untagged(policy, digest, now) for digest in untagged]


def attached_to(tag: str) -> str:
    """The digest that a tag like ``sha256-….sig`` belongs to (the referrers' fallback and cosign's form); else ""."""
    match = _ATTACHED.fullmatch(tag)
    return f"{match[1]}:{match[2]}" if match else ""


def _kept(policy: CleanupPolicy, tag: Meaning, subjects: Collection[str]) -> str:
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


def _taken(policy: CleanupPolicy, tag: Meaning, now: datetime) -> str:
    if _is_over(tag.since, policy.tag_days, now):
        return _in_days(_OLD, policy.tag_days, tag.since)
    if tag.wanted_at and _is_over(max(tag.wanted_at, tag.since), policy.unpulled_days, now):
        return _in_days(_UNPULLED, policy.unpulled_days, max(tag.wanted_at, tag.since))
    if policy.keep_last is not None and policy.tag_days is None and policy.unpulled_days is None:
        return _NOT_NEWEST % {"number": policy.keep_last}
    return ""


def _of_untagged(policy: CleanupPolicy, digest: Untagged, now: datetime) -> Verdict:
    reason = _UNTAGGED % {"day": f"{digest.since:%Y-%m-%d}"}
    if goes := _is_over(digest.since, policy.untagged_days, now):
        reason = _in_days(_UNTAGGED_LONG, policy.untagged_days, digest.since)
    return Verdict("", digest.digest, None, goes, reason)


def _is_over(since: datetime, days: int | None, now: datetime) -> bool:
    return days is not None and since + timedelta(days=days) <= now


def _in_days(one_or_many: tuple[str, str], days: int | None, since: datetime) -> str:
    return one_or_many[days != 1] % {"days": days, "day": f"{since:%Y-%m-%d}"}


# ── The past ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Interval:
    """From when until when (None: still) a tag meant a digest, and its last known pull."""

    id: int
    name: str
    digest: str
    start: datetime
    end: datetime | None = None
    pulled_at: datetime | None = None

    def covers(self, moment: datetime) -> bool:
        """Whether the tag meant it at that moment."""
        return self.start <= moment and (self.end is None or moment < self.end)


@dataclass(frozen=True, slots=True)
class Life:
    """From when until when (None: still) a digest was there; ``alone``: it is one that may go by itself (rule 5)."""

    digest: str
    start: datetime
    end: datetime | None = None
    alone: bool = True


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a policy would have deleted then; and what speaks against it: it was pulled, or tagged anew, after that."""

    tag: str
    digest: str
    at: datetime
    reason: str
    pulled_at: datetime | None = None
    tagged_at: datetime | None = None


def replay(
    policy: CleanupPolicy,
    intervals: Sequence[Interval],
    lives: Sequence[Life],
    nights: Sequence[datetime],
    counted_since: datetime | None = None,
) -> list[Replayed]:
    """What runs on these nights (oldest first) would have deleted from one image, in that order.

    What a run deletes is gone for the nights after it; a tag that was pushed again later is a new meaning. Of a meaning
    only the last pull is known, so it counts as pulled all along until then.
    """
    left = {interval.id: interval for interval in intervals}
    present = {life.digest: life for life in lives}
    found = []
    due = _nights_of_change(policy, nights, _moments(intervals, lives, counted_since))
    for number, night in enumerate(nights):
        if number > 0 and number not in due:
            continue
        tags = [_as_seen(one, night, counted_since) for one in left.values() if one.covers(night)]
        there = [life for life in present.values() if life.start <= night and (life.end is None or night < life.end)]
        named = {tag.digest for tag in tags}
        last_named: dict[str, datetime] = {}
        for one in left.values():
            if one.start <= night and one.end is not None:
                last_named[one.digest] = max(one.end, last_named.get(one.digest, one.end))
        untagged = [
            Untagged(life.digest, max(life.start, last_named.get(life.digest, life.start)))
            for life in there
            if life.alone and life.digest not in named
        ]
        for verdict in judge(policy, tags, untagged, {life.digest for life in there}, night):
            if not verdict.goes:
                continue
            found.append(_replayed(verdict, night, intervals))
            if verdict.meaning is not None:
                left[verdict.meaning] = replace(left[verdict.meaning], end=night)
            else:
                present[verdict.digest] = replace(present[verdict.digest], end=night)
            due |= {number + 1} | _nights_of_change(policy, nights, {night})
    return found


def _nights_of_change(policy: CleanupPolicy, nights: Sequence[datetime], moments: Iterable[datetime]) -> set[int]:
    """On which nights, by number, verdicts may be others than the night before: something changed, or fell due."""
    waits = [timedelta(days=days or 0) for days in (0, policy.tag_days, policy.unpulled_days, policy.untagged_days)]
    return {bisect_left(nights, moment + wait) for moment in moments for wait in waits}


def _moments(intervals: Iterable[Interval], lives: Iterable[Life], counted_since: datetime | None) -> set[datetime]:
    """When something changed of which verdicts tell the age."""
    meanings = [(one.start, one.end, one.pulled_at) for one in intervals]
    digests = [(life.start, life.end) for life in lives]
    return {moment for each in (*meanings, *digests, (counted_since,)) for moment in each if moment}


def _as_seen(interval: Interval, night: datetime, counted_since: datetime | None) -> Meaning:
    wanted = counted_since if interval.pulled_at is None else min(interval.pulled_at, night)
    return Meaning(interval.id, interval.name, interval.digest, interval.start, wanted)


def _replayed(verdict: Verdict, night: datetime, intervals: Sequence[Interval]) -> Replayed:
    of_digest = [one for one in intervals if one.digest == verdict.digest]
    pulls = [
        one.pulled_at
        for one in of_digest
        if one.pulled_at and one.pulled_at > night and verdict.meaning in {None, one.id}
    ]
    tagged = [one.start for one in of_digest if one.start > night]
    return Replayed(
        verdict.tag, verdict.digest, night, verdict.reason, min(pulls, default=None), min(tagged, default=None)
    )
