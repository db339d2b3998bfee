"""The token service (Docker token specification; OAuth2 form of it): credentials in, a token for a host out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import parse_qs

from rest_framework.authentication import BaseAuthentication

from accounts import keys, tokens
from accounts.actors import ANONYMOUS, Actor
from registry import access, errors, hosts
from registry.access import Action
from registry.oci import scopes

from . import http
from .authentication import address, basic, client, key_of
from .base import RegistryView

if TYPE_CHECKING:
    from django.http import HttpResponse
    from rest_framework.request import Request

    from accounts.models import AccessKey

GRANTABLE = frozenset({Action.PULL, Action.PUSH, Action.DELETE})
GRANT_TYPES = ("password", "refresh_token")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a token is wanted for."""

    host: hosts.Host
    scopes: list[scopes.Scope]


class NobodyYet(BaseAuthentication):
    """Whoever asks for a token is nobody until the credentials have been looked at."""

    def authenticate(self, request: Request) -> tuple[Actor, None]:
        """Anonymous, always."""
        return ANONYMOUS, None


class TokenView(RegistryView):
    """``GET`` or ``POST /token``. Asks for fewer rights than wanted are still 200; only wrong credentials are 401."""

    actions: ClassVar = {"GET": Action.PULL, "POST": Action.PULL}
    authentication_classes = (NobodyYet,)

    def find_host(self, request: Request) -> hosts.Host:
        """Tokens for all hosts are had at one address."""
        return hosts.BARE

    def get(self, request: Request) -> HttpResponse:
        """Credentials by Basic, or none at all for what is public."""
        asked = _asked(request.GET.get("service", ""), request.GET.getlist("scope"))
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        key = key_of(request, *basic(credentials)) if scheme.lower() == "basic" else None
        return _answer(request, asked, key, wants_refresh=request.GET.get("offline_token") == "true")

    def post(self, request: Request) -> HttpResponse:
        """Credentials in a form: a password (access key) or a refresh token (RFC 6749, sections 4.3 and 6)."""
        form = _form(request)
        asked = _asked(_one(form, "service"), form.get("scope", []))
        grant_type, refresh_token = _one(form, "grant_type"), ""
        if grant_type == "password":
            key = key_of(request, _one(form, "username"), _one(form, "password"))
        elif grant_type == "refresh_token":
            refresh_token = _one(form, "refresh_token")
            key = _redeem(request, refresh_token, asked.host)
        else:
            raise errors.RequestInvalid(f"grant_type must be one of {', '.join(GRANT_TYPES)}")
        wants_refresh = _one(form, "access_type") == "offline"
        return _answer(request, asked, key, wants_refresh=wants_refresh, refresh_token=refresh_token)

    def error_headers(self, error: errors.RegistryError) -> dict[str, str]:
        """Who is refused here must come with other credentials, not with a token."""
        if isinstance(error, errors.Unauthorized):
            return {"WWW-Authenticate": 'Basic realm="kcr"'}
        return super().error_headers(error)


def _asked(service: str, scope: list[str]) -> Asked:
    host = hosts.of_service(service)
    if host is None:
        raise errors.RequestInvalid("service must be the one of the challenge")
    try:
        return Asked(host, scopes.parse(scope))
    except scopes.InvalidScope as error:
        raise errors.RequestInvalid(str(error)) from error


def _form(request: Request) -> dict[str, list[str]]:
    content = http.bounded_body(request, http.MAX_FORM)
    if content is None:
        raise errors.RequestInvalid("the form is too large")
    try:
        return parse_qs(content.decode(), keep_blank_values=True, strict_parsing=bool(content), max_num_fields=64)
    except ValueError as error:
        raise errors.RequestInvalid("the form cannot be read") from error


def _one(form: dict[str, list[str]], name: str) -> str:
    return form.get(name, [""])[0].replace("\0", "")


def _redeem(request: Request, refresh_token: str, host: hosts.Host) -> AccessKey:
    try:
        return tokens.redeem_refresh(refresh_token, host.service, address=address(request), client=client(request))
    except tokens.InvalidToken as error:
        raise errors.Unauthorized(str(error)) from error


def _answer(
    request: Request, asked: Asked, key: AccessKey | None, *, wants_refresh: bool, refresh_token: str = ""
) -> HttpResponse:
    actor = keys.actor(key, address=address(request), client=client(request)) if key else ANONYMOUS
    grants = [grant for scope in asked.scopes if (grant := _grant(actor, asked.host, scope))]
    token = tokens.issue(actor, asked.host.service, grants)
    answer = {
        "token": token,
        "access_token": token,
        "expires_in": int(tokens.LIFETIME.total_seconds()),
        "issued_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if key and wants_refresh and (refresh_token or _may_keep(actor, asked.host)):
        kept = refresh_token or tokens.issue_refresh(key, asked.host.service)
        answer |= {"refresh_token": kept} if kept else {}
    if request.method == "POST":
        answer["scope"] = " ".join(f"{grant.type}:{grant.name}:{','.join(sorted(grant.actions))}" for grant in grants)
    return http.json(answer, Cache_Control="no-store")


def _may_keep(actor: Actor, host: hosts.Host) -> bool:
    """Whether the actor can use the host: one of no project is answered like one of a project that they may not see."""
    return not host.project or access.knows_project(actor, host.project)


def _grant(actor: Actor, host: hosts.Host, scope: scopes.Scope) -> tokens.Grant | None:
    """What of a scope the actor may have now; None when nothing."""
    if scope.type == "registry" and scope.name == "catalog":
        return tokens.Grant("registry", "catalog", frozenset({"*"})) if "*" in scope.actions else None
    name = host.find(scope.name) if scope.type == "repository" else None
    if name is None:
        return None
    allowed, repository_id = access.allowed_actions(actor, name)
    actions = {action for action in allowed & GRANTABLE if action in scope.actions or "*" in scope.actions}
    return tokens.Grant("repository", scope.name, frozenset(actions), repository_id) if actions else None
