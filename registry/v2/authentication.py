"""Who is asking: a Bearer token of ours, or the ID and secret of an access key (Basic)."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.authentication import BaseAuthentication

from accounts import guesses, keys, tokens
from registry import errors, hosts

if TYPE_CHECKING:
    from rest_framework.request import Request

    from accounts.actors import Actor
    from accounts.models import AccessKey

MAX_HEADER = 8192


class RegistryAuthentication(BaseAuthentication):
    """``request.user`` becomes an Actor; ``request.auth`` the Token it came with, None for Basic."""

    def authenticate(self, request: Request) -> tuple[Actor, tokens.Token | None] | None:
        """None when nothing was offered. Raises Unauthorized or TooManyRequests."""
        scheme, _, credentials = request.headers.get("Authorization", "")[:MAX_HEADER].partition(" ")
        if scheme.lower() == "bearer":
            service = hosts.of_header(request.get_host()).service
            try:
                token = tokens.verify(credentials.strip(), service, address=address(request), client=client(request))
            except tokens.InvalidToken as error:
                raise errors.TokenInvalid(str(error)) from error
            return token.actor, token
        if scheme.lower() == "basic":
            key = key_of(request, *basic(credentials))
            return keys.actor(key, address=address(request), client=client(request)), None
        return None

    def authenticate_header(self, request: Request) -> str:
        """Asked by REST framework; the full challenge is written by the view."""
        return challenge(hosts.of_header(request.get_host()))


def key_of(request: Request, identifier: str, secret: str) -> AccessKey:
    """The living access key with these credentials. Raises Unauthorized (why), TooManyRequests."""
    try:
        return keys.authenticate(identifier, secret, address=address(request), client=client(request))
    except guesses.WrongCredentials as error:
        raise errors.Unauthorized(str(error)) from error
    except guesses.TooManyFailures as error:
        raise errors.TooManyRequests(
            f"too many wrong secrets: wait {error.seconds} seconds", detail={"seconds": error.seconds}
        ) from error


def basic(credentials: str) -> tuple[str, str]:
    """User name and secret of a Basic header. Raises Unauthorized."""
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise errors.Unauthorized("the Authorization header cannot be read") from error
    name, _, secret = text.partition(":")
    if "\0" in text:
        raise errors.Unauthorized("unknown access key, or wrong secret")
    return name, secret


def challenge(host: hosts.Host, scope: str = "", reason: str = "") -> str:
    """WWW-Authenticate of a 401 (Docker token specification): where to get a token, and for what."""
    parts = {"realm": f"{settings.PUBLIC_URL}/token", "service": host.service, "scope": scope, "error": reason}
    return "Bearer " + ",".join(f'{name}="{value}"' for name, value in parts.items() if value)


def address(request: Request) -> str:
    """The client's address (behind trusted proxies as well: registry.middleware)."""
    return str(request.META.get("REMOTE_ADDR", ""))


def client(request: Request) -> str:
    """The client's name for itself."""
    return request.headers.get("User-Agent", "")[:200]
