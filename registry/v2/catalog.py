"""The API's root and the list of images (Docker registry API; not part of the OCI specification)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from registry import errors
from registry.access import Action
from registry.images import permitted_paths

from . import http
from .base import PersonalView

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

DEFAULT_PAGE = 100
MAX_PAGE = 1_000


class RootView(PersonalView):
    """``GET /v2/``: 200 with credentials, else 401 with a challenge."""

    actions: ClassVar = {"GET": Action.PULL, "HEAD": Action.PULL}

    def get(self, request: HttpRequest) -> HttpResponse:
        """Accepts anonymous tokens."""
        return http.content(request, b"{}", "application/json")


class CatalogView(PersonalView):
    """``GET /v2/_catalog``: the images that the caller may pull, on this host, by name."""

    actions: ClassVar = {"GET": Action.PULL, "HEAD": Action.PULL}

    def get(self, request: HttpRequest) -> HttpResponse:
        """A page of names in byte order after ``last``."""
        if self.token is not None and not self.token.allows("registry", "catalog", "*"):
            raise errors.ScopeInsufficient
        limit = http.page_size(request, DEFAULT_PAGE, MAX_PAGE)
        found = permitted_paths(self.actor, self.host.project, http.text(request, "last"), limit + 1)
        page = [self.host.spell(name) for name in found[:limit]]
        headers = http.next_link("v2:catalog", {}, n=limit, last=page[-1]) if page and len(found) > limit else {}
        return http.json({"repositories": page}, **headers)

    def scope(self) -> str:
        """The scope of the catalog in the Docker token specification."""
        return "registry:catalog:*"
