"""The first page: where one may go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.shortcuts import redirect

from console.queries import people
from console.shortcuts import actor, alone, personal

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@personal
def show(request: HttpRequest) -> HttpResponse:
    """Projects by organization; straight into the only one when there is no choice."""
    page = people.home(actor(request), request.GET)
    if page.only and not request.GET and not request.headers.get("Referer"):
        return redirect("console:overview", page.only.name)
    return alone(request, "console/home.html", page=page)
