"""The digest that a page of vulnerabilities is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import Http404
from django.utils.translation import gettext as _

from console.queries import vulnerabilities

if TYPE_CHECKING:
    from console.queries.vulnerabilities import Subject
    from console.views.shared.place import Place


def find_subject(place: Place, reference: str) -> Subject:
    """What a tag or digest of the image names. Raises Http404 when that is nothing live."""
    found = vulnerabilities.subject(place.image, reference)
    if found is None:
        raise Http404(_("%(name)s has no %(reference)s.") % {"name": place.image.name, "reference": reference})
    return found
