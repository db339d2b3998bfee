"""The cleanup policy of a repository, and its runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import Http404
from django.utils.translation import gettext as _

from console.forms.cleanup import Policy
from console.forms.shared.seen import seen
from console.queries import cleanup as queries
from console.views.shared.decorators import of_project
from console.views.shared.kept_forms import typed
from registry import cleanup, tasks
from registry.access import Action
from registry.cleanup import policies

if TYPE_CHECKING:
    from django.http import HttpResponse

    from console.views.shared.place import Place


@of_project(Action.VIEW, post=Action.MANAGE)
def show(place: Place) -> HttpResponse:
    """The policy. POST previews what it would delete, saves it or starts a run."""
    current = queries.policy_of(place.repository)
    given = typed(place.request)
    form = Policy(given) if given else Policy.of(current)
    context: dict[str, Any] = {"form": form, "current": current, "runs": queries.runs(place.repository)}
    if place.request.method == "POST" and form.is_valid():
        act = place.request.POST.get("act")
        if act == "save":
            if form.attempt(policies.set_policy, place.actor, place.repository, seen=seen(form), **form.rules()):
                runs = form.cleaned_data["is_active"]
                words = _("The cleanup policy has been saved. It runs at night.")
                place.flash(words if runs else _("The cleanup policy has been saved. It does not run by itself."))
                return place.redirect_to("cleanup")
        elif act == "run" and current.pk:
            tasks.start_cleanup(current.pk)
            place.flash(_("A run has been queued."))
            return place.redirect_to("cleanup")
        else:
            wanted = form.policy(place.repository)
            context["preview"] = queries.preview(place.repository, wanted)
            context["replay"] = queries.replayed(place.repository, wanted)
    return place.render("console/cleanup/show.html", side="repositories", **context)


@of_project(Action.VIEW, post=Action.MANAGE)
def run(place: Place, run: int) -> HttpResponse:
    """One run with the reason for each tag. POST approves or dismisses a run that waits for approval."""
    found = queries.run(place.repository, run, place.request.GET)
    if found is None:
        raise Http404
    if place.request.method == "POST":
        if place.request.POST.get("act") == "approve":
            cleanup.approve(place.actor, run)
            tasks.start_cleanup(queries.policy_of(place.repository).pk)
        else:
            cleanup.dismiss(place.actor, run)
        return place.redirect_to("cleanup_run", run=run)
    return place.render("console/cleanup/run.html", side="repositories", tab="cleanup", page=found)
