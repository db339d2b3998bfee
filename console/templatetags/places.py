"""Addresses of pages, and tabs that lead to them."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import reverse

register = template.Library()


@register.simple_tag(takes_context=True)
def place_url(context: template.Context, view: str, **more: Any) -> str:
    """The address of another page of this project, repository or image (``Place.url``)."""
    address: str = context["place"].url(view, **more)
    return address


@register.inclusion_tag("console/parts/_tab.html", takes_context=True)
def tab(context: template.Context, view: str, words: str, count: int | None = None, **more: Any) -> dict[str, Any]:
    """A tab that leads to a page, marked when that page is shown or the context variable ``tab`` names it.

    ``view`` is a URL name. ``more`` holds the arguments of its route that do not come from the place.
    """
    current = context.get("tab") or context["request"].resolver_match.url_name
    place = context.get("place")
    url = place.url(view, **more) if place else reverse(f"console:{view}", kwargs=more)
    return {"url": url, "words": words, "count": count, "is_current": current == view}
