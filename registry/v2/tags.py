"""Tags of an image (distribution-spec 1.1, "Listing Tags")."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from registry import tags
from registry.access import Action

from . import http
from .base import ImageView

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

MAX_PAGE = 1_000


class TagsView(ImageView):
    """``GET /v2/<name>/tags/list``."""

    actions: ClassVar = {"GET": Action.PULL, "HEAD": Action.PULL}

    def get(self, request: HttpRequest, name: str) -> HttpResponse:
        """A page of tags in byte order after ``last``; Link when more follow."""
        limit = http.page_size(request, MAX_PAGE, MAX_PAGE)
        found = tags.permitted_names(self.actor, self.name, http.text(request, "last"), limit + 1)
        page, headers = found[:limit], {}
        if page and len(found) > limit:
            headers = http.next_link("v2:tags", {"name": name}, n=limit, last=page[-1])
        return http.json({"name": name, "tags": page}, **headers)
