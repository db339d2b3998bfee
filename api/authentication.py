"""Who is asking: an access key, by Basic (ID and secret) or Bearer (secret). Never a cookie or a registry token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accounts import keys
from accounts.actors import ANONYMOUS
from registry import errors
from registry.v2.authentication import Credentials

from . import problems

if TYPE_CHECKING:
    from django.http import HttpRequest

    from accounts.actors import Actor


def actor_of(request: HttpRequest) -> Actor:
    """The actor of a request. Raises Unauthorized, TooManyRequests, NotForThisApi.

    Wrong secrets are counted as at the registry API (`accounts.guesses`).
    """
    scheme, _space, value = request.META.get("HTTP_AUTHORIZATION", "")[:8192].partition(" ")
    if scheme.lower() == "bearer":
        secret = value.strip()
        if not secret.startswith(keys.SECRET_PREFIX):
            raise errors.Unauthorized("the API takes the secret of an access key, not a token of the registry")
        actor = Credentials.of_password(request, keys.identifier_of(secret), secret).actor
    else:
        actor = Credentials.of_basic(request).actor
    if actor is ANONYMOUS or actor.is_anonymous:
        raise errors.Unauthorized("send the ID and secret of an access key (Basic), or its secret (Bearer)")
    if not actor.management:
        raise problems.NotForThisApi
    return actor
