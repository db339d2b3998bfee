"""An organization: its members and their access keys. Owners change them; members see the list of members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.http import Http404
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from accounts import organizations, tasks
from accounts.errors import Refusal
from accounts.models import Organization, OrganizationRole
from console.forms.organizations import NewInvitation
from console.queries import accounts as account_queries
from console.queries import organizations as queries
from console.views.shared.decorators import personal
from console.views.shared.organizations import find_organization, render_for_owners
from console.views.shared.pages import render_standalone
from console.views.shared.place import actor
from registry import members

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@personal
def show(request: HttpRequest, organization: str) -> HttpResponse:
    """People and projects; POST invites a person, withdraws that, changes a role, or removes a person."""
    found, is_owner = find_organization(request, organization)
    act = request.POST.get("act", "")
    form = NewInvitation(request.POST if act == "invite" else None)
    if request.method == "POST" and act == "withdraw":
        return _withdraw(request, found)
    if request.method == "POST" and act != "invite":
        return _change(request, found)
    if request.method == "POST" and form.is_valid() and _invite(request, found, form):
        return redirect("console:organization", found.name)
    context: dict[str, Any] = {
        "organization": found,
        "is_owner": is_owner,
        "page": queries.organization(found, request.GET),
        "invitations": found.invitations.order_by("email") if is_owner else None,
    }
    return render_standalone(request, "console/organizations/show.html", form=form, **context)


def _invite(request: HttpRequest, organization: Organization, form: NewInvitation) -> bool:
    """Send an invitation. If it is refused, add an error to the form and return False.

    The words are the same for addresses with and without an account.
    """
    email, role = form.cleaned_data["email"], OrganizationRole(form.cleaned_data["role"])
    invitation = form.attempt(organizations.invite, actor(request), organization, email, role)
    if invitation is None:
        return False
    if tasks.request_invitation(invitation):
        messages.success(request, _("An invitation to %(email)s is on its way.") % {"email": invitation.email})
    else:
        messages.warning(request, _("No mail can be sent at the moment. Send the invitation again in a few minutes."))
    return True


def _withdraw(request: HttpRequest, organization: Organization) -> HttpResponse:
    invitation = organization.invitations.filter(email=request.POST.get("email", "")).first()
    if invitation is not None:
        organizations.withdraw(actor(request), invitation)
        messages.success(request, _("The invitation of %(email)s has been withdrawn.") % {"email": invitation.email})
    return redirect("console:organization", organization.name)


def _change(request: HttpRequest, organization: Organization) -> HttpResponse:
    user = queries.find_member(organization, request.POST.get("email", ""))
    role = request.POST.get("role", "")
    if user is None or role not in {"", *OrganizationRole.values}:
        raise Http404
    wanted, seen = OrganizationRole(role) if role else None, request.POST.get("seen")
    try:
        members.set_organization_role(actor(request), organization, user, wanted, seen=seen)
    except Refusal as error:
        messages.error(request, str(error))
    else:
        words = _("%(email)s has a new role.") if role else _("%(email)s has been removed.")
        messages.success(request, words % {"email": user.email})
    return redirect("console:organization", organization.name)


@personal
def keys(request: HttpRequest, organization: str) -> HttpResponse:
    """The access keys of the people, for owners."""
    found, _is_owner = find_organization(request, organization, change=True)
    page = account_queries.acting_keys(members.keys_in_organization(found), request.GET)
    return render_for_owners(request, "console/organizations/keys.html", found, page=page)


@personal
def key(request: HttpRequest, organization: str, identifier: str) -> HttpResponse:
    """One of these keys; POST revokes it."""
    found, _is_owner = find_organization(request, organization, change=True)
    mine = members.keys_in_organization(found).select_related("user", "project").filter(identifier=identifier)
    chosen = mine.first()
    if chosen is None:
        raise Http404
    if request.method == "POST":
        organizations.revoke_key(actor(request), chosen)
        messages.success(request, _("Access key “%(name)s” has been revoked.") % {"name": chosen.name})
        return redirect("console:organization_keys", found.name)
    return render_for_owners(request, "console/organizations/key.html", found, key=chosen)
