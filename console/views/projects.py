"""A project as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from console.forms.accounts import ProjectSettings
from console.forms.parts import seen
from console.queries import projects as queries
from console.shortcuts import Place, of_project
from registry import projects
from registry.access import Action

if TYPE_CHECKING:
    from django.http import HttpResponse


@of_project(Action.VIEW)
def overview(place: Place) -> HttpResponse:
    """What needs me?"""
    return place.render("console/overview.html", side="overview", page=queries.overview(place.project))


@of_project(Action.VIEW)
def usage(place: Place) -> HttpResponse:
    """How full is it?"""
    return place.render("console/usage.html", side="usage", page=queries.usage(place.project))


@of_project(Action.VIEW, post=Action.ADMINISTER)
def settings(place: Place) -> HttpResponse:
    """Name and description; the ID never changes."""
    form = ProjectSettings(place.request.POST) if place.request.method == "POST" else ProjectSettings.of(place.project)
    if place.request.method == "POST" and form.is_valid():
        wanted = {name: form.cleaned_data[name] for name in projects.SETTINGS}
        if form.attempt(projects.update, place.actor, place.project, seen=seen(form), **wanted) is not None:
            place.say(_("The project has been saved."))
            return place.go("project_settings")
    return place.render("console/project_settings.html", side="project_settings", form=form)
