"""What all pages of the console share: language, zone, host, compression, and the policy about what they may load."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.middleware.gzip import GZipMiddleware
from django.shortcuts import redirect
from django.utils import timezone, translation

from accounts import zones
from accounts.models import User
from console import addresses, page_size
from registry import hosts
from registry.errors import PathUnknown
from registry.logs import holds_secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse, HttpResponseBase

POLICY = (
    "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none';"
    " object-src 'none'"
)
ZONE_COOKIE = "kcr_zone"  # the browser's IANA name, set by console.js
NO_PAGES = frozenset({"/healthz", "/readyz"})


class ConsoleMiddleware:
    """Innermost. Probes pass untouched, on every host."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        if request.path_info in NO_PAGES:
            return self.get_response(request)
        if not hosts.is_bare(request.get_host()):  # images are served at the others, people's cookies are not
            return redirect(f"{settings.PUBLIC_URL}{_page_at_public_url(request)}")
        if _holds_nul(request):
            raise SuspiciousOperation("no text holds NUL, and PostgreSQL takes none")
        user = request.user if request.user.is_authenticated else None
        language = user.language if user else request.COOKIES.get(settings.LANGUAGE_COOKIE_NAME, "")
        if language not in dict(settings.LANGUAGES):
            language = translation.get_language_from_request(request)
        request.LANGUAGE_CODE = language  # registry.v2.errors.server_error reads it
        browser = zones.find(request.COOKIES.get(ZONE_COOKIE, "")) or ""
        zone = ZoneInfo((user and user.time_zone) or browser or zones.UTC)
        kept = page_size.override(request.COOKIES.get(page_size.COOKIE))
        with translation.override(language), timezone.override(zone), kept:
            if user:
                if browser and browser != user.browser_time_zone:
                    User.objects.filter(pk=user.pk).update(browser_time_zone=browser)
                request.session.note_seen()  # type: ignore[attr-defined]  # accounts.sessions
            response = self.get_response(request)
        if rows := page_size.read(request.GET.get("rows")):
            response.set_cookie(
                page_size.COOKIE, str(rows), max_age=31_536_000, samesite="Lax", secure=settings.IS_HTTPS, httponly=True
            )
        response.headers.setdefault("Content-Security-Policy", POLICY)
        response.headers.setdefault("Content-Language", language)
        response.headers.setdefault("Cache-Control", "no-store")
        if holds_secret(request.resolver_match):  # a Referer would carry the secret into the logs of proxies
            response.headers["Referrer-Policy"] = "strict-origin"
        response.headers["Vary"] = "Cookie, Accept-Language, HX-Request"
        return response


class CompressPagesMiddleware(GZipMiddleware):
    """Compresses HTML. Django adds a file name of random length, so that lengths tell nothing of the page (BREACH).

    Downloads are streams, and images are compressed already: they pass as they are.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        """Compress a page; return other answers as they are."""
        is_page = response.headers.get("Content-Type", "").startswith("text/html")
        if response.streaming or not is_page:
            return response
        return super().process_response(request, response)


def _page_at_public_url(request: HttpRequest) -> str:
    """Path and query of the page at KCR_PUBLIC_URL for a browser at the host of a project."""
    path = request.path_info
    if request.method in {"GET", "HEAD"} and not addresses.is_page(path):
        with suppress(PathUnknown):
            project = hosts.of_header(request.get_host()).project
            return addresses.page_of_image(path, project) or request.get_full_path()
    return request.get_full_path()


def _holds_nul(request: HttpRequest) -> bool:
    sent = (text for data in (request.GET, request.POST) for name, texts in data.lists() for text in (name, *texts))
    return "\0" in request.path_info or any("\0" in text for text in sent)
