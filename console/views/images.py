"""Images: tags, manifests without a tag, settings."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from django.http import HttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.forms.images import ImageSettings
from console.queries import images as queries
from console.queries import repositories as repository_queries
from console.views.shared.decorators import of_project
from console.views.shared.kept_forms import typed
from console.views.shared.selection import Selection, selected
from registry import images, trash
from registry.access import Action

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import QueryDict

    from console.views.shared.place import Place
    from registry.models import Repository


@of_project(Action.VIEW)
def index(place: Place) -> HttpResponse:
    """All images of a project."""
    page = queries.of_project(place.project, place.request.GET)
    return place.render("console/images/index.html", side="images", page=page)


@of_project(Action.VIEW)
def show(place: Place) -> HttpResponse:
    """The tags of an image. 204 if the page waits for the first one."""
    page = queries.tags(place.image, place.request.GET)
    if place.is_waiting and not page["listing"].rows:
        return HttpResponse(status=HTTPStatus.NO_CONTENT)
    return place.render("console/images/show.html", side="repositories", page=page)


@of_project(Action.VIEW)
def untagged(place: Place) -> HttpResponse:
    """Manifests without a tag."""
    page = queries.untagged(place.image, place.request.GET)
    return place.render("console/images/untagged.html", side="repositories", page=page)


@of_project(Action.VIEW)
def commands(place: Place) -> HttpResponse:
    """How to pull and push this image."""
    page = queries.counts(place.image) | {"kind": queries.kind(place.image)}
    return place.render("console/images/commands.html", side="repositories", page=page)


@of_project(Action.VIEW, post=Action.MANAGE)
def settings(place: Place) -> HttpResponse:
    """Description and expiry."""
    given = typed(place.request)
    form = ImageSettings(given) if given else ImageSettings.of(place.image)
    if place.request.method == "POST":
        if form.is_valid() and not form.is_sure(place.image):
            use, ends = queries.recent_use(place.image), form.expires_at()
            is_past = ends is not None and ends <= timezone.now()
            if is_past or use.pulls:
                asked: dict[str, Any] = {"form": form, "use": use, "ends": ends, "is_past": is_past}
                return place.render("console/images/expire.html", side="repositories", **asked)
        if form.is_valid():
            wanted: dict[str, Any] = {"description": form.cleaned_data["description"], "expires_at": form.expires_at()}
            seen = form.seen_settings()
            if form.attempt(images.update, place.actor, place.image, seen=seen, **wanted) is not None:
                place.flash(_("%(name)s has been saved.") % {"name": place.image.name})
                return place.redirect_to("image_settings")
    context: dict[str, Any] = {"form": form, "page": queries.counts(place.image)}
    return place.render("console/images/settings.html", side="repositories", **context)


@of_project(Action.MANAGE)
def delete(place: Place) -> HttpResponse:
    """GET shows what would be deleted; POST deletes the image."""
    name = place.image.name
    if place.request.method == "POST":
        deletions = trash.delete_images(place.actor, place.repository, [name])
        place.maybe_image = None
        place.flash(_("%(name)s has been deleted.") % {"name": name}, restorable=deletions[0])
        return place.redirect_to("repository")
    chosen = queries.consequences(place.repository, [name])
    selection = Selection([name])
    return place.render("console/images/delete.html", side="repositories", chosen=chosen, selection=selection)


@of_project(Action.MANAGE)
def delete_many(place: Place) -> HttpResponse:
    """GET shows what would be deleted; POST deletes the chosen images, or all that match the filter of the list."""
    selection = selected(place.request, "image", partial(_matching, place.repository))
    if not selection.names:
        return place.redirect_to("repository")
    if selection.is_confirmed:
        deletions = trash.delete_images(place.actor, place.repository, selection.names)
        words = ngettext("%(count)s image has been deleted.", "%(count)s images have been deleted.", len(deletions))
        only = deletions[0] if len(deletions) == 1 else None
        place.flash(words % {"count": len(deletions)}, restorable=only)
        return place.redirect_to("repository")
    chosen = queries.consequences(place.repository, selection.shown)
    return place.render("console/images/delete.html", side="repositories", chosen=chosen, selection=selection)


def _matching(repository: Repository, filters: QueryDict) -> Iterable[str]:
    found = repository_queries.images(repository, filters)["listing"].found
    return found.order_by("path").values_list("name", flat=True)  # type: ignore[no-any-return]
