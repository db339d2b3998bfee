"""The way of a request to the management API: that of the registry API (registry.v2.handler), to views of its own.

No session, no cookie, no form: the middlewares of pages are not on this way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.urls import URLResolver
from django.urls.resolvers import RegexPattern
from django.utils.log import log_response

from registry.v2 import handler

from . import problems

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

ROUTES = URLResolver(RegexPattern(r"^/api/"), "api.urls")


def answer(request: HttpRequest) -> HttpResponse:
    """Answer by the view of the path. Views answer what they raise; here it is an unknown host or path."""
    try:
        request.get_host()
        match = request.resolver_match = ROUTES.resolve(request.path_info)
        response: HttpResponse = match.func(request, *match.args, **match.kwargs)
    except Exception as error:
        response = problems.answer(request, error)
    if response.status_code >= 500:
        log_response("%s: %s", response.reason_phrase, request.path, response=response, request=request)
    return response


class Handler(handler.Handler):
    """The WSGI application for /api/."""

    def __init__(self) -> None:
        super().__init__(answer)
