"""Repositories: what is in here, and who may touch it?"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.http import Http404
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.grants import RepositoryRole
from console.forms.parts import seen
from console.forms.repositories import Grant, NewRepository, RepositorySettings, TypedName
from console.queries import images as image_queries
from console.queries import people
from console.queries import repositories as queries
from console.shortcuts import Place, about_whom, of_project
from console.templatetags.kcr import role_words
from registry import images, repositories
from registry.access import Action

if TYPE_CHECKING:
    from django.http import HttpResponse

    from accounts.models import User


@of_project(Action.VIEW)
def listed(place: Place) -> HttpResponse:
    """All repositories of the project."""
    page = queries.repositories(place.project, place.request.GET)
    return place.render("console/repositories.html", side="repositories", page=page)


@of_project(Action.MANAGE)
def create(place: Place) -> HttpResponse:
    """A new repository."""
    form = NewRepository(place.request.POST or None)
    if place.request.method == "POST" and form.is_valid():
        wanted, name = form.wanted(), form.cleaned_data["name"]
        made = form.attempt(repositories.create, place.actor, place.project, name, **wanted)
        if made and (made[1] or repositories.was_just_made(made[0], place.actor, wanted)):
            return redirect(reverse("console:repository", args=[place.project.name, name]))
        if made:
            form.add_error("name", _("There is a repository %(name)s already.") % {"name": name})
    return place.render("console/repository_new.html", side="repositories", form=form)


@of_project(Action.VIEW)
def show(place: Place) -> HttpResponse:
    """The images of a repository."""
    return place.render(
        "console/repository.html",
        side="repositories",
        tab="images",
        page=queries.images(place.home, place.request.GET),
    )


@of_project(Action.VIEW)
def commands(place: Place) -> HttpResponse:
    """How to log in, tag, push and pull."""
    name = place.request.GET.get("image", "").strip()[:200] or "IMAGE"
    context: dict[str, Any] = {"commands": queries.commands(place.home, name), "image_name": name}
    return place.render("console/repository_commands.html", side="repositories", tab="commands", **context)


@of_project(Action.VIEW, post=Action.MANAGE)
def settings(place: Place) -> HttpResponse:
    """Description, visibility, tag overwrite, scans."""
    current = repositories.settings_of(place.home)
    form = RepositorySettings.of(current)
    if place.request.method == "POST":
        form = RepositorySettings(place.request.POST)
        if form.is_valid():
            change = form.attempt(repositories.update, place.actor, place.home, seen=seen(form), **form.wanted())
            if change is not None:
                place.say(_("The settings of %(name)s have been saved.") % {"name": place.home.name})
                return place.go("repository_settings")
    context: dict[str, Any] = {"form": form, "current": current}
    return place.render("console/repository_settings.html", side="repositories", tab="settings", **context)


@of_project(Action.VIEW, post=Action.MANAGE)
def permissions(place: Place) -> HttpResponse:
    """Repository Members and Viewers; POST gives a role, changes it, or takes it."""
    posted = place.request.POST
    adds = posted.get("act") == "add"
    form = Grant(posted if adds else None)
    if place.request.method == "POST" and (not adds or form.is_valid()):
        role = posted.get("role", "")
        if role not in {"", *RepositoryRole.values}:
            raise Http404
        words = _("Nobody in %(organization)s has this address: roles are given to people of the organization.")
        user = about_whom(place, form, words, partial(repositories.role_of, place.home))
        # What is refused to a form that adds stands at it; a row of the list has none.
        if user and (form.attempt(_set_role, place, user, role) if adds else _set_role(place, user, role)):
            return place.go("permissions")
    asked = place.request.GET.get("who", "").strip()
    context: dict[str, Any] = {
        "form": form,
        "page": people.repository_permissions(place.home, place.request.GET),
        "asked": asked,
        "reason": people.reason(place.home, asked) if asked else None,
    }
    return place.render("console/permissions.html", side="repositories", tab="permissions", **context)


def _set_role(place: Place, user: User, role: str) -> bool:
    wanted = RepositoryRole(role) if role else None
    repositories.set_role(place.actor, place.home, user, wanted, seen=place.request.POST.get("seen"))
    words = _("%(email)s is now %(role)s.") if wanted else _("%(email)s has no role here any more.")
    place.say(words % {"email": user.email, "role": role_words(role)})
    return True


@of_project(Action.MANAGE)
def delete(place: Place) -> HttpResponse:
    """Delete the repository, after its name has been typed."""
    form = TypedName(place.request.POST or None, name=place.home.name)
    if place.request.method == "POST" and form.is_valid():
        deletion = form.attempt(repositories.delete, place.actor, place.home)
        if deletion:
            place.repository = None
            place.say(_("%(path)s has been deleted.") % {"path": deletion.path}, undo=deletion)
            return place.go("repositories")
    context: dict[str, Any] = {"form": form, "gone": queries.consequences(place.home)}
    return place.render("console/repository_delete.html", side="repositories", **context)


@of_project(Action.MANAGE)
def delete_images(place: Place) -> HttpResponse:
    """Delete the images that were checked, after a look at what goes."""
    wanted = place.request.POST.getlist("image") or place.request.GET.getlist("image")
    if place.request.method == "POST" and place.request.POST.get("sure"):
        deletions = images.delete(place.actor, place.home, wanted)
        words = ngettext("%(count)s image has been deleted.", "%(count)s images have been deleted.", len(deletions))
        undo = deletions[0] if len(deletions) == 1 else None
        place.say(words % {"count": len(deletions)}, undo=undo)
        return place.go("repository")
    if not wanted:
        return place.go("repository")
    chosen = image_queries.consequences(place.home, wanted)
    return place.render("console/images_delete.html", side="repositories", chosen=chosen)
