"""Signing in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.auth import logout
from django.http import HttpResponseRedirect
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _

from accounts import audit, guesses, passwords
from console.forms.accounts import SignIn
from console.views.shared.decorators import public
from console.views.shared.pages import own_address
from console.views.shared.place import actor
from console.views.shared.sign_in import BROWSER_COOKIE, add_slowed_error, begin_session, too_many_requests

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@public
def sign_in(request: HttpRequest) -> HttpResponse:
    """With e-mail address and password. A refusal that slows guessing is a 429."""
    wanted = request.POST.get("next") or request.GET.get("next", "")
    if request.user.is_authenticated:
        return HttpResponseRedirect(own_address(request, wanted))
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
            add_slowed_error(form, refusal)
            seconds = refusal.seconds
        else:
            return begin_session(request, user, own_address(request, wanted))
    page = render(request, "console/accounts/sign_in.html", {"form": form, "next": wanted})
    return too_many_requests(page, seconds) if seconds else page


@public
def sign_out(request: HttpRequest) -> HttpResponse:
    """End this session."""
    if request.method == "POST":
        logout(request)
    return redirect("console:sign_in")


def _note_failure(request: HttpRequest, form: SignIn) -> None:
    by = actor(request)
    audit.record_failed_sign_in(form.cleaned_data["email"], address=by.address, client=by.client)
