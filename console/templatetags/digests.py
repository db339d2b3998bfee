"""Digests, and buttons that copy."""

from __future__ import annotations

from typing import Any

from django import template

register = template.Library()
SHORT = 12


@register.filter
def short(digest: str) -> str:
    """The first twelve digits of a digest."""
    return digest.partition(":")[2][:SHORT] or digest[:SHORT]


@register.inclusion_tag("console/parts/_digest.html")
def digest(value: str, link: str = "") -> dict[str, Any]:
    """A digest: twelve digits, all of it in the title and on the clipboard."""
    return {"value": value, "link": link}


@register.inclusion_tag("console/parts/_copy.html")
def copy(value: str, what: str = "") -> dict[str, Any]:
    """A button that copies the text."""
    return {"value": value, "what": what}
