"""Undoing the changes that a key or a person made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from console.forms.undo import UndoChoice
from console.queries import undo as queries
from console.views.shared.decorators import of_project
from registry import undo
from registry.access import Action

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
