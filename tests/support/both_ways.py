"""Django's test client asks the registry API by its own handler and pages by Django's, as registry.wsgi does."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from django.test.client import ClientHandler

from registry.middleware import is_registry_api
from registry.v2.handler import Handler

if TYPE_CHECKING:
    from django.core.handlers.wsgi import WSGIRequest
    from django.http import HttpResponseBase

_api = cache(Handler)


class BothWays(ClientHandler):
    """The handler of a test client."""

    def get_response(self, request: WSGIRequest) -> HttpResponseBase:  # type: ignore[override]
        """Answer the request."""
        return _api().respond(request) if is_registry_api(request.path_info) else super().get_response(request)
