"""A person's own profile, activity, language and theme."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib import messages
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from accounts import audit, zones
from accounts.models import Theme, User
from console.forms.accounts import Profile
from console.queries.shared import listing
from console.views.shared.decorators import personal, public
from console.views.shared.kept_forms import typed
from console.views.shared.pages import referring_page, render_standalone

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@personal
def show(request: HttpRequest) -> HttpResponse:
    """Name, language, theme, time zone."""
    user = _user(request)
    initial = {name: getattr(user, name) for name in ("name", "language", "theme", "time_zone")}
    form = Profile(typed(request), initial=initial)
    if request.method == "POST" and form.is_valid():
        for name, value in form.cleaned_data.items():
            setattr(user, name, value)
        user.save(update_fields=list(form.cleaned_data))
        messages.success(request, _("Your profile has been saved."))
        return redirect("console:profile")
    return render_standalone(request, "console/accounts/profile.html", form=form, zones=zones.names())


@personal
def activity(request: HttpRequest) -> HttpResponse:
    """The person's sign-ins, and what happened to their keys, password and roles."""
    page = listing.page(audit.of_person(_user(request)), request.GET, {"at": "-at"})
    return render_standalone(request, "console/accounts/activity.html", listing=page)


def _user(request: HttpRequest) -> User:
    user: User = request.user  # type: ignore[assignment]  # personal views only
    return user


@public
def language(request: HttpRequest) -> HttpResponse:
    """POST sets the language of a visitor who is not signed in, in a cookie."""
    response = redirect(referring_page(request, "/"))
    chosen = request.POST.get("language", "")
    if chosen in dict(settings.LANGUAGES):
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME, chosen, max_age=31_536_000, samesite="Lax", secure=settings.IS_HTTPS
        )
    return response


@personal
def change(request: HttpRequest) -> HttpResponse:
    """POST sets the language or theme of the signed-in person."""
    mine = User.objects.filter(pk=request.user.pk or 0)
    chosen, theme = request.POST.get("language"), request.POST.get("theme")
    if chosen in dict(settings.LANGUAGES):
        mine.update(language=chosen)
    if theme in {"", *Theme.values}:
        mine.update(theme=theme)
    return redirect(referring_page(request, "/"))
