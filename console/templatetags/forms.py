"""Fields of forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template
from django.utils.html import format_html

if TYPE_CHECKING:
    from django.utils.safestring import SafeString

register = template.Library()


@register.filter
def lead(text: str) -> SafeString:
    """A text whose beginning, up to the first colon, is set in bold."""
    first, colon, rest = str(text).partition(": ")
    return format_html("<strong>{}</strong><br>{}", first, rest) if colon else format_html("{}", text)


@register.inclusion_tag("console/parts/_field.html")
def field(bound: Any) -> dict[str, Any]:
    """A field of a form with its label, help and errors."""
    return {"field": bound, "kind": bound.field.widget.__class__.__name__}
