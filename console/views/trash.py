"""Recovery: restore, hold and purge deletions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.http import Http404
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.errors import sentence
from console.forms.shared.typed_name import TypedName
from console.queries import images as image_queries
from console.queries import trash as queries
from console.queries.shared.listing import identifier
from console.views.shared.decorators import of_project
from console.views.shared.pages import referring_page
from registry import trash
from registry.access import Action
from registry.models import Deletion

if TYPE_CHECKING:
    from django.http import HttpResponse

    from console.views.shared.place import Place


@of_project(Action.VIEW)
def show(place: Place) -> HttpResponse:
    """The restorable deletions of a project, a repository or an image."""
    page = queries.deletions(place.project, place.maybe_repository, place.maybe_image, place.request.GET)
    if place.maybe_image:
        page |= image_queries.counts(place.image)
    side = "repositories" if place.maybe_repository else "recovery"
    return place.render("console/trash/show.html", side=side, page=page)


@of_project(Action.VIEW, post=Action.MANAGE)
def restore(place: Place) -> HttpResponse:
    """POST restores the chosen deletions. The Undo button of a message posts here too."""
    wanted = [pk for text in place.request.POST.getlist("deletion") if (pk := identifier(text)) is not None]
    known = Deletion.objects.filter(project=place.project, pk__in=wanted).count()
    if place.request.method != "POST" or not wanted:
        return place.redirect_to("recovery")
    if known < len(set(wanted)):
        messages.warning(place.request, _("Some of this was recovered already, or is gone for good."))
        return redirect(referring_page(place.request, place.url("recovery")))
    restored = trash.restore(place.actor, wanted, replace_tags=bool(place.request.POST.get("replace_tags")))
    if restored.deletions:
        paths = ", ".join(dict.fromkeys(deletion.path for deletion in restored.deletions[:5]))
        words = ngettext("Recovered: %(paths)s (%(tags)s tag).", "Recovered: %(paths)s (%(tags)s tags).", restored.tags)
        place.flash(words % {"paths": paths, "tags": restored.tags})
    for skipped in restored.skipped[:5]:
        words = _("%(path)s:%(tag)s points to another digest now and was skipped.")
        place.flash(words % {"path": skipped.path, "tag": skipped.tag}, level=messages.WARNING)
    for deletion, why in restored.refused[:5]:
        place.flash(sentence(f"{deletion}: {why}"), level=messages.ERROR)
    return redirect(referring_page(place.request, place.url("recovery")))


@of_project(Action.MANAGE, post=Action.ADMINISTER)
def purge(place: Place, deletion: int) -> HttpResponse:
    """A deletion and its hold. POST purges its content now, if its name was typed."""
    found = trash.listed(place.project).filter(pk=deletion).first()
    if found is None:
        raise Http404
    form = TypedName(place.request.POST or None, name=found.path)
    if place.request.method == "POST" and form.is_valid():
        trash.purge_now(place.actor, found)
        place.flash(_("%(what)s is gone for good.") % {"what": found})
        return place.redirect_to("recovery")
    context: dict[str, Any] = {"form": form, "deletion": found}
    return place.render("console/trash/purge.html", side="recovery", **context)


@of_project(Action.MANAGE)
def hold(place: Place, deletion: int) -> HttpResponse:
    """POST sets or clears the hold of a deletion."""
    found = trash.listed(place.project).filter(pk=deletion).first()
    if found is None:
        raise Http404
    if place.request.method == "POST":
        trash.hold(place.actor, found, on=place.request.POST.get("on") == "yes")
        place.flash(_("Saved."))
    return redirect(referring_page(place.request, place.url("recovery")))
