"""An organization: its members and their access keys. Owners change them; members see the list of members."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.http import Http404
from django.shortcuts import redirect
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import keys as access_keys
from accounts import organizations, tasks
from accounts.errors import Refusal, sentence
from accounts.models import Organization, OrganizationRole
from console.forms.organizations import NewInvitation
from console.queries import accounts as account_queries
from console.queries import organizations as queries
from console.templatetags.roles import role_words
from console.templatetags.service_accounts import account_url
from console.views.shared.decorators import personal
from console.views.shared.kept_forms import typed
from console.views.shared.organizations import find_organization, render_for_owners
from console.views.shared.pages import render_standalone
from console.views.shared.place import actor
from console.views.shared.toasts import toast
from registry import members, service_accounts, undo

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from accounts.models import AccessKey, User

CHANGES_TIME = timedelta(days=1)


@personal
def show(request: HttpRequest, organization: str) -> HttpResponse:
    """People and projects; POST withdraws an invitation or sends it again, changes a role, or removes a person."""
    found, is_owner = find_organization(request, organization)
    if request.method == "POST":
        act = {"withdraw": _withdraw, "again": _invite_again}.get(request.POST.get("act", ""), _change)
        return act(request, found)
    context: dict[str, Any] = {
        "organization": found,
        "is_owner": is_owner,
        "page": queries.organization(found, request.GET),
        "invitations": found.invitations.order_by("email") if is_owner else None,
    }
    return render_standalone(request, "console/organizations/show.html", **context)


@personal
def invite(request: HttpRequest, organization: str) -> HttpResponse:
    """An invitation to the organization."""
    found, _is_owner = find_organization(request, organization, change=True)
    form = NewInvitation(typed(request))
    if request.method == "POST" and form.is_valid() and _invite(request, found, form):
        return redirect("console:organization", found.name)
    context: dict[str, Any] = {
        "question": _("Invite a person to %(organization)s") % {"organization": found},
        "back": reverse("console:organization", args=[found.name]),
        "action": reverse("console:invite", args=[found.name]),
    }
    return render_for_owners(request, "console/organizations/invite.html", found, form=form, **context)


@personal
def remove(request: HttpRequest, organization: str) -> HttpResponse:
    """Ask before a person is removed; the form goes to ``show``."""
    found, _is_owner = find_organization(request, organization, change=True)
    member = queries.find_membership(found, request.GET.get("email", ""))
    if member is None:
        raise Http404
    if member.user.pk == request.user.pk:
        return _ask_owner(request, found, member.user, "")
    there = reverse("console:organization", args=[found.name])
    context: dict[str, Any] = {
        "question": _("Remove %(email)s from %(organization)s?") % {"email": member.user.email, "organization": found},
        "back": there,
        "action": there,
        "member": member,
        "ends": queries.person(found, member.user),
    }
    return render_for_owners(request, "console/organizations/remove.html", found, **context)


@personal
def person(request: HttpRequest, organization: str) -> HttpResponse:
    """A person of the organization: roles in the projects that the viewer may see. A service account has another page.

    Owners see their keys and when they were here last. Admins of projects see the keys that act in these.
    """
    found, is_owner = find_organization(request, organization)
    member = queries.find_membership(found, request.GET.get("email", ""))
    account = None if member else queries.find_account(actor(request), found, request.GET.get("email", ""))
    if account is not None:
        return redirect(account_url(account))
    if member is None:
        raise Http404
    page = queries.person(found, member.user, None if is_owner else actor(request))
    context: dict[str, Any] = {"organization": found, "is_owner": is_owner, "member": member, "page": page}
    return render_standalone(request, "console/organizations/person.html", **context)


@personal
def undo_event(request: HttpRequest, organization: str, event: int) -> HttpResponse:
    """POST undoes a change of a role in the organization."""
    found, _is_owner = find_organization(request, organization, change=True)
    if request.method == "POST":
        chosen = undo.undoable_event(found, event)
        if chosen is None:
            raise Http404
        try:
            result = undo.undo_organization_role(actor(request), chosen)
        except Refusal as error:
            messages.error(request, error.sentence)
        else:
            words = _("%(email)s has the former roles again.")
            messages.success(request, words % {"email": chosen.subject})
            for step in result.skipped:
                words = _("Not undone: %(what)s: %(problem)s")
                messages.warning(request, sentence(words % {"what": step.words, "problem": step.problem}))
    return redirect("console:organization", found.name)


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


def _invite_again(request: HttpRequest, organization: Organization) -> HttpResponse:
    form = NewInvitation(request.POST)
    if form.is_valid() and not _invite(request, organization, form):
        for error in form.errors.get("email", []):
            messages.error(request, str(error))
    return redirect("console:organization", organization.name)


def _change(request: HttpRequest, organization: Organization) -> HttpResponse:
    user = members.find_person(organization, request.POST.get("email", ""))
    role = request.POST.get("role", "")
    if user is None or role not in {"", *OrganizationRole.values}:
        raise Http404
    if user.pk == request.user.pk and role != OrganizationRole.OWNER and not request.POST.get("sure"):
        return _ask_owner(request, organization, user, role)
    wanted, seen = OrganizationRole(role) if role else None, request.POST.get("seen")
    try:
        event = members.set_organization_role(actor(request), organization, user, wanted, seen=seen)
    except Refusal as error:
        messages.error(request, error.sentence)
    else:
        words = _("%(email)s is now %(role)s.") if role else _("%(email)s has been removed from %(organization)s.")
        said = {"email": user.email, "role": role_words(role), "organization": organization}
        back = reverse("console:organization_undo_event", args=[organization.name, event.pk]) if event else ""
        is_own = user.pk == request.user.pk
        toast(request, words % said, undo=(back, {}) if back and not is_own else None)
        if is_own and not role:
            return redirect("console:home")
    return redirect("console:organization", organization.name)


def _ask_owner(request: HttpRequest, organization: Organization, user: User, role: str) -> HttpResponse:
    """Ask an owner who gives up their own role; the form goes to ``show``."""
    there = reverse("console:organization", args=[organization.name])
    context: dict[str, Any] = {
        "question": _("Give up your role as an owner of %(organization)s?") % {"organization": organization},
        "back": there,
        "action": there,
        "member": user,
        "role": role,
        "ends": queries.person(organization, user),
        "helpers": [email for email in queries.owners(organization.name) if email != user.email],
    }
    return render_for_owners(request, "console/organizations/own_role.html", organization, **context)


@personal
def keys(request: HttpRequest, organization: str) -> HttpResponse:
    """The access keys of the people, for owners."""
    found, _is_owner = find_organization(request, organization, change=True)
    page = account_queries.acting_keys(members.keys_in_organization(found), request.GET)
    return render_for_owners(request, "console/organizations/keys.html", found, page=page)


@personal
def key(request: HttpRequest, organization: str, identifier: str) -> HttpResponse:
    """One of these keys; POST revokes or restores it, or ends its former secret."""
    found, _is_owner = find_organization(request, organization, change=True)
    chosen, who = _key(found, identifier), actor(request)
    here = reverse("console:organization_key", args=[found.name, identifier])
    if request.method == "POST" and request.POST.get("act") == "restore":
        try:
            organizations.restore_key(who, chosen)
        except Refusal as error:
            messages.error(request, error.sentence)
        else:
            messages.success(request, _("Access key “%(name)s” works again.") % {"name": chosen.name})
        return redirect(here)
    if request.method == "POST" and request.POST.get("act") == "end-former":
        try:
            service_accounts.end_former(who, chosen)
        except Refusal as error:
            messages.error(request, error.sentence)
        else:
            messages.success(request, _("The former secret of “%(name)s” has ended.") % {"name": chosen.name})
        return redirect(here)
    if request.method == "POST":
        organizations.revoke_key(who, chosen)
        said = _("Access key “%(name)s” has been revoked.") % {"name": chosen.name}
        toast(request, said, undo=(here, {"act": "restore"}))
        return redirect("console:organization_keys", found.name)
    rotate_url = reverse("console:organization_key_rotate", args=[found.name, identifier])
    context: dict[str, Any] = {
        "key": chosen,
        "may_restore": access_keys.may_restore(chosen, who),
        "changes": account_queries.changes_by_project(found, chosen, timezone.now() - CHANGES_TIME),
        "revoke_url": reverse("console:organization_key_revoke", args=[found.name, identifier]),
        "rotate_url": rotate_url if chosen.user.is_service else "",
    }
    return render_for_owners(request, "console/organizations/key.html", found, **context)


@personal
def revoke_key(request: HttpRequest, organization: str, identifier: str) -> HttpResponse:
    """Ask before a key is revoked; the form goes to ``key``."""
    found, _is_owner = find_organization(request, organization, change=True)
    here = reverse("console:organization_key", args=[found.name, identifier])
    context = account_queries.revocation(_key(found, identifier)) | {"back": here, "action": here}
    return render_for_owners(request, "console/accounts/key_revoke.html", found, **context)


def _key(organization: Organization, identifier: str) -> AccessKey:
    found = members.keys_in_organization(organization, with_ended=True).select_related("user", "project", "former")
    chosen = found.filter(identifier=identifier).first()
    if chosen is None:
        raise Http404
    return chosen
