"""What scans found, in words, letters and colours. Nothing here says "good" of what is not known."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django import template
from django.utils import timezone
from django.utils.formats import localize
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language, gettext_lazy, ngettext
from django.utils.translation import gettext as _

from console.templatetags.charts import DAYS_BELOW, Scale, scale, segments
from console.templatetags.icons import icon
from console.templatetags.numbers import count
from console.templatetags.times import day
from registry.models import Severity
from scanning.models import Acceptance, DatabaseRefresh, Finding, Report, Scan
from scanning.models.scans import Problem
from scanning.notifications.words import limits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from django.utils.functional import Promise

    from registry.models import Manifest

register = template.Library()

CHART_HEIGHT = 200
LABEL = 13  # how far two labels stand apart at least


@dataclass(frozen=True, slots=True)
class Count:
    """How many findings of one severity: ``name`` is its colour, ``letter`` and ``words`` say it without.

    ``shown``: the number as the language of the words writes it.
    """

    name: str
    letter: str
    words: str
    number: int
    shown: str


@dataclass(frozen=True, slots=True)
class Look:
    """What is known of a digest. ``state`` is a key of ``_STATES``, or "found" if there are unaccepted findings.

    ``has_result``: a scan has succeeded, the last one or one before it. ``gaps``: short words for why there may be more
    than ``counts`` says; empty unless there are findings.
    """

    state: str
    counts: Sequence[Count]
    words: str
    is_outdated: bool = False
    is_open: bool = False
    has_result: bool = False
    gaps: Sequence[str] = ()


_STATES = {
    "unscanned": gettext_lazy("Not scanned"),
    "waiting": gettext_lazy("Scan waiting"),
    "running": gettext_lazy("Scanning"),
    "failed": gettext_lazy("Scan failed"),
    "unsupported": gettext_lazy("Unsupported"),
    "unrecognised": gettext_lazy("No packages found"),
    "uncovered": gettext_lazy("System not covered"),
    "end_of_life": gettext_lazy("End of life"),
    "partial": gettext_lazy("Known in part"),
    "clean": gettext_lazy("None found"),
}


def counts_of(numbers: Mapping[str, int]) -> list[Count]:
    """The severities that were found, the worst first."""
    language = get_language()
    return [_counted(name, numbers[name], language) for name in Report.COUNTS if numbers.get(name)]


@lru_cache(maxsize=1024)
def _counted(name: str, number: int, _language: str | None) -> Count:
    return Count(name, name[0].upper(), _word(name), number, count(number))


def is_outdated(report: Report | None) -> bool:
    """Whether a result rests on a database that is too old to be trusted without a look at its age."""
    if report is None or report.database_at is None or report.state == Report.State.UNSUPPORTED:
        return False
    return timezone.now() - report.database_at > DatabaseRefresh.STALE


@register.simple_tag(name="scan_look")
def look_at(manifest: Manifest) -> Look:
    """What is known of a manifest. It needs ``report``, and ``open_scan`` ("waiting", "running" or "")."""
    report: Report | None = getattr(manifest, "report", None)
    open_scan: str = getattr(manifest, "open_scan", "")
    state = _state(report, open_scan)
    counts = counts_of({name: getattr(report, name) for name in Report.COUNTS}) if report else []
    shown = counts if state == "found" else []
    has_result = report is not None and report.state != Report.State.FAILED
    gaps = _gaps(report) if report and state == "found" else []
    return Look(state, shown, _title(report, state, shown), is_outdated(report), bool(open_scan), has_result, gaps)


def _state(report: Report | None, open_scan: str) -> str:
    """The only place that decides the state of a scan's result."""
    if report is None:
        return open_scan or "unscanned"
    if report.state == Report.State.FAILED:
        return open_scan or "failed"
    if report.state == Report.State.UNSUPPORTED:
        return "unsupported"
    if report.total:
        return "found"
    if report.state == Report.State.UNCOVERED:
        return "uncovered"
    if report.state == Report.State.UNRECOGNISED:
        return "unrecognised"
    if report.is_end_of_life:
        return "end_of_life"
    return "partial" if report.unknown_parts else "clean"


