"""Outcomes and reasons of a cleanup in words."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from django import template
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.templatetags.digests import short
from console.templatetags.times import day
from registry.models import CleanupLine, CleanupRun

if TYPE_CHECKING:
    from registry.cleanup.rules import Why

register = template.Library()
DAY_LENGTH = len("2026-10-17")
Problem, Reason = CleanupRun.Problem, CleanupLine.Reason


@register.filter
def outcome_words(outcome: str) -> str:
    """The outcome of a cleanup for a tag, in a word."""
    words = {"kept": _("Kept"), "doomed": _("To delete"), "deleted": _("Deleted"), "left": _("Skipped")}
    return words.get(outcome, outcome)


@register.filter
def reason_words(why: CleanupLine | Why) -> str:
    """Why a cleanup deletes or keeps a tag, in a few words."""
    facts: dict[str, Any] = dict(why.facts)
    days, since = facts.get("days"), _day(str(facts.get("since", "")))
    facts |= {"day": since, "days": days, "digest": short(str(facts.get("digest", "")))}
    number = days if isinstance(days, int) else 0
    words: dict[str, str] = {
        Reason.ATTACHED: _("attached to %(digest)s"),
        Reason.PATTERN: _("its name matches %(pattern)s"),
        Reason.TAG_RULE: _("kept by rule %(number)s of %(of)s: %(pattern)s"),
        Reason.NEWEST: _("one of the newest %(number)s of its image"),
        Reason.NOT_NEWEST: _("the newest %(number)s of its image are kept; this is not one of them"),
        Reason.NO_RULE: _("no rule matches"),
        Reason.OLD: ngettext(
            "older than %(days)s day: last pushed %(day)s", "older than %(days)s days: last pushed %(day)s", number
        ),
        Reason.UNPULLED: ngettext(
            "not pulled for %(days)s day: last used %(day)s", "not pulled for %(days)s days: last used %(day)s", number
        ),
        Reason.UNTAGGED: _("untagged since %(day)s"),
        Reason.UNTAGGED_LONG: ngettext(
            "untagged since %(day)s, more than %(days)s day",
            "untagged since %(day)s, more than %(days)s days",
            number,
        ),
        Reason.CHANGED: _("skipped: it was pushed, pulled, moved or deleted since it was judged"),
        Reason.NEEDED: _("skipped: an index refers to it"),
        Reason.GONE: _("skipped: it was deleted already"),
    }
    return words[why.reason] % facts if why.reason in words else str(facts.get("words", ""))


@register.filter
def dismissal_words(run: CleanupRun) -> str:
    """Why a run was dismissed."""
    words: dict[str, str] = {
        Problem.POLICY_CHANGED: _("the policy was changed"),
        Problem.OTHER_APPROVED: _("an earlier run was approved"),
        Problem.NOT_APPROVED: _("not approved before the next run"),
        Problem.DISMISSED: _("by %(person)s") % {"person": run.problem_detail},
    }
    return words.get(run.problem, run.problem_detail)


def _day(text: str) -> str:
    """An ISO date or time as a date in words."""
    try:
        return day(date.fromisoformat(text) if len(text) == DAY_LENGTH else datetime.fromisoformat(text))
    except ValueError:
        return text
