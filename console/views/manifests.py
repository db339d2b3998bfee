"""Manifests: their contents, and deleting them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from django.http import Http404
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.queries import images as image_queries
from console.queries import manifests as queries
from console.views.shared.decorators import of_project
from console.views.shared.selection import Selection, selected
from registry import trash
from registry.access import Action
from registry.oci.names import ImageName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import HttpResponse, QueryDict

    from console.views.shared.place import Place
    from registry.models import Image


@of_project(Action.VIEW)
def show(place: Place, reference: str) -> HttpResponse:
    """A manifest or index: layers, configuration, platforms, referrers."""
    page = _find(place, reference)
    return place.render("console/manifests/show.html", side="repositories", page=page)


@of_project(Action.MANAGE)
def delete(place: Place, reference: str) -> HttpResponse:
    """GET shows what would be deleted; POST deletes the manifest with all its tags."""
    digest = _find(place, reference).manifest.digest
    return _delete(place, Selection([digest], is_confirmed=place.request.method == "POST"))


@of_project(Action.MANAGE)
def delete_many(place: Place) -> HttpResponse:
    """GET shows what would be deleted; POST deletes the chosen manifests, or all that match the filter of the list."""
    selection = selected(place.request, "digest", partial(_matching, place.image))
    return _delete(place, selection) if selection.names else place.redirect_to("untagged")


def _delete(place: Place, selection: Selection) -> HttpResponse:
    wanted = selection.names
    if selection.is_confirmed:
        name = ImageName(place.project.name, place.repository.name, place.image.name)
        deletion = trash.delete_references(place.actor, place.repository, name, wanted)
        words = ngettext("%(count)s digest has been deleted.", "%(count)s digests have been deleted.", len(wanted))
        place.flash(words % {"count": len(wanted)}, restorable=deletion)
        return place.redirect_to("image")
    context: dict[str, Any] = {"selection": selection, "gone": trash.consequences(place.image, wanted)}
    return place.render("console/manifests/delete.html", side="repositories", **context)


def _matching(image: Image, filters: QueryDict) -> Iterable[str]:
    found = image_queries.untagged(image, filters)["listing"].found
    return found.order_by("pk").values_list("digest", flat=True)  # type: ignore[no-any-return]


def _find(place: Place, reference: str) -> queries.Digest:
    page = queries.digest(place.image, reference)
    if page is None:
        raise Http404(_("%(name)s has no %(reference)s.") % {"name": place.image.name, "reference": reference})
    return page
