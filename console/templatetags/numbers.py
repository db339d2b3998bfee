"""Counts and sizes."""

from __future__ import annotations

from functools import lru_cache

from django import template
from django.utils import formats
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import get_language, ngettext

register = template.Library()
UNITS = ("kB", "MB", "GB", "TB", "PB")


@register.filter
def count(number: int) -> str:
    """12345 as 12,345."""
    return _grouped(number, get_language())


@lru_cache(maxsize=1024, typed=True)
def _grouped(number: int, _language: str | None) -> str:
    return formats.number_format(number, force_grouping=True)


@register.filter
def size(number: int | str | None) -> SafeString:
    """Bytes as docker shows them (68.4 MB, thousands of 1,000), exact in the title."""
    if number is None or number == "":  # "": what a template makes of something that is not there
        return SafeString("–")
    return _sized(int(number), get_language())


@lru_cache(maxsize=1024)
def _sized(number: int, _language: str | None) -> SafeString:
    exact_size = ngettext("%(count)s byte", "%(count)s bytes", number) % {"count": count(number)}
    return format_html('<span class="nowrap" title="{}">{}</span>', exact_size, plain_size(number))


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
def signed_size(number: int) -> str:
    """A change of bytes with its sign: +1.2 MB, -300 kB, 0 B."""
    return f"{'+' if number > 0 else '-' if number else ''}{plain_size(abs(number))}"
