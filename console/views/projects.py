"""Projects: the list of them, one as a whole, its usage and settings."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _

from console.forms.projects import NewProject, ProjectSettings
from console.forms.shared.seen import seen
from console.queries import projects as queries
from console.queries import repositories as repository_queries
from console.views.shared.decorators import of_project, personal
from console.views.shared.kept_forms import typed
from console.views.shared.organizations import find_organization
from console.views.shared.pages import render_standalone
from console.views.shared.place import Place, actor
from registry import projects
from registry.access import Action

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


@of_project(Action.VIEW)
def overview(place: Place) -> HttpResponse:
    """The overview of a project."""
    return place.render("console/projects/overview.html", side="overview", page=queries.overview(place.project))


@of_project(Action.VIEW)
def usage(place: Place) -> HttpResponse:
    """Usage and quotas."""
    return place.render("console/projects/usage.html", side="usage", page=queries.usage(place.project))


@of_project(Action.VIEW, post=Action.ADMINISTER)
def settings(place: Place) -> HttpResponse:
    """Name and description. The ID never changes."""
    given = typed(place.request)
    form = ProjectSettings(given) if given else ProjectSettings.of(place.project)
    if place.request.method == "POST" and form.is_valid():
        form.attempt(projects.update, place.actor, place.project, seen=seen(form), **form.wanted())
        if form.is_valid():
            place.flash(_("The project has been saved."))
            return place.redirect_to("project_settings")
    return place.render("console/projects/settings.html", side="project_settings", form=form)


@personal
def home(request: HttpRequest) -> HttpResponse:
    """Projects by organization, and single repositories; straight into the only project when there is no choice."""
    page = queries.home(actor(request), request.GET)
    granted = repository_queries.granted(actor(request))
    came_from = urlsplit(request.headers.get("Referer", "")).path
    if page.only and not granted and not request.GET and came_from in {"", reverse("console:sign_in")}:
        return redirect("console:overview", page.only.name)
    return render_standalone(request, "console/projects/home.html", page=page, granted=granted)


@personal
def create(request: HttpRequest, organization: str) -> HttpResponse:
    """A new project of the organization."""
    found, _is_owner = find_organization(request, organization, change=True)
    form = NewProject(typed(request))
    if request.method == "POST" and form.is_valid():
        made = form.attempt(projects.create, actor(request), found, **form.cleaned_data)
        if made and (made[1] or projects.was_just_made(made[0], actor(request))):
            return redirect("console:overview", made[0].name)
        if made:
            form.add_error("name", _("There is a project of this name already."))
    return render_standalone(request, "console/projects/create.html", form=form, organization=found)
