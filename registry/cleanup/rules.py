"""Apply the rules of a cleanup policy to the tags of one image. No database.

    1. An attached tag (sha256-….sig, see registry.attachments) stays while the digest that it is attached to is there,
       and goes with it. It takes no place among the newest.
    2. A tag whose name matches a pattern stays.
    3. Of the others the newest ``keep_last`` stay. The age of a tag is the time since it was last pushed or moved.
    4. Of the rest a tag is deleted when it is older than ``tag_days``, or was not pulled for ``unpulled_days``. A
       policy that has neither rule but ``keep_last`` deletes all of the rest.
    5. A digest that no tag has named for ``untagged_days`` is deleted, with its untagged children and referrers; never
       one that an index names, live or deleted, nor one that refers to another digest of the image.

Reasons are sentences made from one of REASONS, so that a stored reason can be shown in another language.
``now`` is an argument, so registry.cleanup.replay can apply the rules to the past.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from django.utils.translation import gettext_noop

from registry.oci import names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from datetime import datetime

    from registry.models import CleanupPolicy

_BELONGS = gettext_noop("belongs to %(subject)s")
_MATCHES = gettext_noop("its name matches %(pattern)s")
_NEWEST = gettext_noop("one of the newest %(number)s of its image")
_NOT_NEWEST = gettext_noop("the newest %(number)s of its image are kept, and this is none of them")
_NO_RULE = gettext_noop("no rule takes it")
_UNTAGGED = gettext_noop("no tag names it since %(day)s")
_OLD = (
    gettext_noop("older than %(days)s day: last pushed %(day)s"),
    gettext_noop("older than %(days)s days: last pushed %(day)s"),
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
    reason: str


def judge(
    policy: CleanupPolicy,
    tags: Iterable[TagVersion],
    untagged: Iterable[Untagged],
    subjects: Collection[str],
    now: datetime,
) -> list[Verdict]:
    """Return the verdicts on all live tags of an image, newest first, then on its untagged digests.

    ``subjects``: those of ``names.tag_subject`` with which digests of the image begin.
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


def _kept(policy: CleanupPolicy, tag: TagVersion, subjects: Collection[str]) -> str:
    subject = names.tag_subject(tag.name)
    if subject and subject in subjects and not tag.digest.startswith(subject):
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
