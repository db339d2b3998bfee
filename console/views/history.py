"""The history: who did what, when, from where; and undoing what somebody did."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from console.forms.history import HistoryFilter, UndoChoice
from console.queries import history as queries
from console.queries import images as image_queries
from console.shortcuts import Place, as_csv, of_project
from registry import audit, trash, undo
from registry.access import Action

if TYPE_CHECKING:
    from django.http import HttpResponse, HttpResponseBase


@of_project(Action.VIEW)
def show(place: Place) -> HttpResponse:
    """The events of a project, a repository or an image."""
    form = HistoryFilter(place.request.GET)
    wanted = form.wanted(place.project, place.repository, place.image)
    context: dict[str, Any] = {"page": queries.page(wanted, place.request.GET), "form": form}
    if place.image:
        context["page"] |= image_queries.counts(place.pushed)
    return place.render(_template(place), side=_side(place), tab="history", **context)


@of_project(Action.VIEW)
def download(place: Place) -> HttpResponseBase:
    """The same as CSV, however much it is."""
    wanted = HistoryFilter(place.request.GET).wanted(place.project, place.repository, place.image)
    return as_csv(audit.csv_rows(wanted), f"history-{place.project.name}.csv")


@of_project(Action.MANAGE)
def undo_all(place: Place) -> HttpResponse:
    """Undo what a key or a person did since a moment: a preview first, then the act."""
    form = UndoChoice(place.request.POST or place.request.GET or None, initial={"hours": "24"})
    context: dict[str, Any] = {"form": form, "who": queries.people(place.project)}
    if form.is_valid():
        events = queries.acts(place.project, form.cleaned_data["who"], form.since())
        if place.request.method == "POST":
            done = undo.undo(place.actor, events, trash.restore)
            place.say(_("%(count)s changes have been undone.") % {"count": len(done.done)})
            context["done"] = done
        else:
            context["steps"] = undo.preview(place.actor, events)
    return place.render("console/undo.html", side="history", **context)


def _side(place: Place) -> str:
    return "repositories" if place.repository else "history"


def _template(place: Place) -> str:
    if place.image:
        return "console/image_history.html"
    return "console/repository_history.html" if place.repository else "console/history.html"
