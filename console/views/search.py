"""Search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode

from console.queries import search as queries
from console.queries.shared import layout
from console.views.shared.decorators import personal
from console.views.shared.pages import render_standalone
from console.views.shared.place import actor, find_place
from scanning import search

if TYPE_CHECKING:
    from django.http import HttpRequest

    from console.views.shared.place import Place


@personal
def show(request: HttpRequest) -> HttpResponse:
    """Everything that matches the words, of one project or of all that the person may see.

    ``?in=PROJECT``: the project in whose pages the search began; ``?everywhere=1``: search in all nevertheless.
    """
    words = request.GET.get("q", "").strip()[:500]
    place, everywhere = _place(request), bool(request.GET.get("everywhere"))
    project = place.project.name if place and not everywhere else ""
    found = search.search(layout.repositories_of(actor(request)), words, project)
    if found.cve:
        within = f"?{urlencode({'project': project})}" if project else ""
        return redirect(reverse("console:cve", args=[found.cve]) + within)
    context: dict[str, Any] = {"found": found, "search_words": words, "everywhere": not project}
    if place:
        return place.render("console/search/show.html", side="", **context)
    return render_standalone(request, "console/search/show.html", **context)


@personal
def suggestions(request: HttpRequest) -> HttpResponse:
    """The places whose names match what a person types into the list of places."""
    words = request.GET.get("q", "").strip()[:200]
    groups = queries.suggestions(actor(request), words)
    return render(request, "console/search/_suggestions.html", {"groups": groups, "words": words})


def _place(request: HttpRequest) -> Place | None:
    """The project in whose pages the search began; None if the person may not see it."""
    try:
        return find_place(request, request.GET.get("in", "")[:100], None, None)
    except Http404:
        return None
