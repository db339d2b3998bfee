"""Invitations to organizations, as the invited person sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import messages
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts import organizations, passwords
from accounts.errors import Refusal
from accounts.models import User
from console.forms.invitations import Join
from console.views.shared.decorators import public
from console.views.shared.pages import render_standalone
from console.views.shared.place import actor
from console.views.shared.sign_in import add_slowed_error, begin_session, keep_secret_of_link, too_many_requests

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from accounts.models import Invitation

LINK_COOKIE = "kcr_invitation"


@public
def open_link(request: HttpRequest, token: str) -> HttpResponse:
    """Go to a page whose address does not hold the secret of the link."""
    if organizations.find_invitation(token) is None:
        return _ended(request)
    seconds = int(organizations.INVITATION_LIFETIME.total_seconds())
    return keep_secret_of_link(redirect("console:invitation"), LINK_COOKIE, token, seconds)


@public
def show(request: HttpRequest) -> HttpResponse:
    """Who invites to what. POST accepts or declines; those who cannot sign in yet accept with a new password."""
    invitation = organizations.find_invitation(request.COOKIES.get(LINK_COOKIE, ""))
    if invitation is None:
        return _ended(request)
    if request.method == "POST" and request.POST.get("act") == "decline":
        organizations.decline(actor(request), invitation)
        messages.success(request, _("You have declined the invitation."))
        return _forget_link(redirect("console:home"))
    if request.user.is_authenticated:
        return _of_user(request, invitation)
    if organizations.needs_password(invitation.email):
        return _of_newcomer(request, invitation)
    return render_standalone(request, "console/invitations/show.html", invitation=invitation, must_sign_in=True)


def _of_user(request: HttpRequest, invitation: Invitation) -> HttpResponse:
    user: User = request.user  # type: ignore[assignment]
    is_mine = user.email == invitation.email
    if request.method == "POST" and request.POST.get("act") == "accept" and is_mine:
        try:
            organizations.accept(actor(request), invitation, user)
        except Refusal as error:
            messages.error(request, error.sentence)
            return redirect("console:home")
        return _welcome(request, invitation, redirect(_home_of(invitation)))
    return render_standalone(request, "console/invitations/show.html", invitation=invitation, is_mine=is_mine)


def _of_newcomer(request: HttpRequest, invitation: Invitation) -> HttpResponse:
    form = Join(User(email=invitation.email), request.POST or None)
    if request.method == "POST" and form.is_valid():
        password = form.cleaned_data["new_password1"]
        by = actor(request, invitation.email)
        name = form.cleaned_data["name"]
        try:
            user = form.attempt(organizations.join, by, invitation, name=name, password=password)
        except passwords.Busy as refusal:
            add_slowed_error(form, refusal)
            page = render_standalone(request, "console/invitations/show.html", invitation=invitation, form=form)
            return too_many_requests(page, refusal.seconds)
        if user:
            return _welcome(request, invitation, begin_session(request, user, _home_of(invitation)))
    return render_standalone(request, "console/invitations/show.html", invitation=invitation, form=form)


def _home_of(invitation: Invitation) -> str:
    return reverse("console:organization", args=[invitation.organization.name])


def _welcome(request: HttpRequest, invitation: Invitation, answer: HttpResponse) -> HttpResponse:
    messages.success(request, _("You belong to %(organization)s now.") % {"organization": invitation.organization})
    return _forget_link(answer)


def _forget_link(answer: HttpResponse) -> HttpResponse:
    answer.delete_cookie(LINK_COOKIE, path=reverse("console:invitation"), samesite="Lax")
    return answer


def _ended(request: HttpRequest) -> HttpResponse:
    return render_standalone(request, "console/invitations/show.html", status=410)
