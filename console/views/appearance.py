"""Language and theme."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.shortcuts import redirect

from accounts.models import Theme, User
from console.shortcuts import back, personal, public

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@public
def language(request: HttpRequest) -> HttpResponse:
    """The language for somebody who is not signed in: kept in a cookie."""
    response = redirect(back(request, "/"))
    chosen = request.POST.get("language", "")
    if chosen in dict(settings.LANGUAGES):
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME, chosen, max_age=31_536_000, samesite="Lax", secure=settings.IS_HTTPS
        )
    return response


@personal
def change(request: HttpRequest) -> HttpResponse:
    """The language or theme of somebody who is."""
    mine = User.objects.filter(pk=request.user.pk or 0)
    chosen, theme = request.POST.get("language"), request.POST.get("theme")
    if chosen in dict(settings.LANGUAGES):
        mine.update(language=chosen)
    if theme in {"", *Theme.values}:
        mine.update(theme=theme)
    return redirect(back(request, "/"))
