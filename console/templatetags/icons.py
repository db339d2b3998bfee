"""Icons."""

from __future__ import annotations

from functools import lru_cache

from django import template
from django.utils.safestring import SafeString
from lucide.templatetags.lucide import lucide

register = template.Library()


@register.simple_tag
def icon(name: str, size: int = 16) -> SafeString:
    """An icon of the library. It is hidden from screen readers, so put words beside it."""
    return _drawn(name + "", size)  # a name of a template is a safe string, which would make another entry


@lru_cache(maxsize=256)
def _drawn(name: str, size: int) -> SafeString:
    drawn = lucide(name, size=size, aria_hidden="true")
    return SafeString("".join(line.strip() for line in drawn.splitlines()))  # a list draws hundreds
