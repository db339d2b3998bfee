"""Sizes, counts, times, digests and icons."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import template
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from lucide.templatetags.lucide import lucide

register = template.Library()

UNITS = ("kB", "MB", "GB", "TB", "PB")
SHORT = 12


@register.simple_tag
def icon(name: str, size: int = 16) -> SafeString:
    """An icon of the library; it says nothing to a screen reader, so words must stand beside it."""
    return SafeString(lucide(name + "", size=size, aria_hidden="true", focusable="false"))


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
    return f"{formats.date_format(local, 'DATETIME_FORMAT')} {zone}"


@register.filter
def day(moment: datetime) -> str:
    """The date alone."""
    value = timezone.localtime(moment) if isinstance(moment, datetime) else moment
    return formats.date_format(value, "DATE_FORMAT")


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


@register.inclusion_tag("console/parts/_field.html")
def field(bound: Any) -> dict[str, Any]:
    """A field of a form with its label, help and errors."""
    return {"field": bound, "kind": bound.field.widget.__class__.__name__}


@register.inclusion_tag("console/parts/_sort.html", takes_context=True)
def sort_by(context: template.Context, listing: Any, name: str, words: str) -> dict[str, Any]:
    """The head of a column that a list may be sorted by."""
    return {"request": context["request"], "name": name, "words": words, "is_now": listing.sort == name}


def _distance(moment: datetime) -> str:
    seconds = (timezone.now() - moment).total_seconds()
    future, seconds = seconds < 0, abs(seconds)
    if seconds < 45:
        return _("in a moment") if future else _("just now")
    for length, limit, words in (
        (60, 60, (_("in %(n)s min"), _("%(n)s min ago"))),
        (3600, 24, (_("in %(n)s h"), _("%(n)s h ago"))),
        (86400, 30, (_("in %(n)s d"), _("%(n)s d ago"))),
        (2_629_800, 12, (_("in %(n)s months"), _("%(n)s months ago"))),
    ):
        number = max(1, round(seconds / length))
        if number < limit:
            return words[0 if future else 1] % {"n": number}
    years = max(1, round(seconds / 31_557_600))
    return (_("in %(n)s years") if future else _("%(n)s years ago")) % {"n": years}
