"""Request id, access log, client address behind trusted proxies, and a limit on the size of forms."""

from __future__ import annotations

import logging
import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from django.conf import settings
from django.http import HttpResponse, JsonResponse

from registry.logs import Once, log_request, shown_path
from registry.metrics import counters
from registry.server.clients import address_of, is_private, is_trusted

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest

logger = logging.getLogger("registry.access")

MAX_SHOWN = 100  # characters of a text that a client chooses
proxies, origins = Once(10), Once(10)
schemes_missing, schemes_plain, forwarding_missing = Once(1), Once(1), Once(1)

TOKEN_PATHS = frozenset({"/token", "/token/exchange"})
MAX_LENGTH_DIGITS = 19  # decimal digits of a signed 64-bit length


class RequestMiddleware:
    """Outermost: sets ``request.id`` and ``X-Request-Id``; logs method, path, status and time.

    Query strings, headers and the secrets of links are never logged (`registry.logs.shown_path`).
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        started = time.perf_counter()
        request.id = secrets.token_hex(8)  # type: ignore[attr-defined]
        request.peer = request.META.get("REMOTE_ADDR", "")  # type: ignore[attr-defined]
        if not is_trusted(request.peer):  # type: ignore[attr-defined]
            request.META.pop("HTTP_X_FORWARDED_PROTO", None)
            warn_of_proxy(request)
        if settings.IS_HTTPS and not request.is_secure():
            warn_of_scheme(request, request.peer)  # type: ignore[attr-defined]
        request.META["REMOTE_ADDR"] = address_of(request.META)
        response = self.get_response(request)
        warn_of_settings(request, response)
        response.headers["X-Request-Id"] = request.id  # type: ignore[attr-defined]
        seconds = time.perf_counter() - started
        if settings.METRICS_LISTEN:
            counters.observe(request, response, seconds)
        if request.path_info != "/healthz":
            log_request(
                logger,
                f"{request.method} {shown_path(request)} {response.status_code}",
                request_id=request.id,  # type: ignore[attr-defined]
                milliseconds=round(seconds * 1000, 1),
                address=request.META["REMOTE_ADDR"],
                host=request.META.get("HTTP_HOST", ""),
            )
        return response


def warn_of_proxy(request: HttpRequest) -> None:
    """Log that a proxy of a private network is not trusted: all its clients share one address, with its limits."""
    address = request.META.get("REMOTE_ADDR", "")
    if "HTTP_X_FORWARDED_FOR" in request.META and is_private(address):
        proxies.warn(
            logger,
            f"{address} sends X-Forwarded-For, but KCR_TRUSTED_PROXIES does not name it: if it is your proxy, add it,"
            " or all its clients count as one address",
        )


def warn_of_scheme(request: HttpRequest, peer: str) -> None:
    """Log once for each cause that a request came over http although KCR_PUBLIC_URL is https.

    Health checks connect to KCR itself.
    """
    if request.path_info in {"/healthz", "/readyz"}:
        return
    if is_trusted(peer):
        if "HTTP_X_FORWARDED_PROTO" in request.META:
            schemes_plain.warn(
                logger,
                f"clients of the proxy {peer} use http, but KCR_PUBLIC_URL is {settings.PUBLIC_URL}: let the proxy"
                " redirect them to https, or set X-Forwarded-Proto to the scheme of the client",
            )
        elif "HTTP_X_FORWARDED_FOR" in request.META:
            schemes_missing.warn(
                logger,
                f"the proxy {peer} sends no X-Forwarded-Proto, but KCR_PUBLIC_URL is {settings.PUBLIC_URL}: sign-in"
                " and other forms fail until it does",
            )
    elif (
        "HTTP_X_FORWARDED_FOR" not in request.META  # ``warn_of_proxy`` has logged the others
        and is_private(peer)
        and request.META.get("HTTP_HOST") == settings.PUBLIC.netloc
    ):
        forwarding_missing.warn(
            logger,
            f"{peer} asks for the host of KCR_PUBLIC_URL ({settings.PUBLIC_URL}) over http, without X-Forwarded-For"
            " and X-Forwarded-Proto: if it is your proxy, let it set both, and add it to KCR_TRUSTED_PROXIES",
        )


def warn_of_settings(request: HttpRequest, response: HttpResponse) -> None:
    """Log that Django's check of forgeries refused a form because the browser uses another address than KCR_PUBLIC_URL.

    The form is of this host, so it is no forgery by another site.
    """
    is_checked = getattr(request, "csrf_processing_done", False)
    if response.status_code != HTTPStatus.FORBIDDEN or request.method != "POST" or is_checked:
        return
    origin = request.headers.get("Origin", "")
    if origin != settings.PUBLIC_URL and origin.partition("://")[2] == request.headers.get("Host"):
        origins.warn(
            logger,
            f"a form from {origin[:MAX_SHOWN]!r} was refused: people must use KCR_PUBLIC_URL, which is"
            f" {settings.PUBLIC_URL}, or it must be the address that they use",
        )


class FormLimitMiddleware:
    """Refuses bodies that are no form, before a view reads them. Except below /v2/: `registry.v2.http` reads those.

    411: no Content-Length. 413: more than DATA_UPLOAD_MAX_MEMORY_SIZE bytes. 400: Content-Length is not a number.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Refuse the body, or answer the request."""
        status = None if is_below_v2(request.path_info) else _status_for_body(request)
        return _refusal(request, status) if status else self.get_response(request)


def _refusal(request: HttpRequest, status: int) -> HttpResponse:
    """An answer without a body; for clients of the token service, in the form of the registry's errors."""
    if request.path_info not in TOKEN_PATHS:
        return HttpResponse(status=status)
    detail = {"request_id": request.id}  # type: ignore[attr-defined]
    error = {"code": "SIZE_INVALID", "message": f"a form has at most {_most():,} bytes", "detail": detail}
    headers = {"Docker-Distribution-Api-Version": "registry/2.0"}
    return JsonResponse({"errors": [error]}, status=status, headers=headers)


def _most() -> int:
    """How many bytes a form may have."""
    return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def is_registry_api(path: str) -> bool:
    """Whether ``registry.v2.handler`` answers this path."""
    return is_below_v2(path) or path in TOKEN_PATHS


def is_management_api(path: str) -> bool:
    """Whether ``api.handler`` answers this path."""
    return path.startswith("/api/") or path == "/api"


def is_below_v2(path: str) -> bool:
    """Whether the path is /v2 or below it."""
    return path.startswith("/v2/") or path == "/v2"


def _status_for_body(request: HttpRequest) -> int | None:
    """The status that refuses the request for its body; None when the body may be read."""
    length = request.META.get("CONTENT_LENGTH") or "0"
    if "HTTP_TRANSFER_ENCODING" in request.META:
        return 411
    if not (length.isascii() and length.isdigit()):
        return 400
    if len(length) > MAX_LENGTH_DIGITS or int(length) > _most():
        return 413
    return None
