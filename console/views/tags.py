"""Tags: adding, moving and deleting them, and their history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.forms.tags import AddTag
from console.queries import images as image_queries
from console.queries import manifests as manifest_queries
from console.queries import tags as queries
from console.views.shared.decorators import of_project
from registry import manifests, trash
from registry.access import Action
from registry.oci.names import ImageName

if TYPE_CHECKING:
    from django.http import HttpResponse

    from console.views.shared.place import Place


@of_project(Action.MANAGE)
def add(place: Place) -> HttpResponse:
    """Point a tag to a digest: a new tag, or an existing one ("make this the tag again")."""
    asked = {name: place.request.GET.get(name, "") for name in ("tag", "digest", "seen")}
    form = AddTag(place.request.POST or None, initial=asked)
    if place.request.method == "POST" and form.is_valid():
        tag, digest = form.cleaned_data["tag"], form.cleaned_data["digest"]
        seen = form.cleaned_data["seen"]
        changed = form.attempt(
            manifests.point_tag, place.actor, place.repository, name_of(place), tag, digest, seen=seen
        )
        if changed is not None:
            place.flash(_("%(tag)s now points to %(digest)s.") % {"tag": tag, "digest": digest[:19]})
            return place.redirect_to("image")
    context: dict[str, Any] = {
        "form": form,
        "digests": manifest_queries.recent_digests(place.image),
        "page": image_queries.counts(place.image),
    }
    return place.render("console/tags/add.html", side="repositories", **context)


@of_project(Action.MANAGE)
def delete(place: Place) -> HttpResponse:
    """GET shows what would be deleted; POST deletes the chosen tags."""
    wanted = place.request.POST.getlist("tag") or place.request.GET.getlist("tag")
    if not wanted:
        return place.redirect_to("image")
    if place.request.method == "POST" and place.request.POST.get("sure"):
        deletion = trash.delete_references(place.actor, place.repository, name_of(place), wanted)
        words = ngettext("%(count)s tag has been deleted.", "%(count)s tags have been deleted.", len(wanted))
        place.flash(words % {"count": len(wanted)}, restorable=deletion)
        return place.redirect_to("image")
    chosen = queries.chosen_tags(place.image, wanted)
    return place.render("console/tags/delete.html", side="repositories", chosen=chosen)


@of_project(Action.VIEW)
def history(place: Place) -> HttpResponse:
    """Every digest that the tags ever pointed to."""
    page = queries.tag_history(place.image, place.request.GET)
    return place.render("console/tags/history.html", side="repositories", page=page)


def name_of(place: Place) -> ImageName:
    """The name of the image in the URL."""
    return ImageName(place.project.name, place.repository.name, place.image.name)
