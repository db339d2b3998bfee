"""New passwords: with a link by mail, or with the present password."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.tokens import default_token_generator
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlsafe_base64_decode
from django.utils.translation import gettext as _

from accounts import audit, guesses, passwords, redis, tasks
from accounts.models import User
from accounts.networks import network_of
from console.forms.accounts import ChangePassword, Forgotten, NewPassword
from console.views.shared.decorators import personal, public
from console.views.shared.pages import render_standalone
from console.views.shared.place import actor
from console.views.shared.sign_in import (
    add_slowed_error,
    begin_session,
    keep_secret_of_link,
    remember_browser,
    too_many_requests,
)

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


LINKS_ALLOWED, LINKS_WINDOW = 10, 300  # by network; seconds
LINK_COOKIE = "kcr_password_link"


@public
def forgotten(request: HttpRequest) -> HttpResponse:
    """Have a link mailed; the answer is the same for every address."""
    form = Forgotten(request.POST or None)
    if request.method == "POST" and form.is_valid():
        if not _is_patient(request):
            form.add_error(None, _("Too many links requested. Try again in a few minutes."))
            return too_many_requests(render(request, "console/accounts/forgotten.html", {"form": form}), LINKS_WINDOW)
        if tasks.request_password_link(form.cleaned_data["email"]):
            return render(request, "console/accounts/forgotten.html", {"sent_to": form.cleaned_data["email"]})
        form.add_error(None, _("No mail can be sent at the moment. Try again in a few minutes."))
    return render(request, "console/accounts/forgotten.html", {"form": form})


def _is_patient(request: HttpRequest) -> bool:
    """Whether few links were asked for from this network lately: each wakes a worker up."""
    network = network_of(request.META["REMOTE_ADDR"])
    return redis.shared.count(f"kcr:forgotten:{network}", LINKS_WINDOW) <= LINKS_ALLOWED


@public
def open_link(request: HttpRequest, uid: str, token: str) -> HttpResponse:
    """Go to a page whose address does not hold the secret of the link."""
    if _user_of_link(uid, token) is None:
        return render_standalone(request, "console/accounts/new_password.html", status=410)
    answer = redirect("console:new_password")
    return keep_secret_of_link(answer, LINK_COOKIE, f"{uid}/{token}", settings.PASSWORD_RESET_TIMEOUT)


@public
def new_password(request: HttpRequest) -> HttpResponse:
    """Set a password with the link of a mail that was opened in this browser."""
    uid, _slash, token = request.COOKIES.get(LINK_COOKIE, "").partition("/")
    user = _user_of_link(uid, token)
    if user is None:
        return render_standalone(request, "console/accounts/new_password.html", status=410)
    form = NewPassword(user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            passwords.set_new(user, form.cleaned_data["new_password1"])
        except passwords.Busy as refusal:
            add_slowed_error(form, refusal)
            page = render(request, "console/accounts/new_password.html", {"form": form, "account": user})
            return too_many_requests(page, refusal.seconds)
        answer = begin_session(request, user, reverse("console:home"))
        audit.record(actor(request), audit.Action.PASSWORD_RESET, person=user)
        messages.success(request, _("Your password has been set."))
        answer.delete_cookie(LINK_COOKIE, path=request.path, samesite="Lax")
        return answer
    return render(request, "console/accounts/new_password.html", {"form": form, "account": user})


def _user_of_link(uid: str, token: str) -> User | None:
    """The active user who may set a password with this link; None when it was never made, was used, or is too old."""
    try:
        pk = int(urlsafe_base64_decode(uid))
    except (ValueError, OverflowError):
        return None
    user = User.objects.people().filter(pk=pk, is_active=True).first() if pk < 2**63 else None
    return user if user and default_token_generator.check_token(user, token) else None


@personal
def password(request: HttpRequest) -> HttpResponse:
    """A new password; other sessions end, access keys stay."""
    user: User = request.user  # type: ignore[assignment]  # personal views only
    form = ChangePassword(user, request.POST or None)
    seconds = 0
    if request.method == "POST" and form.is_valid():
        try:
            passwords.change(user, form.cleaned_data["old_password"], form.cleaned_data["new_password1"])
        except guesses.WrongCredentials:
            form.add_error("old_password", _("This is not your current password."))
        except guesses.Slowed as refusal:
            add_slowed_error(form, refusal)
            seconds = refusal.seconds
        else:
            update_session_auth_hash(request, user)
            audit.record(actor(request), audit.Action.PASSWORD_CHANGE, person=user)
            messages.success(request, _("Your password has been changed. Everywhere else you are signed out."))
            answer = redirect("console:password")
            remember_browser(request, answer, user)
            return answer
    page = render_standalone(request, "console/accounts/password.html", form=form)
    return too_many_requests(page, seconds) if seconds else page
