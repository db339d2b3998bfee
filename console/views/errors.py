"""Pages of refusals: 404, 403, and a form whose token is wrong. ``registry.v2.errors`` answers 400, 500 and 503."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.http import Http404, HttpResponseRedirect
from django.shortcuts import redirect

from console import addresses
from console.queries import members, organizations, trash
from console.views.shared import kept_forms
from console.views.shared.pages import own_address, referring_page, render_standalone
from console.views.shared.place import Place, find_place

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404, or a redirect to the page that a path without a route means (``addresses.page_instead``).

    A member of the project is told who deleted what the address names, if it can be restored.
    """
    if request.resolver_match is None and request.method in {"GET", "HEAD"}:
        page = addresses.page_instead(request.path_info)
        if page:
            query = request.META.get("QUERY_STRING", "")
            return HttpResponseRedirect(f"{page}?{query}" if query else page)
    place = _place(request)
    if place is None:
        return render_standalone(request, "404.html", status=404)
    named = {name: _named(request)[name] for name in ("repository", "image", "reference") if name in _named(request)}
    deletion = trash.deletion_of(place.project, **named) if named else None
    return place.render("404.html", status=404, deletion=deletion, reference=named.get("reference", ""))


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403, with the names of those who can give a role."""
    place = _place(request)
    if place is not None:
        admins = members.administrators(place.project)
        return place.render("403.html", status=403, admins=admins)
    organization = _named(request).get("organization", "")
    owners = organizations.owners(organization)
    return render_standalone(request, "403.html", status=403, organization=organization, owners=owners)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403 for a form whose CSRF token is missing or wrong.

    A sign-in in another tab makes a new token. A form of this console that was open meanwhile is shown again; a second
    form to sign in leads on. The header Origin proves that no other site sent it.
    """
    if request.user.is_authenticated and request.headers.get("Origin") == settings.PUBLIC_URL:
        if request.resolver_match and request.resolver_match.url_name == "sign_in":
            return redirect(own_address(request, request.POST.get("next", "")))
        answer = redirect(request.get_full_path())
        kept_forms.keep(answer, request)
        return answer
    return render_standalone(request, "403_csrf.html", status=403, back=referring_page(request, "/"))


def _named(request: HttpRequest) -> dict[str, Any]:
    return request.resolver_match.kwargs if request.resolver_match else {}


def _place(request: HttpRequest) -> Place | None:
    """The project in the address, if the user may see it."""
    project = _named(request).get("project")
    if not project or not request.user.is_authenticated:
        return None
    try:
        return find_place(request, project, None, None)
    except Http404:
        return None
