"""Compare a manifest with another one, or with an earlier scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from console.queries import compare as queries
from console.views.shared.decorators import of_project
from console.views.shared.subjects import find_subject
from registry.access import Action

if TYPE_CHECKING:
    from django.http import HttpResponse

    from console.views.shared.place import Place


@of_project(Action.VIEW)
def show(place: Place, reference: str) -> HttpResponse:
    """What changed: vulnerabilities, packages, size and configuration, platform by platform."""
    subject = find_subject(place, reference)
    page = queries.page(place.actor, subject.manifest, subject.tag, place.request.GET)
    return place.render("console/compare/show.html", side="repositories", page={"subject": subject, **page})
