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


@register.simple_tag(takes_context=True)
def place_name(context: template.Context) -> dict[str, str]:
    """The project, repository or image that the page belongs to: its ``name`` and the ``path`` of its page."""
    place = context["place"]
    view = "image" if place.maybe_image else "repository" if place.maybe_repository else "overview"
    what = place.maybe_image or place.maybe_repository or place.project
    return {"name": str(what), "path": place.url(view)}


@register.inclusion_tag("console/parts/_tab.html", takes_context=True)
def tab(context: template.Context, view: str, words: str, count: int | None = None, **more: Any) -> dict[str, Any]:
    """A tab that leads to a page, marked when that page is shown or the context variable ``tab`` names it.

    ``view`` is a URL name. ``more`` holds the arguments of its route that do not come from the place.
    """
    current = context.get("tab") or context["request"].resolver_match.url_name
    place = context.get("place")
    url = place.url(view, **more) if place else reverse(f"console:{view}", kwargs=more)
    return {"url": url, "words": words, "count": count, "is_current": current == view}
