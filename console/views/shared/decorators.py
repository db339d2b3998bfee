"""Who may see a view. A test refuses views without one of these decorators:

@public                                       everybody
@personal                                     everybody who is signed in; ``request.user``
@of_operators                                 operators of the installation; ``request.user``
@of_project(Action.VIEW, post=Action.MANAGE)  those who may do this to the project in the URL; the view gets a Place
"""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from accounts.errors import Refusal
from console.queries import public as public_queries
from console.views.shared import kept_forms
from console.views.shared.pages import referring_page
from console.views.shared.place import find_place

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponseBase

    from registry.access import Action


P = ParamSpec("P")
View = "Callable[Concatenate[HttpRequest, P], HttpResponse]"


def public(view: Callable[Concatenate[HttpRequest, P], HttpResponse]) -> Callable[..., HttpResponse]:
    """A page for everybody."""
    return _declare(view, "public")


def personal(view: Callable[Concatenate[HttpRequest, P], HttpResponseBase]) -> Callable[..., HttpResponse]:
    """A page for signed-in users."""

    @wraps(view)
    def answer(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _to_sign_in(request)
        return view(request, *args, **kwargs)

    return _declare(answer, "personal")


def of_operators(view: Callable[Concatenate[HttpRequest, P], HttpResponseBase]) -> Callable[..., HttpResponse]:
    """A page for operators of the installation. Other people get a 404."""

    @wraps(view)
    def answer(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return _to_sign_in(request)
        if not request.user.is_superuser:
            raise Http404
        return view(request, *args, **kwargs)

    return _declare(answer, "operators")


def of_project(action: Action, *, post: Action | None = None) -> Callable[..., Callable[..., HttpResponse]]:
    """A page of the project in the URL, and perhaps of a repository and an image in it.

    A user who may not VIEW the project gets a 404. A user who may see it, but not do this, gets a 403.
    """

    def decorate(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @wraps(view)
        def answer(request: HttpRequest, project: str, **kwargs: Any) -> HttpResponse:
            if not request.user.is_authenticated:
                return _to_public_page(request, project, kwargs) or _to_sign_in(request)
            place = find_place(request, project, kwargs.pop("repository", None), kwargs.pop("image", None))
            if (post if post and request.method == "POST" else action) not in place.actions:
                raise PermissionDenied
            try:
                return view(place, **kwargs)
            except Refusal as error:
                if request.method != "POST":
                    raise Http404(error.sentence) from error
                messages.error(request, error.sentence)
                return redirect(referring_page(request, reverse("console:overview", args=[project])))

        return _declare(answer, str(post or action))

    return decorate


def _declare(view: Callable[..., HttpResponseBase], who: str) -> Callable[..., HttpResponse]:
    checked: Any = require_http_methods(["GET", "HEAD", "POST"])(_with_kept_form(view))
    checked.who = who
    return checked  # type: ignore[no-any-return]


def _with_kept_form(view: Callable[..., Any]) -> Callable[..., Any]:
    """Say once that the form on the page was not carried out, if it was sent before a sign-in."""

    @wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not kept_forms.is_back(request):
            return view(request, *args, **kwargs)  # type: ignore[no-any-return]
        messages.warning(
            request, _("Nothing has been changed: you signed in since the form was opened. Send it again.")
        )
        response: HttpResponse = view(request, *args, **kwargs)
        kept_forms.forget(response, request)
        return response

    return answer


def _to_public_page(request: HttpRequest, project: str, kwargs: dict[str, Any]) -> HttpResponse | None:
    """The page for strangers, if the address is that of a public repository, or of an image, tag or digest in it."""
    match = request.resolver_match
    if request.method == "POST" or match is None or match.url_name not in {"repository", "image", "manifest"}:
        return None
    found = public_queries.repository(project, kwargs["repository"])
    if found is None:
        return None
    if "image" in kwargs:
        return redirect("console:public_image", project, found.name, kwargs["image"])
    return redirect("console:public_repository", project, found.name)


def _to_sign_in(request: HttpRequest) -> HttpResponse:
    answer = redirect_to_login(request.get_full_path())
    if request.method == "POST" and kept_forms.keep(answer, request):
        answer.headers["Location"] += "&kept=yes"
    return answer
