"""Digests: what is inside, is it safe?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import Http404
from django.utils.translation import gettext as _

from console.queries import images as queries
from console.queries import repositories as repository_queries
from console.shortcuts import Place, of_project
from registry import manifests
from registry.access import Action
from registry.oci.names import ImageName

if TYPE_CHECKING:
    from django.http import HttpResponse


@of_project(Action.VIEW)
def show(place: Place, reference: str) -> HttpResponse:
    """A manifest or index: layers, configuration, parts, referrers."""
    page = _find(place, reference)
    commands = repository_queries.commands(place.home, place.pushed.name)
    return place.render("console/digest.html", side="repositories", page=page, commands=commands)


@of_project(Action.MANAGE)
def delete(place: Place, reference: str) -> HttpResponse:
    """Delete the digest with all tags that name it, after a look at what goes."""
    page = _find(place, reference)
    name = ImageName(place.project.name, place.home.name, place.pushed.name)
    if place.request.method == "POST":
        deletion = manifests.delete_many(place.actor, place.home, name, [page.manifest.digest])
        place.say(_("%(digest)s has been deleted.") % {"digest": page.manifest.digest[:19]}, undo=deletion)
        return place.go("image")
    gone = manifests.consequences(place.pushed, [page.manifest.digest])
    return place.render("console/manifest_delete.html", side="repositories", page=page, gone=gone)


def _find(place: Place, reference: str) -> queries.Digest:
    page = queries.digest(place.pushed, reference)
    if page is None:
        raise Http404(_("%(name)s has no %(reference)s.") % {"name": place.pushed.name, "reference": reference})
    return page
