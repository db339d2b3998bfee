"""Pages that belong to no project, and the way back to where the browser came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme

from console.queries.shared import layout
from console.views.shared.place import actor

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


def referring_page(request: HttpRequest, otherwise: str) -> str:
    """The page of the console that the browser came from; ``otherwise`` if it came from elsewhere."""
    came_from = request.headers.get("Referer", "")
    own = {request.get_host()}
    return came_from if "/" in came_from and url_has_allowed_host_and_scheme(came_from, own) else otherwise


def own_address(request: HttpRequest, wanted: str) -> str:
    """``wanted`` if it is a path of the console, never another host; "/" otherwise."""
    is_ours = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=settings.IS_HTTPS)
    return wanted if is_ours and wanted.startswith("/") else "/"


def render_standalone(request: HttpRequest, template: str, status: int = 200, **context: Any) -> HttpResponse:
    """Render a page that belongs to no project."""
    shared = layout.layout_context(actor(request)) if request.user.is_authenticated else {}
    return render(request, template, shared | context, status=status)
