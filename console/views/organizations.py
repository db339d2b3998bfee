"""An organization: its people and projects. Owners change both; members see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from accounts import organizations, tasks
from accounts.models import Organization, OrganizationMembership, OrganizationRole
from console.forms.accounts import NewInvitation, NewProject
from console.forms.audit import AuditFilter
from console.queries import audit as audit_queries
from console.queries import listing, people
from console.shortcuts import actor, alone, as_csv, personal
from registry import members, projects
from registry.errors import RegistryError

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse, HttpResponseBase


def _enter(request: HttpRequest, name: str, *, change: bool = False) -> tuple[Organization, bool]:
    """The organization, and whether the person owns it. Raises Http404 for outsiders, PermissionDenied for members."""
    own = OrganizationMembership.objects.filter(organization__name=name, user=request.user.pk)
    membership = own.select_related("organization").first()
    if membership is None:
        raise Http404
    is_owner = membership.role == OrganizationRole.OWNER
    if (change or request.method == "POST") and not is_owner:
        raise PermissionDenied
    return membership.organization, is_owner


@personal
def show(request: HttpRequest, organization: str) -> HttpResponse:
    """People and projects; POST invites a person, withdraws that, changes a role, or removes a person."""
    found, is_owner = _enter(request, organization)
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
        "page": people.organization(found, request.GET),
        "invitations": found.invitations.order_by("email") if is_owner else None,
        "tab": "people",
    }
    return alone(request, "console/organization.html", form=form, **context)


def _invite(request: HttpRequest, organization: Organization, form: NewInvitation) -> bool:
    """Send an invitation; False, and an error on the form, when that is refused. Same words for every address."""
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
    user = people.find_member(organization, request.POST.get("email", ""))
    role = request.POST.get("role", "")
    if user is None or role not in {"", *OrganizationRole.values}:
        raise Http404
    wanted, seen = OrganizationRole(role) if role else None, request.POST.get("seen")
    try:
        members.set_organization_role(actor(request), organization, user, wanted, seen=seen)
    except (organizations.Refused, RegistryError) as error:
        messages.error(request, str(error))
    else:
        words = _("%(email)s has a new role.") if role else _("%(email)s has been taken out.")
        messages.success(request, words % {"email": user.email})
    return redirect("console:organization", organization.name)


@personal
def keys(request: HttpRequest, organization: str) -> HttpResponse:
    """The access keys of the people, for owners."""
    found, _is_owner = _enter(request, organization, change=True)
    page = people.acting_keys(members.keys_in_organization(found), request.GET)
    return _page(request, "console/organization_keys.html", found, tab="keys", page=page)


@personal
def key(request: HttpRequest, organization: str, identifier: str) -> HttpResponse:
    """One of these keys; POST revokes it."""
    found, _is_owner = _enter(request, organization, change=True)
    mine = members.keys_in_organization(found).select_related("user", "project").filter(identifier=identifier)
    chosen = mine.first()
    if chosen is None:
        raise Http404
    if request.method == "POST":
        organizations.revoke_key(actor(request), chosen)
        messages.success(request, _("Access key “%(name)s” has been revoked.") % {"name": chosen.name})
        return redirect("console:organization_keys", found.name)
    return _page(request, "console/organization_key.html", found, tab="keys", key=chosen)


@personal
def audit_log(request: HttpRequest, organization: str) -> HttpResponse:
    """Who changed people and keys, and who signed in, for owners."""
    found, _is_owner = _enter(request, organization, change=True)
    form = AuditFilter(request.GET)
    page = listing.page(form.wanted(found), request.GET, {"at": "-at"})
    is_filtered = any(request.GET.get(name) for name in form.fields)
    return _page(request, "console/audit.html", found, tab="audit", form=form, listing=page, is_filtered=is_filtered)


@personal
def audit_csv(request: HttpRequest, organization: str) -> HttpResponseBase:
    """The same as CSV, however much it is."""
    found, _is_owner = _enter(request, organization, change=True)
    return as_csv(audit_queries.csv_rows(AuditFilter(request.GET).wanted(found)), f"audit-{found.name}.csv")


def _page(request: HttpRequest, template: str, organization: Organization, **context: Any) -> HttpResponse:
    """A page for owners."""
    return alone(request, template, organization=organization, is_owner=True, **context)


@personal
def create_project(request: HttpRequest, organization: str) -> HttpResponse:
    """A new project of the organization."""
    found, _is_owner = _enter(request, organization, change=True)
    form = NewProject(request.POST or None)
    if request.method == "POST" and form.is_valid():
        made = form.attempt(projects.create, actor(request), found, **form.cleaned_data)
        if made and (made[1] or projects.was_just_made(made[0], actor(request))):
            return redirect("console:overview", made[0].name)
        if made:
            form.add_error("name", _("There is a project of this name already."))
    return alone(request, "console/project_new.html", form=form, organization=found)
