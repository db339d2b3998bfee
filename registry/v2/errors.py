"""From a refusal to an HTTP answer, by one table (OCI distribution specification 1.1, "Error Codes")."""

from __future__ import annotations

import logging
import sys
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import DisallowedHost, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.template import loader
from django.utils import translation
from psycopg_pool import PoolTimeout
from rest_framework.exceptions import MethodNotAllowed

from accounts import keys
from registry import errors
from registry.logs import Once
from registry.middleware import MAX_SHOWN

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS = 5
unknown_hosts = Once(20)
AWAY = (OperationalError, InterfaceError, PoolTimeout)  # what is raised while the database does not answer


class Answer(NamedTuple):
    """The OCI code of a refusal, and the HTTP status."""

    code: str
    status: int


ANSWERS: dict[type[errors.RegistryError], Answer] = {
    errors.BlobUnknown: Answer("BLOB_UNKNOWN", 404),
    errors.BlobUploadInvalid: Answer("BLOB_UPLOAD_INVALID", 400),
    errors.RangeInvalid: Answer("BLOB_UPLOAD_INVALID", 416),
    errors.BlobUploadUnknown: Answer("BLOB_UPLOAD_UNKNOWN", 404),
    errors.DigestInvalid: Answer("DIGEST_INVALID", 400),
    errors.ManifestBlobUnknown: Answer("MANIFEST_BLOB_UNKNOWN", 400),
    errors.ManifestInvalid: Answer("MANIFEST_INVALID", 400),
    errors.ManifestTooLarge: Answer("MANIFEST_INVALID", 413),
    errors.TooManyTags: Answer("MANIFEST_INVALID", 414),
    errors.ManifestUnknown: Answer("MANIFEST_UNKNOWN", 404),
    errors.NameInvalid: Answer("NAME_INVALID", 400),
    errors.NameUnknown: Answer("NAME_UNKNOWN", 404),
    errors.SizeInvalid: Answer("SIZE_INVALID", 400),
    errors.BlobTooLarge: Answer("SIZE_INVALID", 413),
    errors.Unauthorized: Answer("UNAUTHORIZED", 401),
    errors.TokenInvalid: Answer("UNAUTHORIZED", 401),
    errors.ScopeInsufficient: Answer("UNAUTHORIZED", 401),
    errors.Denied: Answer("DENIED", 403),
    errors.KeyLimited: Answer("DENIED", 403),
    errors.Unsupported: Answer("UNSUPPORTED", 405),
    errors.RequestInvalid: Answer("UNSUPPORTED", 400),
    errors.PathUnknown: Answer("UNSUPPORTED", 404),
    errors.TooManyRequests: Answer("TOOMANYREQUESTS", 429),
    errors.Unavailable: Answer("TOOMANYREQUESTS", 503),
    errors.StorageFull: Answer("TOOMANYREQUESTS", 507),
    errors.Unexpected: Answer("UNKNOWN", 500),
}


def answer(error: Exception, context: dict[str, Any]) -> HttpResponse:
    """REST framework's exception handler. ``context["view"]`` may add headers of its own (``error_headers``)."""
    request = context["request"]
    known = _translate(error)
    if isinstance(known, errors.KeyLimited):
        _note_limit(known)
    response = reply(request, known)
    for name, value in context["view"].error_headers(known).items():
        response.headers[name] = value
    return response


def _note_limit(error: errors.KeyLimited) -> None:
    logger.info("access key of %s refused by its limit of %s", error.actor.label, error.limit)
    try:
        keys.record_refusal(error.actor, error.limit)
    except AWAY:
        logger.exception("the refusal could not be written to the audit log")


def reply(request: HttpRequest, error: errors.RegistryError) -> HttpResponse:
    """The answer for a refusal of ANSWERS: its status, and the specification's JSON with the id of the request."""
    code, status = ANSWERS[type(error)]
    detail = {"request_id": getattr(request, "id", ""), **error.detail}
    digests = detail.pop("digests", None)
    entries = [{"code": code, "message": error.message, "detail": detail}]
    if digests:
        entries = [
            {"code": code, "message": f"{error.message}: {digest}", "detail": {**detail, "digest": digest}}
            for digest in digests
        ]
    response = JsonResponse({"errors": entries}, status=status)
    if request.method == "HEAD":
        response.content = b""
    response.headers["Docker-Distribution-Api-Version"] = "registry/2.0"
    response.headers["X-Content-Type-Options"] = "nosniff"
    if isinstance(error, errors.TooManyRequests | errors.Unavailable):
        response.headers["Retry-After"] = str(error.detail.get("seconds", RETRY_AFTER_SECONDS))
    return response


def refuse(request: HttpRequest, exception: Exception) -> HttpResponse:
    """The answer to a request to the registry API that reaches no view, such as one with an unknown Host header."""
    if isinstance(exception, DisallowedHost):
        _warn_of_host(request)
    return reply(request, _translate(exception))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's answer to a request for a page that reaches no view, such as one with an unknown Host header."""
    is_unknown_host = isinstance(exception, DisallowedHost)
    if is_unknown_host:
        _warn_of_host(request)
    return HttpResponseBadRequest(_page(request, "400.html", is_unknown_host=is_unknown_host))


def _warn_of_host(request: HttpRequest) -> None:
    host = request.META.get("HTTP_HOST", "")[:MAX_SHOWN]
    unknown_hosts.warn(
        logger,
        f"the host name {host!r} is not served: clients use that of KCR_PUBLIC_URL ({settings.PUBLIC_URL}) or a project"
        " host, a proxy passes Host on unchanged, and KCR_ALLOWED_HOSTS has all further names",
    )


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's answer to an exception that a page did not expect; 503 while the database is away.

    The page is in the language of the console's page, and needs no database.
    """
    is_away = isinstance(sys.exc_info()[1], AWAY)
    page = _page(request, "503.html" if is_away else "500.html")
    if not is_away:
        return HttpResponse(page, status=500)
    status = ANSWERS[errors.Unavailable].status
    return HttpResponse(page, status=status, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def _page(request: HttpRequest, template: str, **context: Any) -> str:
    """A page that extends failure.html, in the language of the request."""
    language = getattr(request, "LANGUAGE_CODE", None) or translation.get_language_from_request(request)
    context |= {"request_id": getattr(request, "id", ""), "language": language}
    with translation.override(language):
        return loader.get_template(template).render(context)


def _translate(error: Exception) -> errors.RegistryError:
    """The refusal of ANSWERS for any exception. One without an answer is a defect: it is logged, and answered 500."""
    if type(error) in ANSWERS:
        return error  # type: ignore[return-value]
    if isinstance(error, MethodNotAllowed):
        return errors.Unsupported("this method is not supported here")
    if isinstance(error, DisallowedHost):
        return errors.NameInvalid(
            "this host name is not served here: the log of the registry says which settings matter"
        )
    if isinstance(error, SuspiciousOperation):
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
