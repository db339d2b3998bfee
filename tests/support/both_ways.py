"""Django's test client asks the two APIs by their own handlers and pages by Django's, as registry.wsgi does."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from django.test.client import ClientHandler

from api.handler import Handler as ManagementHandler
from registry.middleware import is_management_api, is_registry_api
from registry.v2.handler import Handler

if TYPE_CHECKING:
    from django.core.handlers.wsgi import WSGIRequest
    from django.http import HttpResponseBase

_api = cache(Handler)
_management = cache(ManagementHandler)


class BothWays(ClientHandler):
    """The handler of a test client."""

    def get_response(self, request: WSGIRequest) -> HttpResponseBase:  # type: ignore[override]
        """Answer the request."""
        if is_registry_api(request.path_info):
            return _api().respond(request)
        if is_management_api(request.path_info):
            return _management().respond(request)
        return super().get_response(request)
