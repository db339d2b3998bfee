"""People in lists."""

from __future__ import annotations

from django import template

register = template.Library()


@register.filter
def nickname(actor: str) -> str:
    """The part of an e-mail address before the "@"; other names as they are."""
    return actor.partition("@")[0]
