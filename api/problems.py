"""From a refusal to an answer of application/problem+json (RFC 9457), by one table."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.core.exceptions import DisallowedHost, SuspiciousOperation
from django.http import Http404, HttpResponse
from django.urls import Resolver404

from accounts.errors import Refusal, sentence
from registry import errors
from registry.v2.errors import AWAY, RETRY_AFTER_SECONDS

if TYPE_CHECKING:
    from django.http import HttpRequest

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"


class ApiError(Refusal):
    """A refusal that only this API has. ``errors``: what is wrong in the body or the query string, and where."""

    def __init__(self, message: str = "", *, errors: list[dict[str, str]] | None = None, **detail: Any) -> None:
        super().__init__(message, detail=detail)
        self.errors = errors or []


class BadRequest(ApiError):
    message = "the request cannot be read"


class NotForThisApi(ApiError):
    message = "this access key is for the registry only: make one that may use the management API"


class NotFound(ApiError):
    message = "there is no such thing, or you may not see it"


class MethodNotAllowed(ApiError):
    """``detail["allow"]`` lists the methods."""

    message = "this method is not supported here"


class NotAcceptable(ApiError):
    message = "the answer is JSON: send Accept: application/json, or none"


class InUse(ApiError):
    message = "a request with this Idempotency-Key is at work: ask again in a moment"


class PreconditionFailed(ApiError):
    message = "this is not as you saw it: get it again, look, then send the new ETag"


class TooLarge(ApiError):
    message = "the body is too large"


class NotJson(ApiError):
    message = "the body is JSON: send Content-Type: application/json"


class Invalid(ApiError):
    message = "the body is not valid"


class PreconditionRequired(ApiError):
    message = "send If-Match with the ETag that you saw, so that no change of others is overwritten"


class Problem(NamedTuple):
    """The code of a refusal, its status, and its title."""

    code: str
    status: int
    title: str


# The first class of a refusal's bases that is here decides.
PROBLEMS: dict[type[Refusal], Problem] = {
    BadRequest: Problem("bad-request", 400, "The request cannot be read"),
    errors.Unauthorized: Problem("unauthorized", 401, "Credentials are needed"),
    errors.Denied: Problem("denied", 403, "You may not do this"),
    NotForThisApi: Problem("registry-only", 403, "The access key is for the registry only"),
    NotFound: Problem("not-found", 404, "There is no such thing"),
    errors.NameUnknown: Problem("not-found", 404, "There is no such thing"),
    errors.ManifestUnknown: Problem("not-found", 404, "There is no such thing"),
    errors.PathUnknown: Problem("not-found", 404, "There is no such thing"),
    errors.RecoveryGone: Problem("not-found", 404, "There is no such thing"),
    MethodNotAllowed: Problem("method-not-allowed", 405, "The method is not supported here"),
    NotAcceptable: Problem("not-acceptable", 406, "The answer has no such form"),
    Refusal: Problem("refused", 409, "This cannot be done now"),
    errors.Changed: Problem("changed", 409, "Another request was faster"),
    errors.NameTaken: Problem("name-taken", 409, "The name is in use"),
    errors.Unsupported: Problem("refused", 409, "This cannot be done now"),
    InUse: Problem("in-use", 409, "The same request is at work"),
    PreconditionFailed: Problem("changed", 412, "Another request was faster"),
    TooLarge: Problem("too-large", 413, "The body is too large"),
    NotJson: Problem("not-json", 415, "The body is not JSON"),
    Invalid: Problem("invalid", 422, "The request is not valid"),
    errors.NameInvalid: Problem("invalid", 422, "The request is not valid"),
    errors.DigestInvalid: Problem("invalid", 422, "The request is not valid"),
    errors.ManifestInvalid: Problem("invalid", 422, "The request is not valid"),
    errors.RequestInvalid: Problem("invalid", 422, "The request is not valid"),
    PreconditionRequired: Problem("precondition-required", 428, "The ETag is missing"),
    errors.TooManyRequests: Problem("too-many-requests", 429, "Too many requests"),
    errors.Unexpected: Problem("unexpected", 500, "The registry failed"),
    errors.Unavailable: Problem("unavailable", 503, "The registry cannot do this at the moment"),
    errors.StorageFull: Problem("storage-full", 507, "The storage is full"),
}


def type_of(code: str) -> str:
    """The address of a kind of problem: it is explained there."""
    return f"{settings.PUBLIC_URL}/api/v1/docs#problem-{code}"


def of(error: Exception) -> tuple[Refusal, Problem]:
    """The refusal for any exception, and its problem. A defect is logged, and answered 500."""
    refusal = _translate(error)
    return refusal, next(PROBLEMS[kind] for kind in type(refusal).__mro__ if kind in PROBLEMS)


def answer(request: HttpRequest, error: Exception) -> HttpResponse:
    """The answer for an exception: the problem as JSON, and the headers that its status needs."""
    refusal, problem = of(error)
    body: dict[str, Any] = {
        "type": type_of(problem.code),
        "title": problem.title,
        "status": problem.status,
        "detail": sentence(refusal.message),
        "instance": request.path,
        "code": problem.code,
        "request_id": getattr(request, "id", ""),
    }
    if isinstance(refusal, ApiError) and refusal.errors:
        body["errors"] = refusal.errors
    response = HttpResponse(json.dumps(body), status=problem.status, content_type=MEDIA_TYPE)
    if problem.status in {429, 503} or isinstance(refusal, InUse):
        response.headers["Retry-After"] = str(refusal.detail.get("seconds", RETRY_AFTER_SECONDS))
    if problem.status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="kcr", Bearer realm="kcr"'
    if isinstance(refusal, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(refusal.detail["allow"])
    return response


def _translate(error: Exception) -> Refusal:
    if isinstance(error, Refusal):
        return error
    if isinstance(error, Resolver404 | Http404):
        return NotFound("the API has no such path")
    if isinstance(error, DisallowedHost):
        return NotFound("this host name is not served here: the log of the registry says which settings matter")
    if isinstance(error, SuspiciousOperation):
        return BadRequest()
    if isinstance(error, AWAY):
        logger.error("the database does not answer", exc_info=error)
        return errors.Unavailable()
    if isinstance(error, OSError):
        logger.error("the storage does not answer", exc_info=error)
        return errors.Unavailable()
    logger.error("unexpected error", exc_info=error)
    return errors.Unexpected()
