"""The way of a request to the registry API (/v2/ and /token). docs/design/requests.md describes it.

    registry.wsgi              chooses this handler by the path
    Handler                    makes the request, starts the answer, keeps the database connection or gives it back
     (TracingMiddleware        a span of the request, if tracing is on)
      RequestMiddleware        id and client address; afterwards log and metrics
        HeadersMiddleware      headers that each answer has
          FormLimitMiddleware  for /token; registry.v2.http limits the bodies of /v2/
            answer             host, route, view

Pages take another way, Django's: settings.MIDDLEWARE.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.handlers.wsgi import WSGIRequest
from django.urls import URLResolver
from django.urls.resolvers import RegexPattern
from django.utils.log import log_response

from registry.database.transactions import keep_connection, renew_connection
from registry.middleware import FormLimitMiddleware, RequestMiddleware
from registry.tracing import TracingMiddleware

from . import errors
from .urls import API

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from django.http import HttpRequest, HttpResponse
    from django.urls import ResolverMatch

ROUTES = URLResolver(RegexPattern(r"^/"), API)
KEPT_ROUTES, KEPT_CHARACTERS = 1024, 300  # of paths, which strangers choose


class Request(WSGIRequest):
    """Django's request. It checks the Host header once."""

    _host = ""

    def get_host(self) -> str:
        """The Host header. Raises DisallowedHost."""
        if not self._host:
            self._host = super().get_host()
        return self._host


class HeadersMiddleware:
    """Adds the headers that Django's middlewares add to pages, and Content-Length.

    ``_store`` is Django's table of (name, value) by the name in small letters. ``setdefault`` and ``items`` of the
    headers make ten times as many calls, and check again that these texts have no line feed.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        headers = {
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": settings.SECURE_REFERRER_POLICY,
            "Cross-Origin-Opener-Policy": settings.SECURE_CROSS_ORIGIN_OPENER_POLICY,
            "X-Frame-Options": settings.X_FRAME_OPTIONS,
        }
        self._headers = {name.lower(): (name, value) for name, value in headers.items()}
        seconds = settings.SECURE_HSTS_SECONDS
        self._hsts = f"max-age={seconds}" if seconds else ""

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        response = self.get_response(request)
        headers = response.headers
        for key, header in self._headers.items():
            headers._store.setdefault(key, header)
        if self._hsts and request.is_secure():
            headers["Strict-Transport-Security"] = self._hsts
        if not response.streaming and "Content-Length" not in headers:
            headers["Content-Length"] = str(len(response.content))
        return response


def answer(request: HttpRequest) -> HttpResponse:
    """Answer by the view of the path. Views answer what they raise; here it is an unknown host."""
    try:
        request.get_host()
        path = request.path_info
        match = request.resolver_match = _resolved(path) if len(path) <= KEPT_CHARACTERS else ROUTES.resolve(path)
        response: HttpResponse = match.func(request, *match.args, **match.kwargs)
    except Exception as error:
        response = errors.refuse(request, error)
    if response.status_code >= 500:
        log_response("%s: %s", response.reason_phrase, request.path, response=response, request=request)
    return response


@lru_cache(maxsize=KEPT_ROUTES)
def _resolved(path: str) -> ResolverMatch:
    """The route of a path. Raises Resolver404. Clients ask for the same manifests and blobs again and again."""
    return ROUTES.resolve(path)


class Handler:
    """The WSGI application for /v2/ and /token. ``respond`` is its way from a request to an answer."""

    def __init__(self, views: Callable[[HttpRequest], HttpResponse] | None = None) -> None:
        """``views``: another way from a request to the answer of a view."""
        self.respond: Callable[[HttpRequest], HttpResponse] = RequestMiddleware(
            HeadersMiddleware(views or FormLimitMiddleware(answer))
        )
        if settings.TRACING:
            self.respond = TracingMiddleware(self.respond)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """See PEP 3333."""
        renew_connection()
        try:
            response = self.respond(Request(environ))
        finally:
            keep_connection()
        start_response(f"{response.status_code} {response.reason_phrase}", list(response.headers._store.values()))
        if not response.streaming:
            return [response.content]
        if (opened := getattr(response, "file_to_stream", None)) is not None and "wsgi.file_wrapper" in environ:
            opened.close = response.close  # the server closes what it sends, which is not the response
            wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](opened, response.block_size)  # type: ignore[attr-defined]
            return wrapped
        return response
