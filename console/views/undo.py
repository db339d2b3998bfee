"""Undoing the changes that a key or a person made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.http import Http404
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from accounts.errors import sentence
from console.forms.undo import UndoChoice
from console.queries import undo as queries
from console.views.shared.decorators import of_project
from console.views.shared.pages import referring_page
from registry.access import Action
from scanning import undo

if TYPE_CHECKING:
    from django.http import HttpResponse

    from console.views.shared.place import Place


@of_project(Action.MANAGE)
def show(place: Place) -> HttpResponse:
    """Undo what a key or a person did since a moment: a preview first, then the act."""
    form = UndoChoice(place.request.POST or place.request.GET or None, initial={"hours": "24"})
    context: dict[str, Any] = {"form": form, "who": queries.people(place.project)}
    if form.is_valid():
        events = queries.acts(place.project, form.cleaned_data["who"], form.since())
        if place.request.method == "POST":
            done = undo.undo(place.actor, events)
            place.flash(_("%(count)s changes have been undone.") % {"count": len(done.done)})
            context["done"] = done
        else:
            context["steps"] = undo.preview(place.actor, events)
    return place.render("console/undo/show.html", side="audit_log", **context)


@of_project(Action.MANAGE)
def one(place: Place, event: int) -> HttpResponse:
    """Undo one change of the audit log: the values before and after it first, then the act."""
    events = queries.act(place.project, event)
    found = events.select_related("key", "repository", "image").filter(pk=event).first()
    if found is None:
        raise Http404
    if place.request.method == "POST":
        result = undo.undo(place.actor, events)
        for step in result.skipped:
            place.flash(sentence(f"{step.words}: {step.problem}"), level=messages.ERROR)
        if result.done:
            place.flash(_("The change has been undone."))
        elif not result.skipped:
            place.flash(_("There is nothing to undo."), level=messages.INFO)
        came_from, log = referring_page(place.request, ""), place.url("audit_log")
        return redirect(log if came_from.endswith(place.request.path) else came_from or log)
    steps = undo.preview(place.actor, events)
    is_possible = any(not step.problem for step in steps)
    return place.render("console/undo/one.html", side="audit_log", event=found, steps=steps, is_possible=is_possible)