def _gaps(report: Report) -> list[str]:
    """Why a result with findings may lack some, in short words."""
    gaps = []
    if report.state == Report.State.UNCOVERED or report.unknown_parts:
        gaps.append(_("Incomplete"))
    if report.is_end_of_life:
        gaps.append(_("End of life"))
    return gaps


def _title(report: Report | None, state: str, counts: Sequence[Count]) -> str:
    said = [f"{each.words} {each.shown}" for each in counts] or [str(_STATES[state])]
    if report is None:
        return ", ".join(said)
    said += limits(report.state, report.system, is_end_of_life=report.is_end_of_life)
    if report.fixable:
        said.append(_("%(count)s with a fix") % {"count": count(report.fixable)})
    if report.accepted:
        said.append(_("%(count)s accepted") % {"count": count(report.accepted)})
    if report.unknown_parts:
        words = ngettext(
            "nothing known of %(count)s platform", "nothing known of %(count)s platforms", report.unknown_parts
        )
        said.append(words % {"count": report.unknown_parts})
    if report.problem and state not in {"failed", "unsupported"}:
        said.append(_("the last scan failed"))
    if report.database_at:
        said.append(_("as of %(day)s") % {"day": day(report.database_at)})
    return ", ".join(said)


# Lists draw these badges hundreds of times. A template would take five times as long.
@register.simple_tag
def scan_badge(manifest: Manifest | None, link: str = "", most: int = len(Report.COUNTS)) -> SafeString:
    """Letters and counts, or a word where there are none; a link to all of it.

    ``most``: how many severities are shown; the rest is one number, and the title has all.
    """
    if manifest is None:
        return SafeString('<span class="quiet">–</span>')
    look = look_at(manifest)
    is_folded = most < len(Report.COUNTS)
    parts = _found(look, most, is_folded=is_folded) if look.counts else [_state_badge(look)]
    if look.is_outdated:
        words = _("Out of date")
        parts.append(_hint("clock", words) if is_folded else _badge("hatched", "clock", words))
    if look.is_open and look.counts:
        parts.append(
            format_html('<span class="quiet" title="{}">{}</span>', _("A scan is on its way"), icon("loader", 12))
        )
    kind = "severities is-outdated" if look.is_outdated else "severities"
    shown = SafeString(" ".join(parts))
    if link:
        return format_html('<a href="{}" class="{}" title="{}">{}</a>', link, kind, look.words, shown)
    return format_html('<span class="{}" title="{}">{}</span>', kind, look.words, shown)


def _found(look: Look, most: int, *, is_folded: bool) -> list[SafeString]:
    """The worst severities with their counts, the number of the others, and what is not known."""
    parts = [_drawn(each) for each in look.counts[:most]]
    if rest := sum(each.number for each in look.counts[most:]):
        parts.append(format_html('<span class="quiet small">+{}</span>', count(rest)))
    parts += [_hint("circle-question-mark", gap) if is_folded else _badge("warn", "", gap) for gap in look.gaps]
    return parts


@register.simple_tag
def worst_badge(worst: Mapping[str, Any]) -> SafeString:
    """The worst severity in an image or repository and in how many tags, or a word. ``worst``: ``scans.worst_of``."""
    if not worst["tags"]:
        return SafeString('<span class="severities"><span class="quiet">–</span></span>')
    parts = [_worst_part(worst)]
    if worst["severity"] and worst["unknown"]:
        title = _("not scanned, failed, or a system that is not covered")
        words = _("· %(number)s unknown") % {"number": count(worst["unknown"])}
        parts.append(format_html('<span class="quiet small" title="{}">{}</span>', title, words))
    if worst["is_outdated"]:
        parts.append(_badge("hatched", "clock", _("Out of date")))
        return format_html('<span class="severities is-outdated">{}</span>', SafeString(" ".join(parts)))
    return format_html('<span class="severities">{}</span>', SafeString(" ".join(parts)))


