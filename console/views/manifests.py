"""Manifests: their contents, and deleting them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import Http404
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.queries import manifests as queries
from console.views.shared.decorators import of_project
from registry import trash
from registry.access import Action
from registry.oci.names import ImageName

if TYPE_CHECKING:
    from django.http import HttpResponse

    from console.views.shared.place import Place


@of_project(Action.VIEW)
def show(place: Place, reference: str) -> HttpResponse:
    """A manifest or index: layers, configuration, platforms, referrers."""
    page = _find(place, reference)
    return place.render("console/manifests/show.html", side="repositories", page=page)


@of_project(Action.MANAGE)
def delete(place: Place, reference: str) -> HttpResponse:
    """GET shows what would be deleted; POST deletes the manifest with all its tags."""
    return _delete(place, [_find(place, reference).manifest.digest], place.request.method == "POST")


@of_project(Action.MANAGE)
def delete_many(place: Place) -> HttpResponse:
    """GET shows what would be deleted; POST deletes the chosen manifests."""
    wanted = place.request.POST.getlist("digest") or place.request.GET.getlist("digest")
    if not wanted:
        return place.redirect_to("untagged")
    return _delete(place, wanted, bool(place.request.method == "POST" and place.request.POST.get("sure")))


def _delete(place: Place, wanted: list[str], is_sure: bool) -> HttpResponse:
    if is_sure:
        name = ImageName(place.project.name, place.repository.name, place.image.name)
        deletion = trash.delete_references(place.actor, place.repository, name, wanted)
        words = ngettext("%(count)s digest has been deleted.", "%(count)s digests have been deleted.", len(wanted))
        place.flash(words % {"count": len(wanted)}, restorable=deletion)
        return place.redirect_to("image")
    gone = trash.consequences(place.image, wanted)
    return place.render("console/manifests/delete.html", side="repositories", wanted=wanted, gone=gone)


def _find(place: Place, reference: str) -> queries.Digest:
    page = queries.digest(place.image, reference)
    if page is None:
        raise Http404(_("%(name)s has no %(reference)s.") % {"name": place.image.name, "reference": reference})
    return page
