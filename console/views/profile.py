"""What somebody may change about themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts import audit, guesses, passwords
from accounts import sessions as console_sessions
from console.forms.accounts import ChangePassword, Profile
from console.queries import listing
from console.shortcuts import actor, alone, later, personal, remember_browser, say_slowed

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from accounts.models import User


@personal
def show(request: HttpRequest) -> HttpResponse:
    """Name, language, theme, time zone."""
    user = _user(request)
    initial = {name: getattr(user, name) for name in ("name", "language", "theme", "time_zone")}
    form = Profile(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        for name, value in form.cleaned_data.items():
            setattr(user, name, value)
        user.save(update_fields=list(form.cleaned_data))
        messages.success(request, _("Your profile has been saved."))
        return redirect("console:profile")
    return alone(request, "console/profile.html", form=form, tab="profile")


@personal
def password(request: HttpRequest) -> HttpResponse:
    """A new password; other sessions end, access keys stay."""
    user = _user(request)
    form = ChangePassword(user, request.POST or None)
    seconds = 0
    if request.method == "POST" and form.is_valid():
        try:
            passwords.change(user, form.cleaned_data["old_password"], form.cleaned_data["new_password1"])
        except guesses.WrongCredentials:
            form.add_error("old_password", _("This is not your current password."))
        except guesses.Slowed as refusal:
            say_slowed(form, refusal)
            seconds = refusal.seconds
        else:
            update_session_auth_hash(request, user)
            audit.record(actor(request), audit.Action.PASSWORD_CHANGE, person=user)
            messages.success(request, _("Your password has been changed. Everywhere else you are signed out."))
            answer = redirect("console:password")
            remember_browser(request, answer, user)
            return answer
    page = alone(request, "console/password.html", form=form, tab="password")
    return later(page, seconds) if seconds else page


@personal
def sessions(request: HttpRequest) -> HttpResponse:
    """Where somebody is signed in; POST ends one session, or all others."""
    user = _user(request)
    mine = console_sessions.of_user(user)
    this = request.session.row_key  # type: ignore[attr-defined]  # accounts.sessions
    if request.method == "POST":
        wanted = request.POST.get("session", "")
        chosen = [
            session.pk
            for session in mine
            if session.pk != this and wanted in {"others", console_sessions.public_id(session.pk)}
        ]
        ended = console_sessions.end(user, chosen)
        said = ngettext("%(count)s session has been ended.", "%(count)s sessions have been ended.", ended)
        messages.success(request, said % {"count": ended})
        return redirect("console:sessions")
    rows = [
        {"session": session, "id": console_sessions.public_id(session.pk), "is_this": session.pk == this}
        for session in mine
    ]
    return alone(request, "console/sessions.html", rows=rows, tab="sessions")


@personal
def activity(request: HttpRequest) -> HttpResponse:
    """The person's sign-ins, and what happened to their keys, password and roles."""
    page = listing.page(audit.of_person(_user(request)), request.GET, {"at": "-at"})
    return alone(request, "console/activity.html", listing=page, tab="activity")


def _user(request: HttpRequest) -> User:
    user: User = request.user  # type: ignore[assignment]  # personal views only
    return user
