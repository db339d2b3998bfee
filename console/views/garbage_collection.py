"""Garbage collection of a project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext as _

from console.queries import garbage_collection as queries
from console.views.shared.decorators import of_project
from registry import garbage, tasks
from registry.access import Action

if TYPE_CHECKING:
    from django.http import HttpResponse

    from console.views.shared.place import Place


@of_project(Action.VIEW, post=Action.MANAGE)
def show(place: Place) -> HttpResponse:
    """A preview, the present run and past runs. POST starts or stops a run."""
    page = queries.page(place.project)
    if place.request.method == "POST":
        if place.request.POST.get("act") == "stop" and page["open"]:
            garbage.stop(page["open"])
            place.flash(_("The run stops after its present batch."))
        elif place.request.POST.get("act") == "run":
            run, is_new = garbage.request(place.actor, place.project)
            tasks.start_collection(run.pk)
            place.flash(_("The run has been queued.") if is_new else _("A run is at work already."))
        return place.redirect_to("garbage_collection")
    return place.render("console/garbage_collection/show.html", side="garbage_collection", page=page)
