"""Tags: adding, moving and deleting them, and their history."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.forms.tags import AddTag, HistoryFilter
from console.queries import images as image_queries
from console.queries import tags as queries
from console.templatetags.digests import named_digest
from console.views.shared.decorators import of_project
from console.views.shared.kept_forms import typed
from console.views.shared.selection import selected
from registry import manifests, trash
from registry.access import Action
from registry.oci.names import ImageName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import HttpResponse, QueryDict

    from console.views.shared.place import Place
    from registry.models import Image


@of_project(Action.MANAGE)
def add(place: Place) -> HttpResponse:
    """Point a tag to a digest. A tag that exists moves only after a look at what changes.

    GET with a tag and a digest shows the look, too: that is how pages offer to restore a tag.
    """
    given = typed(place.request) or place.request.GET
    is_complete = bool(given.get("tag") and given.get("digest"))
    form = AddTag(place.image, given if is_complete or place.request.method == "POST" else None, initial=given.dict())
    if form.is_valid():
        platform = place.request.GET.get("platform", "")
        move = queries.move(place.image, form.cleaned_data["tag"], form.cleaned_data["manifest"], platform)
        if form.may_point(place.actor, move):
            if place.request.method == "POST" and (move.before is None or form.has_seen(move)):
                if _point(place, form, move):
                    return place.redirect_to("image")
                move = queries.move(place.image, move.tag, move.after)  # another request was faster
            if move.before is not None:
                return place.render("console/tags/move.html", side="repositories", form=form, move=move)
    context: dict[str, Any] = {
        "form": form,
        "suggested": queries.newest(place.image),
        "page": image_queries.counts(place.image),
    }
    return place.render("console/tags/add.html", side="repositories", **context)


def _point(place: Place, form: AddTag, move: queries.Move) -> bool:
    """Point the tag. Returns whether it was done; the message that says so has a button that undoes it."""
    seen, name = form.cleaned_data["seen"], name_of(place)
    point = manifests.point_tag
    if form.attempt(point, place.actor, place.repository, name, move.tag, move.after.digest, seen=seen) is None:
        return False
    words = {"tag": move.tag, "to": named_digest(move.after.digest, move.tags_after)}
    if move.before:
        back = {"tag": move.tag, "digest": move.seen, "seen": move.after.digest}
        place.flash(_("%(tag)s now points to %(to)s.") % words, undo=(place.url("tag_add"), back))
    else:
        place.flash(
            _("%(tag)s was added. It points to %(to)s.") % words,
            undo=(place.url("tags_delete"), {"tag": move.tag, "sure": "yes"}),
        )
    return True


@of_project(Action.MANAGE)
def delete(place: Place) -> HttpResponse:
    """GET shows what would be deleted; POST deletes the chosen tags, or all that match the filter of the list."""
    selection = selected(place.request, "tag", partial(_matching, place.image))
    if not selection.names:
        return place.redirect_to("image")
    if selection.is_confirmed:
        deletion = trash.delete_references(place.actor, place.repository, name_of(place), selection.names)
        words = ngettext("%(count)s tag has been deleted.", "%(count)s tags have been deleted.", len(selection.names))
        place.flash(words % {"count": len(selection.names)}, restorable=deletion)
        return place.redirect_to("image")
    chosen = queries.chosen_tags(place.image, selection.shown)
    return place.render("console/tags/delete.html", side="repositories", chosen=chosen, selection=selection)


def _matching(image: Image, filters: QueryDict) -> Iterable[str]:
    found = image_queries.tags(image, filters)["listing"].found
    return found.order_by("natural_name", "name").values_list("name", flat=True)  # type: ignore[no-any-return]


@of_project(Action.VIEW)
def history(place: Place) -> HttpResponse:
    """Every digest that the tags ever pointed to, or the tags as of a day."""
    form = HistoryFilter(place.request.GET)
    page = queries.tag_history(place.image, place.request.GET, *form.wanted())
    return place.render("console/tags/history.html", side="repositories", form=form, page=page)


def name_of(place: Place) -> ImageName:
    """The name of the image in the URL."""
    return ImageName(place.project.name, place.repository.name, place.image.name)
