"""Digests, and buttons that copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template

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


@register.inclusion_tag("console/parts/_digest.html")
def digest(value: str, link: str = "", digits: int = SHORT) -> dict[str, Any]:
    """A digest: its first digits, all of it in the title and on the clipboard."""
    return {"value": value, "link": link, "shown": short(value, digits)}


@register.inclusion_tag("console/parts/_copy.html")
def copy(value: str, what: str = "") -> dict[str, Any]:
    """A button that copies the text."""
    return {"value": value, "what": what}
