"""Every request gets an id and one line in the log; behind trusted proxies, its client's own address."""

from __future__ import annotations

import logging
import time
import uuid
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from django.conf import settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

logger = logging.getLogger("registry.access")


class RequestMiddleware:
    """Outermost: sets ``request.id``, says it in ``X-Request-Id``, logs method, path, status and time.

    Query strings and headers are never logged: they may hold tokens.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request."""
        started = time.perf_counter()
        request.id = uuid.uuid4().hex[:16]  # type: ignore[attr-defined]
        if not _is_trusted(request.META.get("REMOTE_ADDR", "")):
            request.META.pop("HTTP_X_FORWARDED_PROTO", None)
        request.META["REMOTE_ADDR"] = _client_address(request)
        response = self.get_response(request)
        response.headers["X-Request-Id"] = request.id  # type: ignore[attr-defined]
        if not request.path.startswith("/healthz"):
            logger.info(
                "%s %s %s",
                request.method,
                request.path,
                response.status_code,
                extra={
                    "request_id": request.id,  # type: ignore[attr-defined]
                    "milliseconds": round((time.perf_counter() - started) * 1000, 1),
                    "address": request.META["REMOTE_ADDR"],
                    "host": request.META.get("HTTP_HOST", ""),
                },
            )
        return response


def _is_trusted(hop: str) -> bool:
    """Whether this is the address of a trusted proxy (KCR_TRUSTED_PROXIES)."""
    try:
        return any(_parsed(hop) in network for network in settings.TRUSTED_PROXIES)
    except ValueError:
        return False


def _parsed(hop: str) -> IPv4Address | IPv6Address:
    """The address; one of IPv4 in the clothes of IPv6 (a socket that listens for both writes so) is one of IPv4."""
    address = ip_address(hop)
    return getattr(address, "ipv4_mapped", None) or address


def _client_address(request: HttpRequest) -> str:
    """The nearest address that is no trusted proxy (KCR_TRUSTED_PROXIES)."""
    hops = [request.META.get("REMOTE_ADDR", "")]
    if settings.TRUSTED_PROXIES:
        hops = [*request.headers.get("X-Forwarded-For", "").split(","), *hops]
    for hop in reversed(hops):
        try:
            address = str(_parsed(hop.strip()))
        except ValueError:
            break
        if not _is_trusted(address):
            return address
    return str(request.META.get("REMOTE_ADDR", ""))
