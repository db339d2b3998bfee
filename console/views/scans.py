"""The scans of a project: results, queue, failures and risk acceptances."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import Http404
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django_htmx.http import HttpResponseClientRefresh

from console.queries import scans as queries
from console.queries.shared.listing import identifier
from console.views.shared.decorators import of_project
from console.views.shared.pages import referring_page
from registry.access import Action
from registry.models import Repository
from scanning import acceptances as domain
from scanning import scans, tasks
from scanning.models import Acceptance, Scan

if TYPE_CHECKING:
    from django.http import HttpResponse

    from console.views.shared.place import Place


@of_project(Action.VIEW, post=Action.MANAGE)
def show(place: Place) -> HttpResponse:
    """The project at a glance; POST scans everything tagged, stops that, or retries one digest or all that failed."""
    if place.request.method == "POST":
        return _ask(place)
    if place.request.headers.get("HX-Target") == "queue" and not queries.queue(place.project)["total"]:
        return HttpResponseClientRefresh()
    page = queries.page(place.project)
    if place.may_manage:
        page["unisolated"] = queries.unisolated()
    return place.render("console/scans/show.html", side="scans", page=page)


@of_project(Action.VIEW)
def log(place: Place) -> HttpResponse:
    """All scans, the newest first."""
    return place.render("console/scans/log.html", side="scans", page=queries.log(place.project, place.request.GET))


@of_project(Action.VIEW, post=Action.MANAGE)
def acceptances(place: Place) -> HttpResponse:
    """The risk acceptances. POST withdraws one."""
    if place.request.method == "POST":
        acceptance = _acceptance(place, identifier(place.request.POST.get("acceptance")) or 0)
        event = domain.withdraw(place.actor, acceptance)
        if event:
            words = _("%(vulnerability)s is not accepted any more.") % {"vulnerability": acceptance.vulnerability}
            place.flash(words, undoable=event)
        came_from, log = referring_page(place.request, ""), place.url("acceptances")
        return redirect(log if came_from.endswith("/withdraw") else came_from or log)
    page = queries.acceptances(place.project, place.request.GET)
    return place.render("console/scans/acceptances.html", side="scans", page=page)


@of_project(Action.MANAGE)
def withdraw(place: Place, acceptance: int) -> HttpResponse:
    """Ask before an acceptance is withdrawn; the form goes to ``acceptances``."""
    found = _acceptance(place, acceptance)
    if found.withdrawn_at:
        return place.redirect_to("acceptances")
    context: dict[str, Any] = {
        "question": _("Withdraw the acceptance of %(vulnerability)s?") % {"vulnerability": found.vulnerability},
        "back": referring_page(place.request, place.url("acceptances")),
        "action": place.url("acceptances"),
        "acceptance": found,
        "ends": queries.what_counts_again(found),
    }
    return place.render("console/acceptances/withdraw.html", side="scans", **context)


def _acceptance(place: Place, pk: int) -> Acceptance:
    found = Acceptance.objects.filter(project=place.project, pk=pk)
    acceptance = found.select_related("repository__project", "project").first()
    if acceptance is None:
        raise Http404
    return acceptance


@of_project(Action.MANAGE)
def scan_repository(place: Place) -> HttpResponse:
    """POST scans every digest of the repository that has a tag."""
    if place.request.method == "POST":
        _start(place, scans.request_for_tagged(place.actor, [place.repository]))
    return place.redirect_to("repository")


def _ask(place: Place) -> HttpResponse:
    act, chosen = place.request.POST.get("act", ""), place.request.POST.get("manifest", "")
    if act == "all":
        live = Repository.objects.live().filter(project=place.project)
        _start(place, scans.request_for_tagged(place.actor, live))
    elif act == "stop":
        number = scans.stop_requested(place.project)
        words = ngettext("%(count)s scan was stopped.", "%(count)s scans were stopped.", number)
        place.flash(words % {"count": number} if number else _("No scan was waiting."))
    elif act == "retry":
        failed = queries.failed(place.project)
        if chosen:
            failed = failed.filter(pk=identifier(chosen) or 0)
        _start(place, scans.request(failed.values_list("pk", flat=True), Scan.Trigger.MANUAL, place.actor.label))
    return place.redirect_to("scans")


def _start(place: Place, started: list[int]) -> None:
    tasks.start(started)
    words = ngettext("%(count)s scan is on its way.", "%(count)s scans are on their way.", len(started))
    place.flash(words % {"count": len(started)} if started else _("There is nothing to scan."))
