"""Dates, times and how long ago they were."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from functools import lru_cache

from django import template
from django.utils import formats, timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language, pgettext
from django.utils.translation import gettext as _

register = template.Library()
DATED = 7  # days


@register.filter
def ago(moment: datetime | None) -> SafeString:
    """How long ago, or in how long, or the date, with the exact time in the title."""
    if moment is None:
        return SafeString('<span class="quiet">–</span>')
    return format_html(
        '<time class="nowrap" datetime="{}" title="{}">{}</time>', moment.isoformat(), exact(moment), _distance(moment)
    )


@register.filter
def near(moment: datetime) -> SafeString:
    """``ago`` for a moment that is less than DATED days away, else nothing: to stand beside a date."""
    return ago(moment) if abs(timezone.now() - moment) < timedelta(DATED) else SafeString("")


@register.filter
def exact(moment: datetime) -> str:
    """Date, time and zone."""
    local = timezone.localtime(moment)
    zone = "UTC" if not local.utcoffset() else local.tzname()
    return f"{_spelled(local.replace(second=0, microsecond=0, tzinfo=None), get_language())} {zone}"


@lru_cache(maxsize=1024)
def _spelled(minute: datetime, _language: str | None) -> str:
    # Translators: date and time in the letters of Django's "date" filter
    return formats.date_format(minute, pgettext("format", "j M Y, H:i"))


@register.filter
def day(moment: datetime | date) -> str:
    """The date alone."""
    value = timezone.localtime(moment).date() if isinstance(moment, datetime) else moment
    return _written(value, get_language())


@lru_cache(maxsize=512)
def _written(value: date, _language: str | None) -> str:
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


def _distance(moment: datetime) -> str:
    """How far away the moment is, in whole units that have passed; from DATED days on its date."""
    distance = timezone.now() - moment
    future, seconds = distance < timedelta(0), int(abs(distance).total_seconds())
    if seconds < 60:
        return _("in a moment") if future else _("just now")
    if seconds < 3600:
        return (_("in %(n)s min") if future else _("%(n)s min ago")) % {"n": seconds // 60}
    if seconds < 86400:
        return (_("in %(n)s h") if future else _("%(n)s h ago")) % {"n": seconds // 3600}
    if seconds < DATED * 86400:
        return (_("in %(n)s d") if future else _("%(n)s d ago")) % {"n": seconds // 86400}
    return day(moment)