def _worst_part(worst: Mapping[str, Any]) -> SafeString:
    """The worst severity with the number of tags, or what is not known of the tags."""
    unknown, tags = worst["unknown"], worst["tags"]
    if worst["severity"]:
        numbers = {"number": count(worst["number"]), "total": count(tags)}
        words = _("in %(number)s of %(total)s tags") % numbers
        return severity_badge(worst["severity"]) + format_html(' <span class="quiet small">{}</span>', words)
    if unknown and worst["is_uncovered"]:
        return _badge("warn", "circle-question-mark", _("System not covered"))
    if unknown == tags:
        return _badge("", "", _("Not scanned"))
    if unknown:
        return _badge("warn", "circle-question-mark", _("Known in part"))
    if worst["is_end_of_life"]:
        return _badge("warn", "circle-question-mark", _("End of life"))
    if worst["is_recognised"]:
        return _badge("" if worst["is_outdated"] else "good", "check", _("None found"))
    return _badge("warn", "circle-question-mark", _("No packages found"))


@lru_cache(maxsize=1024)
def _drawn(each: Count) -> SafeString:
    return format_html(
        '<span class="severity {}"><b aria-hidden="true">{}</b><span class="visually-hidden">{}</span> {}</span>',
        each.name,
        each.letter,
        each.words,
        each.shown,
    )


_STATE_BADGES = {  # by state: the colour of the badge, and its icon; a state that is not here has neither
    "clean": ("good", "check"),
    "failed": ("bad", "circle-alert"),
    "uncovered": ("warn", "circle-question-mark"),
    "unrecognised": ("warn", "circle-question-mark"),
    "end_of_life": ("warn", "circle-question-mark"),
    "partial": ("warn", "circle-question-mark"),
    "waiting": ("accent", "loader"),
    "running": ("accent", "loader"),
}


def _state_badge(look: Look) -> SafeString:
    """The word for a digest without findings. An outdated result is not good."""
    colour, picture = _STATE_BADGES.get(look.state, ("", ""))
    return _badge("" if look.state == "clean" and look.is_outdated else colour, picture, str(_STATES[look.state]))


def _badge(colour: str, picture: str, words: str) -> SafeString:
    kind = f"badge {colour}" if colour else "badge"
    drawn = icon(picture, 12) + SafeString(" ") if picture else ""
    return format_html('<span class="{}">{}{}</span>', kind, drawn, words)


def _hint(picture: str, words: str) -> SafeString:
    """An icon with words for the pointer and for screen readers."""
    return format_html(
        '<span class="quiet" title="{0}">{1} <span class="visually-hidden">{0}</span></span>', words, icon(picture, 14)
    )


@register.simple_tag
def severity_badge(severity: int) -> SafeString:
    """One severity: its letter and its word."""
    return severity_score(severity, None)


@register.simple_tag
def severity_score(severity: int, score: float | None) -> SafeString:
    """One severity with its CVSS score: the letter and the number, or the word without a score."""
    return _scored(severity, score, get_language())


@lru_cache(maxsize=1024)
def _scored(severity: int, score: float | None, _language: str | None) -> SafeString:
    name = Severity(severity).name.lower()
    words, title = _word(name), ""
    if score:
        shown = localize(score)
        title = format_html(' title="{}, CVSS {}"', words, shown)
        words = format_html('<span class="visually-hidden">{}</span> {}', words, shown)
    return format_html(
        '<span class="severity {}"{}><b aria-hidden="true">{}</b> {}</span>', name, title, name[0].upper(), words
    )


@register.inclusion_tag("console/parts/_counts.html")
def severity_counts(numbers: Any) -> dict[str, Any]:
    """Letters and counts of an object or dictionary with a number for each severity."""
    return {"counts": counts_of(_numbers(numbers))}


@register.inclusion_tag("console/parts/_severities.html")
def severities(numbers: Any) -> dict[str, Any]:
    """A bar of findings by severity with a legend."""
    counts = counts_of(_numbers(numbers))
    return {
        "counts": counts,
        "segments": segments([each.number for each in counts], counts, [each.name for each in counts]),
    }


def _numbers(numbers: Any) -> dict[str, int]:
    return {name: numbers[name] if isinstance(numbers, dict) else getattr(numbers, name) for name in Report.COUNTS}


