"""Who is asking: a Bearer token of this installation, or the credentials of an access key."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db.models import TextField

from accounts import federation, guesses, id_tokens, keys, limits, tokens
from accounts.actors import ANONYMOUS, Actor
from accounts.models import AccessKey
from registry import errors
from registry.database.prepared import prepare_models

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import HttpRequest

    from registry import hosts

MAX_HEADER = 8192
REJECTED = "no trust rule of this registry accepts this token"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The actor that a request's credentials make, and the login behind them (None: anonymous, or a refresh token)."""

    actor: Actor = ANONYMOUS
    login: keys.Login | None = None

    @classmethod
    def of_basic(cls, request: HttpRequest) -> Credentials:
        """Those of the Basic header; anonymous without one. Raises Unauthorized, TooManyRequests."""
        scheme, value = _authorization(request)
        return cls.of_password(request, *_name_and_secret(value)) if scheme == "basic" else cls()

    @classmethod
    def of_password(cls, request: HttpRequest, identifier: str, secret: str) -> Credentials:
        """Those of an access key's ID and secret, or of an ID token, whose user name may be PROJECT/SERVICE-ACCOUNT.

        Raises Unauthorized (why; an ID token gets one answer), TooManyRequests, KeyLimited.
        """
        address, client = _origin(request)
        if id_tokens.looks_like(secret):
            return cls._of_id_token(federation.Attempt(secret, identifier, address, client))
        try:
            login = keys.authenticate(identifier, secret, address=address, client=client, find=_find_key)
        except guesses.WrongCredentials as error:
            raise errors.Unauthorized(str(error)) from error
        except guesses.TooManyFailures as error:
            raise errors.TooManyRequests(
                f"unknown access key, or wrong secret; too many were wrong: wait {error.seconds} seconds",
                detail={"seconds": error.seconds},
            ) from error
        return cls(_in_network(keys.actor(login.key, address=address, client=client)), login)

    @classmethod
    def _of_id_token(cls, attempt: federation.Attempt) -> Credentials:
        try:
            login = federation.log_in(attempt)
        except federation.Rejected as error:
            raise errors.Unauthorized(REJECTED) from error
        actor = keys.actor(login.key, address=attempt.address, client=attempt.client)
        return cls(_in_network(actor), login)

    @classmethod
    def of_refresh_token(cls, request: HttpRequest, token: str, service: str) -> Credentials:
        """Those of the key that a refresh token of this service was issued for. Raises Unauthorized."""
        address, client = _origin(request)
        try:
            key = tokens.redeem_refresh(token, service, address=address, client=client)
        except tokens.InvalidToken as error:
            raise errors.Unauthorized(str(error)) from error
        return cls(_in_network(keys.actor(key, address=address, client=client)))


def of_request(request: HttpRequest, service: str) -> tuple[Actor, tokens.Token | None] | None:
    """Who is asking, and their token for the service (None with Basic); None without credentials.

    Raises Unauthorized, TooManyRequests.
    """
    scheme, value = _authorization(request)
    if scheme == "bearer":
        address, client = _origin(request)
        try:
            token = tokens.verify(value, service, address=address, client=client)
        except tokens.InvalidToken as error:
            raise errors.TokenInvalid(str(error)) from error
        return _in_network(token.actor), token
    if scheme == "basic":
        return Credentials.of_basic(request).actor, None
    return None


def challenge(host: hosts.Host, scope: str = "", reason: str = "") -> str:
    """WWW-Authenticate of a 401 (Docker token specification): where to get a token, and for what."""
    parts = {"realm": f"{settings.PUBLIC_URL}/token", "service": host.service, "scope": scope, "error": reason}
    return "Bearer " + ",".join(f'{name}="{value}"' for name, value in parts.items() if value)


def _in_network(actor: Actor) -> Actor:
    """Return the actor. Raises KeyLimited if its key may not be used from its address."""
    if not limits.covers(actor.networks, actor.address):
        raise errors.KeyLimited(
            f"this access key may not be used from {actor.address}: it is limited to other networks",
            actor=actor,
            limit="networks",
        )
    return actor


def _find_key(identifier: str) -> AccessKey | None:
    return _key.first(identifier=identifier)


@prepare_models(AccessKey, identifier=TextField())
def _key(actor: Actor, identifier: Any) -> QuerySet[AccessKey]:
    return AccessKey.objects.select_related("user", "former", "session").filter(identifier=identifier)


def _authorization(request: HttpRequest) -> tuple[str, str]:
    """The scheme of the Authorization header, in lower case, and its value."""
    scheme, _, value = request.META.get("HTTP_AUTHORIZATION", "")[:MAX_HEADER].partition(" ")
    return scheme.lower(), value.strip()


def _name_and_secret(value: str) -> tuple[str, str]:
    """User name and secret of a Basic header (RFC 7617). Raises Unauthorized."""
    try:
        text = base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise errors.Unauthorized("the Authorization header cannot be read") from error
    if "\0" in text:
        raise errors.Unauthorized("unknown access key, or wrong secret")
    name, _, secret = text.partition(":")
    return name, secret


def _origin(request: HttpRequest) -> tuple[str, str]:
    """The client's address (registry.middleware has looked behind trusted proxies) and its User-Agent."""
    return str(request.META.get("REMOTE_ADDR", "")), request.META.get("HTTP_USER_AGENT", "")[:200]
