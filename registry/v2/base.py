"""Base classes of the views of the registry API: they find the host, the actor, the image and the action."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from rest_framework.views import APIView

from accounts.actors import ANONYMOUS
from registry import access, errors, hosts
from registry.access import Action
from registry.oci import names

from . import authentication

if TYPE_CHECKING:
    from django.http import HttpRequest

    from accounts.actors import Actor
    from accounts.tokens import Token
    from registry.oci.names import ImageName

_SCOPE_OF = {Action.PULL: "pull", Action.PUSH: "pull,push", Action.DELETE: "delete"}

READS = ("GET", "HEAD")
WARN_BEFORE = 7 * 24 * 3600


def _warning(actor: Actor) -> str:
    """The Warning header (distribution-spec 1.1, "Warnings") for a key that expires soon, else ""."""
    if actor.key_expires_at is None or actor.key_expires_at - time.time() > WARN_BEFORE:
        return ""
    day = datetime.fromtimestamp(actor.key_expires_at, UTC).date()
    return f'299 - "your access key expires on {day}: make a new one in time"'


class RegistryView(APIView):
    """A view of the registry API. ``actions`` says what each method does; a method without one is refused.

    Of APIView it uses the choice of the method and the handling of errors. Bodies and answers are the work of
    ``registry.v2.http``, permissions that of ``registry.access``.
    """

    actions: ClassVar[dict[str, Action]] = {}
    http_method_names = ("get", "head", "post", "put", "patch", "delete")

    host: hosts.Host = hosts.BARE
    actor: Actor = ANONYMOUS
    token: Token | None = None  # None with Basic

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        """Answer the request as APIView does, without its request, negotiation, versions and throttling."""
        self.request = request
        self.args, self.kwargs = args, kwargs
        name = (request.method or "").lower()
        try:
            self.initial(request, *args, **kwargs)
            handler = getattr(self, name, None) if name in self.http_method_names else None
            response = (handler or self.http_method_not_allowed)(request, *args, **kwargs)
        except Exception as error:
            response = self.handle_exception(error)
        return self.finalize_response(request, response)

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        """Find the host and the actor. Raises Unauthorized without credentials."""
        method = (request.method or "").lower()
        if request.method not in self.actions and method in self.http_method_names and hasattr(self, method):
            raise errors.Unsupported  # ``actions`` does not say who may do this
        self.host = self.find_host(request)
        found = self.find_actor(request)
        if found is None:
            raise errors.Unauthorized
        self.actor, self.token = found
        request.actor = self.actor

    def find_actor(self, request: HttpRequest) -> tuple[Actor, Token | None] | None:
        """Who is asking, and their token; None without credentials. Raises Unauthorized, TooManyRequests."""
        return authentication.of_request(request, self.host.service)

    def find_host(self, request: HttpRequest) -> hosts.Host:
        """The host that the request names. Raises PathUnknown."""
        return hosts.of_header(request.get_host())

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Add the headers of every answer."""
        response.headers.setdefault("Docker-Distribution-Api-Version", "registry/2.0")
        if warning := _warning(self.actor):
            response.headers["Warning"] = warning
        return response

    def get_exception_handler_context(self) -> dict[str, Any]:
        """The context of ``registry.v2.errors.answer``."""
        return {"view": self, "request": self.request}

    def error_headers(self, error: errors.RegistryError) -> dict[str, str]:
        """Headers that this view adds to an error: the challenge of a 401."""
        if isinstance(error, errors.Unauthorized):
            return {"WWW-Authenticate": authentication.challenge(self.host, self.scope(), error.reason)}
        if isinstance(error, errors.Unsupported):
            return {"Allow": ", ".join(sorted(self.actions))}
        return {}

    def scope(self) -> str:
        """The scope of the token that this request needs."""
        return ""


class PersonalView(RegistryView):
    """A view that needs a valid login and no action on an image."""

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        """Refuse a token whose key or user has ended."""
        super().initial(request, *args, **kwargs)
        access.require_alive(self.actor)


class ImageView(RegistryView):
    """A view of one image: ``self.name``, written in the URL as ``self.wire_name``."""

    wire_name: str
    name: ImageName

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        """Read the name, and refuse a token that was not issued for it and this action."""
        self.wire_name = kwargs["name"]
        super().initial(request, *args, **kwargs)
        self.name = self._parse_name()
        action = self.actions.get(request.method or "")
        if action and not self.covers(self.wire_name, action):
            access.require(self.actor, action, self.name)
            raise errors.ScopeInsufficient
        if self.is_for_new:
            self.cover_created()

    @property
    def is_for_new(self) -> bool:
        """Whether the token was issued for a push to this name when no repository had it."""
        return self.token is not None and self.token.precedes(self.wire_name)

    def cover_created(self) -> None:
        """Let the token cover the repository that a push created under this name."""
        self.actor = access.with_created(self.actor, self.name)

    def _parse_name(self) -> ImageName:
        """Raises NameInvalid; NameUnknown when a read names an image in a form that other registries have.

        No image has such a name, so it is unknown. Most clients send HEAD before they push. They go on after a 404, and
        the answer to the push can tell the reason, which HEAD cannot.
        """
        try:
            return self.host.parse(self.wire_name)
        except errors.NameInvalid as error:
            if self.request.method in READS and names.follows_specification(self.wire_name):
                raise errors.NameUnknown(error.message) from error
            raise

    def covers(self, wire_name: str, action: Action) -> bool:
        """Whether the request's token was issued for this action on this name; Basic covers everything."""
        return self.token is None or self.token.allows("repository", wire_name, action)

    def scope(self) -> str:
        """``repository:<name>:<actions>`` of this request."""
        action = self.actions.get(self.request.method or "")
        if action is None or self.host.find(self.wire_name) is None:
            return ""  # the challenge must not repeat arbitrary text of the URL
        return f"repository:{self.wire_name}:{_SCOPE_OF[action]}"


class UnknownView(PersonalView):
    """Every other path: the same check of the login, then an error in JSON, for every method."""

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        """Check the login. Then raises PathUnknown."""
        super().initial(request, *args, **kwargs)
        raise errors.PathUnknown