def _word(name: str) -> str:
    return str(Severity[name.upper()].label)


@register.inclusion_tag("console/parts/_severity_chart.html")
def severity_chart(days: Sequence[tuple[date, Any]], words: str) -> dict[str, Any]:
    """Areas of findings by severity over days, stacked with the worst below.

    A day without a row is drawn as the last one that has one; before the first row there is nothing.
    """
    names = list(Report.COUNTS)
    rows = [(when, None if row is None else [int(getattr(row, name)) for name in names]) for when, row in days]
    axis = scale(max((sum(numbers) for _day, numbers in rows if numbers), default=0), CHART_HEIGHT - DAYS_BELOW)
    step = 100 / max(1, len(rows))
    columns, drawn, last = [], [], list[int]()
    for index, (when, numbers) in enumerate(rows):
        last = last if numbers is None else numbers
        drawn.append(last)
        title = ", ".join(f"{each.words} {each.shown}" for each in _named(names, numbers))
        columns.append(
            {
                "x": str(round(index * step, 3)),
                "day": when,
                "title": title or (_("no record") if numbers is None else _("none")),
                "is_named": index % 21 == len(rows) % 21 and index < len(rows) - 10,
            }
        )
    return {
        "columns": columns,
        "step": str(round(step, 3)),
        "areas": [
            {"name": name, "points": _area(drawn, number, step, axis)}
            for number, name in enumerate(names)
            if any(each and each[number] for each in drawn)
        ],
        "labels": _labels(names, last, axis),
        "words": words,
        "now": ", ".join(f"{each.words} {each.shown}" for each in _named(names, last)) or _("none"),
        "is_empty": not any(any(numbers) for numbers in drawn),
        "days": len(rows),
        "ticks": axis.ticks,
        "base": axis.height,
        "height": CHART_HEIGHT,
    }


def _named(names: list[str], numbers: list[int] | None) -> list[Count]:
    return counts_of(dict(zip(names, numbers or [], strict=False)))


def _area(days: list[list[int]], severity: int, step: float, axis: Scale) -> str:
    """The points around one severity: its upper edge from the first day to the last, its lower edge back."""
    upper, lower = [], []
    for index, numbers in enumerate(days):
        below, above = sum(numbers[:severity]), sum(numbers[: severity + 1])
        for x in (index * step, (index + 1) * step):
            upper.append(f"{x:.2f},{axis.y(above)}")
            lower.append(f"{x:.2f},{axis.y(below)}")
    return " ".join([*upper, *reversed(lower)])


def _labels(names: list[str], numbers: list[int], axis: Scale) -> list[dict[str, Any]]:
    """What the areas are on the last day, beside them: from below upwards, never one over another."""
    labels, lowest, below = [], float(axis.height), 0
    for name, number in zip(names, numbers, strict=False):
        if number:
            y = min(axis.y(below + number / 2) + 4, lowest)
            labels.append({"y": round(y, 2), "letter": name[0].upper(), "number": number})
            lowest = y - LABEL
        below += number
    return labels


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@register.filter
def severity_words(severity: int) -> str:
    """A severity in a word."""
    return str(Severity(severity).label)


@register.filter
def status_words(status: str) -> str:
    """The status that the maker of a package gives a vulnerability."""
    return {
        Finding.Status.UNKNOWN: _("unknown"),
        Finding.Status.NOT_AFFECTED: _("not affected"),
        Finding.Status.AFFECTED: _("affected, no fix yet"),
        Finding.Status.FIXED: _("fixed"),
        Finding.Status.UNDER_INVESTIGATION: _("under investigation"),
        Finding.Status.WILL_NOT_FIX: _("will not be fixed"),
        Finding.Status.FIX_DEFERRED: _("fix deferred"),
        Finding.Status.END_OF_LIFE: _("end of life"),
    }.get(Finding.Status(status) if status in Finding.Status.values else Finding.Status.UNKNOWN, status)


@register.filter
def trigger_words(trigger: int) -> str:
    """Why a scan was asked for."""
    return {Scan.Trigger.MANUAL: _("by hand"), Scan.Trigger.PUSH: _("after a push"), Scan.Trigger.DAILY: _("daily")}[
        Scan.Trigger(trigger)
    ]


