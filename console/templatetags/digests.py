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
    return format_html(
        _LINKED if link else _ALONE, value=value, shown=shown, link=link, words=_words(shown), icon=_ICON
    )


@register.simple_tag
def copy(value: str, what: str = "") -> SafeString:
    """A button that copies the text, none without one. ``what``: what the button says of it, where the text is long."""
    return format_html(_COPY, value=value, words=_words(what or value), icon=_ICON) if value else SafeString("")


def _words(named: str) -> str:
    return _("Copy %(named)s") % {"named": named}


# Before a copy and after it. A script shows the second one for a moment.
_ICON = SafeString(
    '<svg width="14" height="14" aria-hidden="true">'
    '<use class="todo" href="#icon-copy"/><use class="done" href="#icon-copied"/></svg>'
)
_COPY = '<button type="button" class="copy needs-script" data-copy="{value}" title="{words}">{icon}</button>'
_ALONE = f'<span class="digest"><span title="{{value}}">{{shown}}</span>{_COPY}</span>'
_LINKED = f'<span class="digest"><span title="{{value}}"><a href="{{link}}">{{shown}}</a></span>{_COPY}</span>'
