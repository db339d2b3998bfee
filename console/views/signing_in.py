"""Signing in and out, and new passwords by mail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.tokens import default_token_generator
from django.core.cache import cache
from django.http import HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlsafe_base64_decode
from django.utils.translation import gettext as _

from accounts import audit, guesses, passwords, tasks
from accounts.models import User
from console.forms.accounts import Forgotten, NewPassword, SignIn
from console.shortcuts import (
    BROWSER_COOKIE,
    actor,
    alone,
    begin_session,
    keep_secret_of_link,
    later,
    public,
    say_slowed,
)

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

LINKS_ALLOWED, LINKS_WINDOW = 10, 300  # by network and web process; seconds
LINK_COOKIE = "kcr_password_link"


@public
def sign_in(request: HttpRequest) -> HttpResponse:
    """With e-mail address and password. A refusal that slows guessing is a 429."""
    wanted = request.POST.get("next") or request.GET.get("next", "")
    if request.user.is_authenticated:
        return HttpResponseRedirect(_own(request, wanted))
    form = SignIn(request.POST or None)
    seconds = 0
    if request.method == "POST" and form.is_valid():
        typed, browser = form.cleaned_data, request.COOKIES.get(BROWSER_COOKIE, "")
        try:
            user = passwords.authenticate(
                typed["email"], typed["password"], address=request.META["REMOTE_ADDR"], browser=browser
            )
        except guesses.WrongCredentials:
            _note_failure(request, form)
            form.add_error(None, _("Wrong e-mail address or password."))
        except guesses.Slowed as refusal:
            _note_failure(request, form)
            say_slowed(form, refusal)
            seconds = refusal.seconds
        else:
            return begin_session(request, user, _own(request, wanted))
    page = render(request, "console/sign_in.html", {"form": form, "next": wanted})
    return later(page, seconds) if seconds else page


@public
def sign_out(request: HttpRequest) -> HttpResponse:
    """End this session."""
    if request.method == "POST":
        logout(request)
    return redirect("console:sign_in")


@public
def forgotten(request: HttpRequest) -> HttpResponse:
    """Have a link mailed; the answer is the same for every address."""
    form = Forgotten(request.POST or None)
    if request.method == "POST" and form.is_valid():
        if not _is_patient(request):
            form.add_error(None, _("That were many links. Try again in a few minutes."))
            return later(render(request, "console/forgotten.html", {"form": form}), LINKS_WINDOW)
        if tasks.request_password_link(form.cleaned_data["email"]):
            return render(request, "console/forgotten.html", {"sent_to": form.cleaned_data["email"]})
        form.add_error(None, _("No mail can be sent at the moment. Try again in a few minutes."))
    return render(request, "console/forgotten.html", {"form": form})


def _is_patient(request: HttpRequest) -> bool:
    """Whether few links were asked for from this network lately: each wakes a worker up."""
    key = f"forgotten:{guesses.network(request.META['REMOTE_ADDR'])}"
    cache.add(key, 0, LINKS_WINDOW)
    try:
        return cache.incr(key) <= LINKS_ALLOWED
    except ValueError:  # forgotten meanwhile
        return True


@public
def open_link(request: HttpRequest, uid: str, token: str) -> HttpResponse:
    """Go to a page whose address does not hold the secret of the link."""
    if _user_of_link(uid, token) is None:
        return alone(request, "console/new_password.html", status=410)
    answer = redirect("console:new_password")
    return keep_secret_of_link(answer, LINK_COOKIE, f"{uid}/{token}", settings.PASSWORD_RESET_TIMEOUT)


@public
def new_password(request: HttpRequest) -> HttpResponse:
    """Set a password with the link of a mail that was opened in this browser."""
    uid, _slash, token = request.COOKIES.get(LINK_COOKIE, "").partition("/")
    user = _user_of_link(uid, token)
    if user is None:
        return alone(request, "console/new_password.html", status=410)
    form = NewPassword(user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            passwords.set_new(user, form.cleaned_data["new_password1"])
        except passwords.Busy as refusal:
            say_slowed(form, refusal)
            page = render(request, "console/new_password.html", {"form": form, "account": user})
            return later(page, refusal.seconds)
        answer = begin_session(request, user, reverse("console:home"))
        audit.record(actor(request), audit.Action.PASSWORD_RESET, person=user)
        messages.success(request, _("Your password has been set."))
        answer.delete_cookie(LINK_COOKIE, path=request.path, samesite="Lax")
        return answer
    return render(request, "console/new_password.html", {"form": form, "account": user})


def _note_failure(request: HttpRequest, form: SignIn) -> None:
    by = actor(request)
    audit.record_failed_sign_in(form.cleaned_data["email"], address=by.address, client=by.client)


def _own(request: HttpRequest, wanted: str) -> str:
    """Where to go after signing in: a page of ours, never another host."""
    is_ours = url_has_allowed_host_and_scheme(wanted, {request.get_host()}, require_https=settings.IS_HTTPS)
    return wanted if is_ours and wanted.startswith("/") else "/"


def _user_of_link(uid: str, token: str) -> User | None:
    """The active user who may set a password with this link; None when it was never made, was used, or is too old."""
    try:
        pk = int(urlsafe_base64_decode(uid))
    except (ValueError, OverflowError):
        return None
    user = User.objects.filter(pk=pk, is_active=True).first() if pk < 2**63 else None
    return user if user and default_token_generator.check_token(user, token) else None
