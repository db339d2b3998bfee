"""Digests, and buttons that copy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from collections.abc import Sequence

register = template.Library()
SHORT = 12


@register.filter
def short(digest: str, digits: int = SHORT) -> str:
    """The first digits of a digest."""
    return digest.partition(":")[2][:digits] or digest[:digits]


@register.filter
def named_digest(digest: str, tags: Sequence[str]) -> str:
    """A digest for people: the first of its tags and twelve digits, "2.27.1 (4453c3b6f0aa)", or the digits alone."""
    return f"{tags[0]} ({short(digest)})" if tags else short(digest)


@register.simple_tag
def digest(value: str, link: str = "", digits: int = SHORT) -> SafeString:
    """A digest: its first digits, all of it in the title and on the clipboard."""
    shown = short(value, digits)
    text = format_html('<a href="{}">{}</a>', link, shown) if link else shown
    return format_html('<span class="digest"><span title="{}">{}</span>{}</span>', value, text, copy(value, shown))


@register.simple_tag
def copy(value: str, what: str = "") -> SafeString:
    """A button that copies the text. ``what``: what the button says of it, where the text is long."""
    return format_html(
        '<button type="button" class="copy needs-script" data-copy="{}" title="{}">{}</button>',
        value,
        _("Copy %(named)s") % {"named": what or value},
        _ICON,
    )


# Before a copy and after it. A script shows the second one for a moment.
_ICON = SafeString(
    '<svg width="14" height="14" aria-hidden="true">'
    '<use class="todo" href="#icon-copy"/><use class="done" href="#icon-copied"/></svg>'
)
