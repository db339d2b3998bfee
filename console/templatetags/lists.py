"""Lists: heads of columns, and how many entries are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template
from django.utils.html import format_html
from django.utils.translation import ngettext

from console.templatetags.numbers import count
from registry.oci.configs import MAX_ENTRIES, Some

if TYPE_CHECKING:
    from collections.abc import Sequence


register = template.Library()


@register.filter
def split(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


@register.simple_tag
def and_more(entries: Some[Any] | Sequence[Any]) -> str:
    """How many entries the page leaves out: of a list, those after the first MAX_ENTRIES; "" when there are none."""
    number = entries.more if isinstance(entries, Some) else max(0, len(entries) - MAX_ENTRIES)
    if not number:
        return ""
    words = ngettext("and %(count)s more", "and %(count)s more", number) % {"count": count(number)}
    return format_html('<span class="quiet small">{}</span>', words)


@register.inclusion_tag("console/parts/_sort.html", takes_context=True)
def sort_by(context: template.Context, listing: Any, name: str, words: str, kind: str = "") -> dict[str, Any]:
    """The head of a column that a list may be sorted by; ``kind`` "number": set to the right."""
    is_now = listing.sort == name
    return {"request": context["request"], "name": name, "words": words, "kind": kind, "is_now": is_now}
