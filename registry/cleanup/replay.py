"""Replay a cleanup policy over the past of one image. No database."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from registry.cleanup.rules import TagVersion, Untagged, Verdict, Why, judge
from registry.oci import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from registry.models import CleanupPolicy
    from registry.tag_rules import Rule


@dataclass(frozen=True, slots=True)
class TagPeriod:
    """A version of a tag: it had the digest from ``start`` to ``end`` (None: still).

    ``pulled_at``: last known pull. ``pushed_at``: last known push, None: at ``start``.
    """

    id: int
    name: str
    digest: str
    start: datetime
    end: datetime | None = None
    pulled_at: datetime | None = None
    pushed_at: datetime | None = None

    def covers(self, moment: datetime) -> bool:
        """Whether the tag had the digest at that time."""
        return self.start <= moment and (self.end is None or moment < self.end)


@dataclass(frozen=True, slots=True)
class DigestPeriod:
    """A digest existed from ``start`` to ``end`` (None: still). ``alone``: rule 5 may delete it.

    ``pushed_at``: last known push, None: at ``start``.
    """

    digest: str
    start: datetime
    end: datetime | None = None
    alone: bool = True
    pushed_at: datetime | None = None

    def covers(self, moment: datetime) -> bool:
        """Whether the digest existed at that time."""
        return self.start <= moment and (self.end is None or moment < self.end)


@dataclass(frozen=True, slots=True)
class Replayed:
    """A tag or digest that a run at ``at`` would have deleted, and its first known pull or new tag after that."""

    tag: str
    digest: str
    at: datetime
    why: Why
    pulled_at: datetime | None = None
    tagged_at: datetime | None = None


class _Past:
    """The tags and digests of an image over time, without those that the replay has deleted."""

    def __init__(
        self, tags: Iterable[TagPeriod], digests: Iterable[DigestPeriod], counted_since: datetime | None
    ) -> None:
        self._tags = {period.id: period for period in tags}
        self._digests = {period.digest: period for period in digests}
        self._counted_since = counted_since

    def tags_at(self, night: datetime) -> list[TagVersion]:
        """The tags as a run on that night would have read them."""
        return [_as_seen(period, night, self._counted_since) for period in self._tags.values() if period.covers(night)]

    def digests_at(self, night: datetime) -> list[DigestPeriod]:
        """The digests that existed on that night."""
        return [period for period in self._digests.values() if period.covers(night)]

    def untagged_at(self, night: datetime, tags: Iterable[TagVersion]) -> list[Untagged]:
        """The digests that rule 5 may delete on that night, when these are its tags."""
        named = {tag.digest for tag in tags}
        last_named: dict[str, datetime] = {}
        for period in self._tags.values():
            if period.start <= night and period.end is not None:
                last_named[period.digest] = max(period.end, last_named.get(period.digest, period.end))
        return [
            Untagged(period.digest, max(_pushed(period, night), last_named.get(period.digest, period.start)))
            for period in self.digests_at(night)
            if period.alone and period.digest not in named
        ]

    def delete(self, verdict: Verdict, night: datetime) -> None:
        """End the tag version, or the untagged digest with its attached tags, of the verdict on that night."""
        if verdict.tag_version is not None:
            self._tags[verdict.tag_version] = replace(self._tags[verdict.tag_version], end=night)
        else:
            self._digests[verdict.digest] = replace(self._digests[verdict.digest], end=night)
            for period in self._attached_to(verdict.digest, night):
                self._tags[period.id] = replace(period, end=night)

    def _attached_to(self, digest: str, night: datetime) -> list[TagPeriod]:
        subject = digest[: names.SUBJECT_LENGTH]
        tags = [period for period in self._tags.values() if names.tag_subject(period.name) == subject]
        return [period for period in tags if period.covers(night) and period.digest != digest]


def replay(
    policy: CleanupPolicy,
    tag_periods: Sequence[TagPeriod],
    digest_periods: Sequence[DigestPeriod],
    nights: Sequence[datetime],
    counted_since: datetime | None = None,
    tag_rules: Sequence[Rule] = (),
) -> list[Replayed]:
    """Return what runs on these nights (oldest first) would have deleted from one image, in that order.

    Later nights do not see what an earlier run deleted; a tag that was moved has a new version. Only the last pull and
    the last push of a version are known, so it counts as pulled and pushed continuously until then. Nights on which no
    verdict can change are skipped.
    """
    past = _Past(tag_periods, digest_periods, counted_since)
    found = []
    due = {0} | _nights_of_change(policy, nights, _moments(tag_periods, digest_periods, counted_since))
    for number, night in enumerate(nights):
        if number not in due:
            continue
        tags = past.tags_at(night)
        present = {period.digest[: names.SUBJECT_LENGTH] for period in past.digests_at(night)}
        verdicts = judge(policy, tags, past.untagged_at(night, tags), present, night, tag_rules)
        deleted = [one for one in verdicts if one.will_delete]
        for verdict in deleted:
            past.delete(verdict, night)
            found.append(_replayed(verdict, night, tag_periods))
        if deleted:
            due |= {number + 1} | _nights_of_change(policy, nights, {night})
    return found


def _nights_of_change(policy: CleanupPolicy, nights: Sequence[datetime], moments: Iterable[datetime]) -> set[int]:
    """Return the indexes of nights on which verdicts may change: a tag or digest changed, or its days have passed."""
    waits = [timedelta(days=days or 0) for days in (0, policy.tag_days, policy.unpulled_days, policy.untagged_days)]
    return {bisect_left(nights, moment + wait) for moment in moments for wait in waits}


def _moments(
    tag_periods: Iterable[TagPeriod], digest_periods: Iterable[DigestPeriod], counted_since: datetime | None
) -> set[datetime]:
    """Return the times from which the rules count days."""
    versions = [(one.start, one.end, one.pulled_at, one.pushed_at) for one in tag_periods]
    digests = [(period.start, period.end, period.pushed_at) for period in digest_periods]
    return {moment for each in (*versions, *digests, (counted_since,)) for moment in each if moment}


def _as_seen(period: TagPeriod, night: datetime, counted_since: datetime | None) -> TagVersion:
    wanted = counted_since if period.pulled_at is None else min(period.pulled_at, night)
    return TagVersion(period.id, period.name, period.digest, _pushed(period, night), wanted)


def _pushed(period: TagPeriod | DigestPeriod, night: datetime) -> datetime:
    """The last push before that night, as a run on that night would have read it."""
    return period.start if period.pushed_at is None else max(period.start, min(period.pushed_at, night))


def _replayed(verdict: Verdict, night: datetime, tag_periods: Sequence[TagPeriod]) -> Replayed:
    of_digest = [one for one in tag_periods if one.digest == verdict.digest]
    pulls = [
        one.pulled_at
        for one in of_digest
        if one.pulled_at and one.pulled_at > night and verdict.tag_version in {None, one.id}
    ]
    tagged = [one.start for one in of_digest if one.start > night]
    return Replayed(
        verdict.tag, verdict.digest, night, verdict.why, min(pulls, default=None), min(tagged, default=None)
    )
