"""Search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import render

from console.queries import search as queries
from console.views.shared.decorators import personal
from console.views.shared.pages import render_standalone
from console.views.shared.place import actor

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@personal
def show(request: HttpRequest) -> HttpResponse:
    """Everything that matches the words, of all that the person may see."""
    words = request.GET.get("q", "").strip()[:200]
    found = queries.search(actor(request), words)
    return render_standalone(request, "console/search/show.html", found=found, search_words=words)


@personal
def suggestions(request: HttpRequest) -> HttpResponse:
    """The places whose names match what a person types into the list of places."""
    words = request.GET.get("q", "").strip()[:200]
    groups = queries.suggestions(actor(request), words)
    return render(request, "console/search/_suggestions.html", {"groups": groups, "words": words})
