"""The members of a project and their access keys."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from django.http import Http404
from django.utils.translation import gettext as _

from accounts.models import ProjectRole
from console.forms.members import ProjectMember
from console.queries import accounts as account_queries
from console.queries import members as queries
from console.templatetags.roles import role_words
from console.views.shared.decorators import of_project
from console.views.shared.members import member_from_form
from registry import members
from registry.access import Action

if TYPE_CHECKING:
    from django.http import HttpResponse

    from accounts.models import User
    from console.views.shared.place import Place


@of_project(Action.VIEW, post=Action.ADMINISTER)
def index(place: Place) -> HttpResponse:
    """The members. POST adds one, changes a role, or removes one."""
    posted = place.request.POST
    adds = posted.get("act") == "add"
    form = ProjectMember(posted if adds else None)
    if place.request.method == "POST" and (not adds or form.is_valid()):
        words = _("No member of %(organization)s has this address. An owner of the organization can add them.")
        user = member_from_form(place, form, words, partial(members.role_of, place.project))
        if user is not None:
            _set_role(place, user, posted.get("role", ""))
            return place.redirect_to("members")
    page = queries.project_members(place.project, place.request.GET)
    return place.render("console/members/index.html", side="members", form=form, page=page)


@of_project(Action.ADMINISTER)
def keys(place: Place) -> HttpResponse:
    """The access keys that can act in the project."""
    page = account_queries.acting_keys(members.keys_in_project(place.project), place.request.GET)
    return place.render("console/members/keys.html", side="members", page=page)


@of_project(Action.ADMINISTER)
def key(place: Place, identifier: str) -> HttpResponse:
    """One of these keys; POST revokes it."""
    found = members.keys_in_project(place.project).select_related("user", "project").filter(identifier=identifier)
    chosen = found.first()
    if chosen is None:
        raise Http404
    if place.request.method == "POST":
        members.revoke_key(place.actor, place.project, chosen)
        place.flash(_("Access key “%(name)s” has been revoked.") % {"name": chosen.name})
        return place.redirect_to("project_keys")
    may_revoke = members.may_revoke(place.actor, place.project, chosen)
    return place.render("console/members/key.html", side="members", key=chosen, may_revoke=may_revoke)


def _set_role(place: Place, user: User, role: str) -> None:
    if role not in {"", *ProjectRole.values}:
        raise Http404
    wanted, seen = ProjectRole(role) if role else None, place.request.POST.get("seen")
    members.set_role(place.actor, place.project, user, wanted, seen=seen)
    words = _("%(email)s is now %(role)s.") if role else _("%(email)s is not in the project any more.")
    place.flash(words % {"email": user.email, "role": role_words(role)})
