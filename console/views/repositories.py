"""Repositories: their images, settings, permissions."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts.models import RepositoryRole
from console.forms.repositories import Grant, NewRepository, RepositorySettings
from console.forms.shared.seen import seen
from console.forms.shared.typed_name import TypedName
from console.queries import members
from console.queries import repositories as queries
from console.templatetags.roles import role_words
from console.views.shared.decorators import of_project
from console.views.shared.kept_forms import typed
from console.views.shared.members import member_of_list, member_to_add
from registry import repositories, trash
from registry.access import Action

if TYPE_CHECKING:
    from accounts.models import User
    from console.views.shared.place import Place


@of_project(Action.VIEW)
def index(place: Place) -> HttpResponse:
    """All repositories of the project."""
    page = queries.repositories(place.project, place.request.GET)
    return place.render("console/repositories/index.html", side="repositories", page=page)


@of_project(Action.MANAGE)
def create(place: Place) -> HttpResponse:
    """A new repository."""
    form = NewRepository(typed(place.request))
    if place.request.method == "POST" and form.is_valid():
        wanted, name = form.wanted(), form.cleaned_data["name"]
        made = form.attempt(repositories.create, place.actor, place.project, name, **wanted)
        if made and (made[1] or repositories.was_just_made(made[0], place.actor, wanted)):
            return redirect(reverse("console:repository", args=[place.project.name, name]))
        if made:
            form.add_error("name", _("There is a repository %(name)s already.") % {"name": name})
    return place.render("console/repositories/create.html", side="repositories", form=form)


@of_project(Action.VIEW)
def show(place: Place) -> HttpResponse:
    """The images of a repository. 204 if the page waits for the first one."""
    page = queries.images(place.repository, place.request.GET)
    if place.is_waiting and not page["listing"].rows:
        return HttpResponse(status=HTTPStatus.NO_CONTENT)
    return place.render("console/repositories/show.html", side="repositories", page=page)


@of_project(Action.VIEW)
def commands(place: Place) -> HttpResponse:
    """Commands to log in, tag, push and pull."""
    name = place.request.GET.get("image", "").strip()[:200] or "IMAGE"
    context: dict[str, Any] = {"commands": queries.commands(place.repository, name), "image_name": name}
    return place.render("console/repositories/commands.html", side="repositories", **context)


@of_project(Action.VIEW, post=Action.MANAGE)
def settings(place: Place) -> HttpResponse:
    """Description, readme, visibility, scans, pull policy."""
    current = repositories.settings_of(place.repository)
    given = typed(place.request)
    form = (
        RepositorySettings(given) if given else RepositorySettings.of(current, repositories.readme_of(place.repository))
    )
    if place.request.method == "POST" and form.is_valid():
        form.attempt(repositories.update, place.actor, place.repository, seen=seen(form), **form.wanted())
        if form.is_valid():
            place.flash(_("The settings of %(name)s have been saved.") % {"name": place.repository.name})
            return place.redirect_to("repository_settings")
    context: dict[str, Any] = {"form": form, "current": current}
    return place.render("console/repositories/settings.html", side="repositories", **context)


@of_project(Action.VIEW, post=Action.MANAGE)
def permissions(place: Place) -> HttpResponse:
    """Repository Members and Viewers. POST changes or removes a role."""
    if place.request.method == "POST":
        posted = place.request.POST
        _set_role(place, member_of_list(place, posted.get("email", "")), posted.get("role", ""), posted.get("seen"))
        return place.redirect_to("permissions")
    asked = place.request.GET.get("who", "").strip()
    context: dict[str, Any] = {
        "page": queries.repository_permissions(place.repository, place.request.GET),
        "asked": asked,
        "reason": queries.reason(place.repository, asked) if asked else None,
    }
    return place.render("console/repositories/permissions.html", side="repositories", **context)


@of_project(Action.MANAGE)
def grant(place: Place) -> HttpResponse:
    """A role on the repository for a person outside the project."""
    form = Grant(typed(place.request))
    if place.request.method == "POST" and form.is_valid():
        words = _("No member of %(organization)s has this address: roles are given to members of the organization.")
        user = member_to_add(place, form, words, partial(repositories.role_of, place.repository))
        if user and form.attempt(_set_role, place, user, form.cleaned_data["role"], None):
            return place.redirect_to("permissions")
    context: dict[str, Any] = {
        "question": _("Grant access to %(repository)s") % {"repository": place.repository.name},
        "back": place.url("permissions"),
        "action": place.url("permission_add"),
        "candidates": queries.candidates(place.repository),
    }
    return place.render("console/repositories/permission_add.html", side="repositories", form=form, **context)


@of_project(Action.MANAGE)
def end_grant(place: Place) -> HttpResponse:
    """Ask before a role on the repository is removed; the form goes to ``permissions``."""
    user = member_of_list(place, place.request.GET.get("email", ""))
    role = repositories.role_of(place.repository, user)
    if role is None:
        raise Http404
    said = {"email": user.email, "repository": place.repository.name}
    context: dict[str, Any] = {
        "question": _("Remove the role of %(email)s on %(repository)s?") % said,
        "back": place.url("permissions"),
        "action": place.url("permissions"),
        "member": user,
        "role": role,
        "keys": members.keys_of(place.project, user),
    }
    return place.render("console/repositories/permission_remove.html", side="repositories", **context)


def _set_role(place: Place, user: User, role: str, seen: str | None) -> bool:
    if role not in {"", *RepositoryRole.values}:
        raise Http404
    wanted = RepositoryRole(role) if role else None
    event = repositories.set_role(place.actor, place.repository, user, wanted, seen=seen)
    words = _("%(email)s is now %(role)s.") if wanted else _("%(email)s has no role on %(repository)s any more.")
    said = {"email": user.email, "role": role_words(role), "repository": place.repository.name}
    place.flash(words % said, undoable=event)
    return True


@of_project(Action.MANAGE)
def delete(place: Place) -> HttpResponse:
    """POST deletes the repository, if its name was typed."""
    form = TypedName(place.request.POST or None, name=place.repository.name)
    if place.request.method == "POST" and form.is_valid():
        deletion = form.attempt(trash.delete_repository, place.actor, place.repository)
        if deletion:
            place.maybe_repository = None
            place.flash(_("%(path)s has been deleted.") % {"path": deletion.path}, restorable=deletion)
            return place.redirect_to("repositories")
    context: dict[str, Any] = {"form": form, "gone": queries.consequences(place.repository)}
    return place.render("console/repositories/delete.html", side="repositories", **context)
