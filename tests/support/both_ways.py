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


@cache
def _pages() -> ClientHandler:
    handler = ClientHandler()
    handler.load_middleware()  # WhiteNoise looks at each static file
    return handler


class BothWays(ClientHandler):
    """The handler of a test client. All of a process share their middleware."""

    def load_middleware(self, is_async: bool = False) -> None:
        """Take the chain that the first client has made."""
        self._middleware_chain = _pages()._middleware_chain  # type: ignore[attr-defined]

    def get_response(self, request: WSGIRequest) -> HttpResponseBase:  # type: ignore[override]
        """Answer the request."""
        if is_registry_api(request.path_info):
            return _api().respond(request)
        if is_management_api(request.path_info):
            return _management().respond(request)
        return super().get_response(request)
