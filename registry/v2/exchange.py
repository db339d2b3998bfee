"""The exchange of an ID token for a short-lived credential (RFC 8693)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import parse_qs

from django.conf import settings
from django.utils import timezone

from accounts import federation
from accounts.actors import ANONYMOUS, Actor
from registry import errors, hosts
from registry.access import Action

from . import http
from .authentication import REJECTED
from .base import RegistryView

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105  names of types
JWT = "urn:ietf:params:oauth:token-type:jwt"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105


class ExchangeView(RegistryView):
    """``POST /token/exchange``. Errors are those of RFC 6749, section 5.2; each refused token gets the same one."""

    actions: ClassVar = {"POST": Action.PULL}

    def find_actor(self, request: HttpRequest) -> tuple[Actor, None]:
        """Anonymous: the form holds the credentials."""
        return ANONYMOUS, None

    def find_host(self, request: HttpRequest) -> hosts.Host:
        """One address exchanges tokens for all hosts."""
        return hosts.BARE

    def post(self, request: HttpRequest) -> HttpResponse:
        """Start a session and answer with its credential: a user name and password for docker login."""
        form = _form(request)
        if form.get("grant_type") != GRANT_TYPE:
            return _error(request, 400, "unsupported_grant_type", f"grant_type must be {GRANT_TYPE}")
        if form.get("subject_token_type") not in {ID_TOKEN, JWT} or not form.get("subject_token"):
            return _error(request, 400, "invalid_request", f"subject_token is missing, or its type is not {ID_TOKEN}")
        address, client = str(request.META.get("REMOTE_ADDR", "")), request.META.get("HTTP_USER_AGENT", "")[:200]
        attempt = federation.Attempt(form["subject_token"], form.get("service_account", ""), address, client)
        try:
            made = federation.exchange(attempt)
        except federation.Rejected:
            return _error(request, 401, "invalid_grant", REJECTED)
        return _answer(made)


def _form(request: HttpRequest) -> dict[str, str]:
    content = http.bounded_body(request, http.MAX_FORM)
    if content is None:
        raise errors.RequestInvalid("the form is too large")
    try:
        found = parse_qs(content.decode(), strict_parsing=bool(content), max_num_fields=16)
    except ValueError as error:
        raise errors.RequestInvalid("the form cannot be read") from error
    if any(len(values) > 1 or "\0" in values[0] for values in found.values()):
        raise errors.RequestInvalid("a field of the form is there twice, or holds a NUL")
    return {name: values[0] for name, values in found.items()}


def _answer(made: federation.Credential) -> HttpResponse:
    key = made.session.key
    assert key.expires_at is not None
    return http.json(
        {
            "access_token": made.secret,
            "issued_token_type": ACCESS_TOKEN,
            "token_type": "N_A",  # RFC 8693, section 2.2.1: it is no Bearer token, but a password
            "expires_in": math.floor((key.expires_at - timezone.now()).total_seconds()),
            "username": key.identifier,
            "password": made.secret,
            "registry": settings.PUBLIC.netloc,
            "service_account": key.user.email,
            "actions": sorted(key.only_actions or {"pull", "push", "delete"}),
        },
        Cache_Control="no-store",
    )


def _error(request: HttpRequest, status: int, code: str, words: str) -> HttpResponse:
    answer = {"error": code, "error_description": words, "request_id": getattr(request, "id", "")}
    response = http.json(answer, Cache_Control="no-store")
    response.status_code = status
    return response
