"""Invitations to organizations, as those who are invited see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from accounts import audit, organizations
from accounts.models import User
from accounts.organizations import Refused
from console.forms.accounts import Join
from console.shortcuts import actor, alone, public

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from accounts.models import Invitation

_TOKEN = "invitation"  # noqa: S105  where the session keeps it


@public
def open_link(request: HttpRequest, token: str) -> HttpResponse:
    """The link of the mail. The token moves into the session, so that no other address has it."""
    if organizations.find_invitation(token) is None:
        return _ended(request)
    request.session[_TOKEN] = token
    return redirect("console:invitation")


@public
def show(request: HttpRequest) -> HttpResponse:
    """Who invites to what. POST accepts or declines; those who cannot sign in yet accept with a new password."""
    invitation = organizations.find_invitation(request.session.get(_TOKEN, ""))
    if invitation is None:
        return _ended(request)
    if request.method == "POST" and request.POST.get("act") == "decline":
        organizations.decline(actor(request), invitation)
        del request.session[_TOKEN]
        messages.success(request, _("You have declined the invitation."))
        return redirect("console:home")
    if request.user.is_authenticated:
        return _of_user(request, invitation)
    if organizations.needs_password(invitation.email):
        return _of_newcomer(request, invitation)
    return alone(request, "console/invitation.html", invitation=invitation, must_sign_in=True)


def _of_user(request: HttpRequest, invitation: Invitation) -> HttpResponse:
    user: User = request.user  # type: ignore[assignment]
    is_mine = user.email == invitation.email
    if request.method == "POST" and request.POST.get("act") == "accept" and is_mine:
        try:
            organizations.accept(actor(request), invitation, user)
        except Refused as error:
            messages.error(request, str(error))
            return redirect("console:home")
        return _welcome(request, invitation)
    return alone(request, "console/invitation.html", invitation=invitation, is_mine=is_mine)


def _of_newcomer(request: HttpRequest, invitation: Invitation) -> HttpResponse:
    form = Join(User(email=invitation.email), request.POST or None)
    if request.method == "POST" and form.is_valid():
        password = form.cleaned_data["new_password1"]
        by = actor(request, invitation.email)
        user = form.attempt(organizations.join, by, invitation, name=form.cleaned_data["name"], password=password)
        if user:
            login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
            request.session.note_origin(by.address, request.headers.get("User-Agent", ""))  # type: ignore[attr-defined]
            audit.record(actor(request), audit.Action.SIGN_IN, person=user)
            return _welcome(request, invitation)
    return alone(request, "console/invitation.html", invitation=invitation, form=form)


def _welcome(request: HttpRequest, invitation: Invitation) -> HttpResponse:
    request.session.pop(_TOKEN, None)
    messages.success(request, _("You belong to %(organization)s now.") % {"organization": invitation.organization})
    return redirect("console:organization", invitation.organization.name)


def _ended(request: HttpRequest) -> HttpResponse:
    return alone(request, "console/invitation.html", status=410)
