"""The members of a project and their access keys."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import keys as access_keys
from accounts.models import ProjectRole
from console.forms.members import ProjectMember
from console.queries import accounts as account_queries
from console.queries import members as queries
from console.templatetags.roles import role_words
from console.views.shared.decorators import of_project
from console.views.shared.kept_forms import typed
from console.views.shared.members import member_of_list, member_to_add
from registry import access, members, service_accounts
from registry.access import Action
from scanning import undo

if TYPE_CHECKING:
    from django.http import HttpResponse

    from accounts.models import AccessKey, User
    from console.views.shared.place import Place

UNDO_TIME = timedelta(days=1)


@of_project(Action.VIEW, post=Action.ADMINISTER)
def index(place: Place) -> HttpResponse:
    """The members. POST changes a role or removes a member; admins who lower their own role are asked first."""
    if place.request.method == "POST":
        posted = place.request.POST
        user, role = member_of_list(place, posted.get("email", "")), posted.get("role", "")
        if user.pk == place.actor.user_id and not posted.get("sure") and role in queries.RANKS:
            lost = queries.what_is_given_up(place.project, user, role)
            if lost:
                return _ask(place, user, lost)
        _set_role(place, user, role, posted.get("seen"))
        may_view = access.may(place.actor, Action.VIEW, place.project)
        return place.redirect_to("members") if may_view else redirect("console:home")
    page = queries.project_members(place.project, place.request.GET)
    return place.render("console/members/index.html", side="members", page=page)


@of_project(Action.ADMINISTER)
def add(place: Place) -> HttpResponse:
    """A new member of the project."""
    form = ProjectMember(typed(place.request))
    if place.request.method == "POST" and form.is_valid():
        words = _("No member of %(organization)s has this address. An owner of the organization can add them.")
        user = member_to_add(place, form, words, partial(members.role_of, place.project))
        if user is not None:
            _set_role(place, user, form.cleaned_data["role"], None)
            return place.redirect_to("members")
    candidates = queries.candidates(place.project)
    question = _("Add a member to %(project)s") % {"project": place.project}
    context: dict[str, Any] = {"question": question, "back": place.url("members"), "action": place.url("member_add")}
    return place.render("console/members/add.html", side="members", form=form, candidates=candidates, **context)


@of_project(Action.ADMINISTER)
def remove(place: Place) -> HttpResponse:
    """Ask before a member is removed; the form goes to ``index``."""
    user = member_of_list(place, place.request.GET.get("email", ""))
    role = members.role_of(place.project, user)
    if role is None:
        raise Http404
    lost = queries.what_is_given_up(place.project, user, "") if user.pk == place.actor.user_id else None
    if lost:
        return _ask(place, user, lost)
    context: dict[str, Any] = {
        "question": _("Remove %(email)s from %(project)s?") % {"email": user.email, "project": place.project},
        "back": place.url("members"),
        "action": place.url("members"),
        "member": user,
        "role": role,
        "ends": queries.what_ends(place.project, user),
    }
    return place.render("console/members/remove.html", side="members", **context)


@of_project(Action.ADMINISTER)
def keys(place: Place) -> HttpResponse:
    """The access keys that can act in the project."""
    page = account_queries.acting_keys(members.keys_in_project(place.project), place.request.GET)
    may_revoke_all = members.may_revoke_all(place.actor, place.project)
    return place.render("console/members/keys.html", side="members", page=page, may_revoke_all=may_revoke_all)


@of_project(Action.ADMINISTER)
def key(place: Place, identifier: str) -> HttpResponse:
    """A key that acts or acted in the project, and what undoing its changes of a day would do.

    POST revokes the key, restores it, or ends its former secret.
    """
    chosen = _key(place, identifier)
    here = place.url("project_key", identifier=identifier)
    if place.request.method == "POST" and place.request.POST.get("act") == "restore":
        members.restore_key(place.actor, place.project, chosen)
        place.flash(_("Access key “%(name)s” works again.") % {"name": chosen.name})
        return redirect(here)
    if place.request.method == "POST" and place.request.POST.get("act") == "end-former":
        if not members.may_revoke(place.actor, place.project, chosen):
            raise PermissionDenied
        service_accounts.end_former(place.actor, chosen)
        place.flash(_("The former secret of “%(name)s” has ended.") % {"name": chosen.name})
        return redirect(here)
    if place.request.method == "POST":
        members.revoke_key(place.actor, place.project, chosen)
        said = _("Access key “%(name)s” has been revoked.") % {"name": chosen.name}
        place.flash(said, undo=(here, {"act": "restore"}))
        return redirect(here)
    is_own_account = chosen.user.project_id == place.project.pk
    context: dict[str, Any] = {
        "may_revoke": members.may_revoke(place.actor, place.project, chosen),
        "may_restore": access_keys.may_restore(chosen, place.actor),
        "revoke_url": place.url("project_key_revoke", identifier=identifier),
        "rotate_url": place.url("project_key_rotate", identifier=identifier) if is_own_account else "",
        "steps": undo.preview(place.actor, undo.acts(place.project, timezone.now() - UNDO_TIME, key_id=chosen.pk)),
    }
    return place.render("console/members/key.html", side="members", key=chosen, **context)


@of_project(Action.ADMINISTER)
def revoke_key(place: Place, identifier: str) -> HttpResponse:
    """Ask before a key is revoked; the form goes to ``key``."""
    chosen, here = _key(place, identifier), place.url("project_key", identifier=identifier)
    context = account_queries.revocation(chosen) | {"back": here, "action": here}
    return place.render("console/accounts/key_revoke.html", side="members", **context)


def _ask(place: Place, user: User, lost: dict[str, Any]) -> HttpResponse:
    """Ask an admin who gives up their own role; the form goes to ``index``."""
    said = {"role": role_words(lost["before"]), "project": place.project}
    context: dict[str, Any] = {
        "question": _("Give up your role %(role)s in %(project)s?") % said,
        "back": place.url("members"),
        "action": place.url("members"),
        "member": user,
        "lost": lost,
    }
    return place.render("console/members/own_role.html", side="members", **context)


def _key(place: Place, identifier: str) -> AccessKey:
    found = members.keys_in_project(place.project, with_ended=True).select_related("user", "project", "former")
    chosen = found.filter(identifier=identifier).first()
    if chosen is None:
        raise Http404
    return chosen


def _set_role(place: Place, user: User, role: str, seen: str | None) -> None:
    if role not in {"", *ProjectRole.values}:
        raise Http404
    event = members.set_role(place.actor, place.project, user, ProjectRole(role) if role else None, seen=seen)
    if not role:
        words = _("%(email)s has been removed from %(project)s.")
    elif event and not event.detail["before"]:
        words = _("%(email)s has been added to %(project)s as %(role)s.")
    else:
        words = _("%(email)s is now %(role)s.")
    said = {"email": user.email, "project": place.project, "role": role_words(role)}
    may_undo = user.pk != place.actor.user_id or access.may(place.actor, Action.ADMINISTER, place.project)
    place.flash(words % said, undoable=event if may_undo else None)