@register.filter
def justification_words(justification: str) -> str:
    """The justification of a risk acceptance in words."""
    words: dict[str, str | Promise] = {
        Acceptance.Justification.COMPONENT: _("Not affected: the component is not in the image"),
        Acceptance.Justification.CODE: _("Not affected: the vulnerable code is not in the image"),
        Acceptance.Justification.PATH: _("Not affected: the vulnerable code is never run"),
        Acceptance.Justification.CONTROLLED: _("Not affected: an attacker cannot reach the vulnerable code"),
        Acceptance.Justification.MITIGATED: _("Not affected: something else prevents it already"),
    }
    return str(words.get(justification, _("Risk accepted")))


@register.filter
def problem_words(problem: str) -> str:
    """Why a scan failed."""
    return {
        Problem.DATABASE_MISSING: _("There is no vulnerability database yet"),
        Problem.DATABASE_BROKEN: _("The vulnerability database cannot be read"),
        Problem.SCANNER_MISSING: _("Trivy is not installed where the scanner runs"),
        Problem.TIMEOUT: _("The scan took too long and was stopped"),
        Problem.MEMORY: _("The scan needed more memory than it may have"),
        Problem.DISK: _("The scan wrote more than it may"),
        Problem.KILLED: _("Something ended the scanner from outside"),
        Problem.DAMAGED: _("The image cannot be read"),
        Problem.BYTES_MISSING: _("Bytes of a layer are lost"),
        Problem.ELSEWHERE: _("Some layers are stored elsewhere"),
        Problem.WORKER_LOST: _("The worker ended in the middle of it, several times"),
        Problem.GONE: _("The digest was deleted meanwhile"),
        Problem.OTHER: _("The scanner failed"),
    }.get(Problem(problem) if problem in Problem.values else Problem.OTHER, problem)


@register.filter
def problem_hint(problem: str) -> str:
    """What to do about a problem, in one sentence."""
    from_operator = _("An operator sets KCR_TRIVY_DB_REPOSITORY, or loads one with manage.py loadvulnerabilitydb.")
    return {
        Problem.DATABASE_MISSING: from_operator,
        Problem.DATABASE_BROKEN: from_operator,
        Problem.SCANNER_MISSING: _("Ask an operator to install Trivy beside the worker, then retry."),
        Problem.TIMEOUT: _("Retry; if it happens again, make the image smaller or split it."),
        Problem.MEMORY: _("Retry; if it happens again, look for a huge package file in the image."),
        Problem.DISK: _("Look for a file that is huge when unpacked, remove it and push again."),
        Problem.KILLED: _("Retry; if it happens again, the worker's machine is short of memory."),
        Problem.DAMAGED: _("Pull it to check whether it can be unpacked, then build and push it again."),
        Problem.BYTES_MISSING: _("Push the image again: it brings the bytes back."),
        Problem.ELSEWHERE: _("Push it with all its layers: layers that are stored elsewhere cannot be scanned."),
        Problem.WORKER_LOST: _("Retry; if it happens again, an operator looks into the worker's log."),
        Problem.GONE: _("No action is needed. Recover the digest if you still need it."),
        Problem.OTHER: _("Retry; if it happens again, show the detail to an operator."),
    }[Problem(problem) if problem in Problem.values else Problem.OTHER]


@register.simple_tag
def severity_choices() -> list[tuple[str, str]]:
    """Minimum severities, for a filter."""
    return [(name, str(Severity[name.upper()].and_above)) for name in ("critical", "high", "medium", "low")]


@register.simple_tag
def status_choices() -> list[tuple[str, str]]:
    """All statuses, for a filter."""
    return [(status, status_words(status)) for status in Finding.Status.values]


@register.simple_tag
def outside(address: str, words: str) -> SafeString:
    """A link to another site if the address is http or https; the words alone otherwise."""
    if not address.startswith(("https://", "http://")):
        return format_html("{}", words)
    return format_html('<a href="{}" rel="noopener noreferrer" target="_blank">{}</a>', address, words)
