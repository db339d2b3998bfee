"""From an error to an answer: the only place where the two meet (distribution-spec 1.1, "Error Codes")."""

from __future__ import annotations

import logging
import sys
from typing import Any

from django.core.exceptions import DisallowedHost, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from psycopg_pool import PoolTimeout
from rest_framework.exceptions import MethodNotAllowed

from registry import errors
from registry.middleware import is_registry_api

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
AWAY = (OperationalError, InterfaceError, PoolTimeout)  # what is raised while the database does not answer


def answer(error: Exception, context: dict[str, Any]) -> HttpResponse:
    """REST framework's exception handler. ``context["view"]`` may add headers of its own (``error_headers``)."""
    request = context["request"]
    known = error if isinstance(error, errors.RegistryError) else _translate(error)
    response = reply(request, known)
    for name, value in context["view"].error_headers(known).items():
        response.headers[name] = value
    return response


def reply(request: HttpRequest, error: errors.RegistryError) -> HttpResponse:
    """The answer for an error: its status, and the specification's JSON body with the id of the request."""
    detail = {"request_id": getattr(request, "id", ""), **error.detail}
    digests = detail.pop("digests", None)
    entries = [{"code": error.code, "message": error.message, "detail": detail}]
    if digests:
        entries = [
            {"code": error.code, "message": f"{error.message}: {digest}", "detail": {**detail, "digest": digest}}
            for digest in digests
        ]
    response = JsonResponse({"errors": entries}, status=error.status)
    if request.method == "HEAD":
        response.content = b""
    response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if isinstance(error, errors.TooManyRequests | errors.Unavailable):
        response.headers["Retry-After"] = str(error.detail.get("seconds", RETRY_AFTER_SECONDS))
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's answer to what never reaches a view, such as a Host header that is not ours; JSON for docker."""
    if is_registry_api(request) or request.path_info == "/token":
        return reply(request, _translate(exception))
    return defaults.bad_request(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's answer to an exception that a page did not expect; 503 while the database is away."""
    if not isinstance(sys.exc_info()[1], AWAY):
        return defaults.server_error(request)
    response = defaults.server_error(request, template_name="503.html")
    response.status_code = errors.Unavailable.status
    response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def _translate(error: Exception) -> errors.RegistryError:
    if isinstance(error, MethodNotAllowed):
        return errors.Unsupported("this method is not supported here")
    if isinstance(error, DisallowedHost | SuspiciousOperation):
        return errors.NameInvalid("the request cannot be read")
    if isinstance(error, Http404):
        return errors.PathUnknown()
    if isinstance(error, AWAY):
        logger.error("the database does not answer", exc_info=error)
        return errors.Unavailable()
    if isinstance(error, OSError):
        logger.error("the storage does not answer", exc_info=error)
        return errors.Unavailable()
    logger.error("unexpected error", exc_info=error)
    return errors.Unexpected()
