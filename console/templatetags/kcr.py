"""Sizes, counts, times, digests and icons."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from django import template
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, pgettext
from lucide.templatetags.lucide import lucide

from registry.cleanup import rules
from registry.oci.configs import MAX_ENTRIES, Some

if TYPE_CHECKING:
    from collections.abc import Sequence

register = template.Library()

UNITS = ("kB", "MB", "GB", "TB", "PB")
SHORT = 12
# In the order in which they are looked for: most browsers also claim to be another one.
BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
SYSTEMS = (
    *(("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad")),
    *(("Windows", "Windows"), ("Mac OS", "macOS"), ("Linux", "Linux")),
)


@register.simple_tag
def icon(name: str, size: int = 16) -> SafeString:
    """An icon of the library; it says nothing to a screen reader, so words must stand beside it."""
    return _drawn(name + "", size)  # a name of a template is a safe string, which would make another entry


@lru_cache(maxsize=256)
def _drawn(name: str, size: int) -> SafeString:
    drawn = lucide(name, size=size, aria_hidden="true")
    return SafeString("".join(line.strip() for line in drawn.splitlines()))  # a list draws hundreds


@register.filter
def count(number: int) -> str:
    """12345 as 12,345."""
    return formats.number_format(number, force_grouping=True)


@register.filter
def size(number: int | str | None) -> SafeString:
    """Bytes as docker shows them (68.4 MB, thousands of 1,000), exact in the title."""
    if number is None or number == "":  # "": what a template makes of something that is not there
        return SafeString("–")
    exact_size = ngettext("%(count)s byte", "%(count)s bytes", int(number)) % {"count": count(int(number))}
    return format_html('<span class="nowrap" title="{}">{}</span>', exact_size, plain_size(int(number)))


@register.filter
def plain_size(number: int) -> str:
    """Bytes as docker shows them, as plain text."""
    value, unit = float(number), "B"
    for unit_above in UNITS:
        if value < 999.5:
            break
        value, unit = value / 1000, unit_above
    digits = 0 if unit == "B" or value >= 99.95 else 1
    return f"{formats.number_format(round(value, digits), decimal_pos=digits)} {unit}"


@register.filter
def ago(moment: datetime | None) -> SafeString:
    """How long ago, or in how long, with the exact time in the title."""
    if moment is None:
        return SafeString('<span class="quiet">–</span>')
    return format_html(
        '<time class="nowrap" datetime="{}" title="{}">{}</time>', moment.isoformat(), exact(moment), _distance(moment)
    )


@register.filter
def exact(moment: datetime) -> str:
    """Date, time and zone."""
    local = timezone.localtime(moment)
    zone = "UTC" if local.utcoffset() == datetime.now(UTC).utcoffset() else local.tzname()
    # Translators: date and time in the letters of Django's "date" filter
    spelled = formats.date_format(local, pgettext("format", "j M Y, H:i"))
    return f"{spelled} {zone}"


@register.filter
def day(moment: datetime) -> str:
    """The date alone."""
    value = timezone.localtime(moment) if isinstance(moment, datetime) else moment
    # Translators: a date in the letters of Django's "date" filter
    return formats.date_format(value, pgettext("format", "j M Y"))


@register.filter
def day_alone(value: date) -> str:
    """A day without its year."""
    # Translators: a date without its year in the letters of Django's "date" filter
    return formats.date_format(value, pgettext("format", "j M"))


@register.filter
def until(moment: datetime) -> SafeString:
    """The day on which something ends, with the exact time in the title."""
    return format_html(
        '<time class="nowrap" datetime="{}" title="{}">{}</time>', moment.isoformat(), exact(moment), day(moment)
    )


@register.filter
def short(digest: str) -> str:
    """The first twelve digits of a digest."""
    return digest.partition(":")[2][:SHORT] or digest[:SHORT]


@register.filter
def role_words(role: str) -> str:
    """A role in a word."""
    words = {
        "owner": _("Owner"),
        "admin": _("Admin"),
        "member": _("Member"),
        "reader": _("Reader"),
        "viewer": _("Viewer"),
    }
    return words.get(role, role)


@register.filter
def because_words(reason: str) -> str:
    """Why somebody may push or pull (``people.reason``), in a few words."""
    words = {
        "organization-owner": _("Owner of the organization"),
        "project-admin": _("Admin of the project"),
        "project-member": _("Member of the project"),
        "project-reader": _("Reader of the project"),
        "repository-member": _("Repository Member"),
        "repository-viewer": _("Repository Viewer"),
        "public": _("The repository is public"),
    }
    return words.get(reason, reason)


@register.filter
def outcome_words(outcome: str) -> str:
    """What a cleanup decided about a tag, in a word."""
    words = {"kept": _("Kept"), "doomed": _("To go"), "deleted": _("Deleted"), "left": _("Left alone")}
    return words.get(outcome, outcome)


@register.filter
def reason_words(reason: str) -> str:
    """Why a cleanup policy takes or keeps a tag: the English words of ``registry.rules``, said in another language."""
    for words, pattern in _reasons():
        if found := pattern.fullmatch(reason):
            return _(words) % found.groupdict()
    return reason


@cache
def _reasons() -> list[tuple[str, re.Pattern[str]]]:
    return [(words, re.compile(re.sub(r"%\\\((\w+)\\\)s", r"(?P<\1>.+)", re.escape(words)))) for words in rules.REASONS]


@register.filter
def client_words(client: str) -> str:
    """Who says so itself, in a word or two: "Firefox (Linux)", "console, Chrome (macOS)", "docker/27.3.1"."""
    if "Mozilla/" not in client:
        return client.partition(" ")[0]
    door = "console, " if client.startswith("console") else ""
    browser = next((words for mark, words in BROWSERS if mark in client), _("a browser"))
    system = next((words for mark, words in SYSTEMS if mark in client), "")
    return f"{door}{browser} ({system})" if system else f"{door}{browser}"


@register.filter
def lead(text: str) -> SafeString:
    """A text whose beginning, up to the first colon, is set in bold."""
    first, colon, rest = str(text).partition(": ")
    return format_html("<strong>{}</strong><br>{}", first, rest) if colon else format_html("{}", text)


@register.filter
def split(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


@register.inclusion_tag("console/parts/_digest.html")
def digest(value: str, link: str = "") -> dict[str, Any]:
    """A digest: twelve digits, all of it in the title and on the clipboard."""
    return {"value": value, "link": link}


@register.inclusion_tag("console/parts/_copy.html")
def copy(value: str, what: str = "") -> dict[str, Any]:
    """A button that copies the text."""
    return {"value": value, "what": what}


@register.simple_tag
def and_more(entries: Some[Any] | Sequence[Any]) -> str:
    """How many entries the page leaves out: of a list, those after the first MAX_ENTRIES; "" when there are none."""
    number = entries.more if isinstance(entries, Some) else max(0, len(entries) - MAX_ENTRIES)
    if not number:
        return ""
    words = ngettext("and %(count)s more", "and %(count)s more", number) % {"count": count(number)}
    return format_html('<span class="quiet small">{}</span>', words)


@register.inclusion_tag("console/parts/_field.html")
def field(bound: Any) -> dict[str, Any]:
    """A field of a form with its label, help and errors."""
    return {"field": bound, "kind": bound.field.widget.__class__.__name__}


@register.inclusion_tag("console/parts/_sort.html", takes_context=True)
def sort_by(context: template.Context, listing: Any, name: str, words: str, kind: str = "") -> dict[str, Any]:
    """The head of a column that a list may be sorted by; ``kind`` "number": set to the right."""
    is_now = listing.sort == name
    return {"request": context["request"], "name": name, "words": words, "kind": kind, "is_now": is_now}


def _distance(moment: datetime) -> str:
    seconds = (timezone.now() - moment).total_seconds()
    future, seconds = seconds < 0, abs(seconds)
    if seconds < 45:
        return _("in a moment") if future else _("just now")
    for length, limit, words in (
        (60, 60, (_("in %(n)s min"), _("%(n)s min ago"))),
        (3600, 24, (_("in %(n)s h"), _("%(n)s h ago"))),
        (86400, 30, (_("in %(n)s d"), _("%(n)s d ago"))),
    ):
        number = max(1, round(seconds / length))
        if number < limit:
            return words[0 if future else 1] % {"n": number}
    months = max(1, round(seconds / 2_629_800))
    if months < 12:
        ahead, back = (
            ngettext("in %(n)s month", "in %(n)s months", months),
            ngettext("%(n)s month ago", "%(n)s months ago", months),
        )
        return (ahead if future else back) % {"n": months}
    years = max(1, round(seconds / 31_557_600))
    ahead, back = (
        ngettext("in %(n)s year", "in %(n)s years", years),
        ngettext("%(n)s year ago", "%(n)s years ago", years),
    )
    return (ahead if future else back) % {"n": years}
