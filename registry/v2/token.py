"""The token service (Docker token specification, and its OAuth2 form): credentials in, a token for one host out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import parse_qs

from accounts import tokens
from accounts.actors import ANONYMOUS, Actor
from registry import access, errors, hosts
from registry.access import Action
from registry.oci import scopes

from . import http
from .authentication import Credentials
from .base import RegistryView

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

GRANTABLE = frozenset({Action.PULL, Action.PUSH, Action.DELETE})
GRANT_TYPES = ("password", "refresh_token")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a token is requested for."""

    host: hosts.Host
    scopes: list[scopes.Scope]


class TokenView(RegistryView):
    """``GET`` or ``POST /token``. Only wrong credentials are a 401: a token may lack actions that were asked for."""

    actions: ClassVar = {"GET": Action.PULL, "POST": Action.PULL}

    def find_actor(self, request: HttpRequest) -> tuple[Actor, None]:
        """Anonymous, always: the methods check the credentials, which a form may hold."""
        return ANONYMOUS, None

    def find_host(self, request: HttpRequest) -> hosts.Host:
        """One address issues the tokens of all hosts."""
        return hosts.BARE

    def get(self, request: HttpRequest) -> HttpResponse:
        """Credentials by Basic; without any, a token for public repositories."""
        asked = _asked(request.GET.get("service", ""), request.GET.getlist("scope"))
        credentials = Credentials.of_basic(request)
        return _answer(request, asked, credentials, wants_refresh=request.GET.get("offline_token") == "true")

    def post(self, request: HttpRequest) -> HttpResponse:
        """Credentials in a form: a password (access key) or a refresh token (RFC 6749, sections 4.3 and 6)."""
        form = _form(request)
        asked = _asked(_one(form, "service"), form.get("scope", []))
        grant_type, refresh_token = _one(form, "grant_type"), ""
        if grant_type == "password":
            credentials = Credentials.of_password(request, _one(form, "username"), _one(form, "password"))
        elif grant_type == "refresh_token":
            refresh_token = _one(form, "refresh_token")
            credentials = Credentials.of_refresh_token(request, refresh_token, asked.host.service)
        else:
            raise errors.RequestInvalid(f"grant_type must be one of {', '.join(GRANT_TYPES)}")
        wants_refresh = _one(form, "access_type") == "offline"
        return _answer(request, asked, credentials, wants_refresh=wants_refresh, refresh_token=refresh_token)

    def error_headers(self, error: errors.RegistryError) -> dict[str, str]:
        """A 401 asks for other credentials (Basic), not for a token."""
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


def _form(request: HttpRequest) -> dict[str, list[str]]:
    content = http.bounded_body(request, http.MAX_FORM)
    if content is None:
        raise errors.RequestInvalid("the form is too large")
    try:
        return parse_qs(content.decode(), keep_blank_values=True, strict_parsing=bool(content), max_num_fields=64)
    except ValueError as error:
        raise errors.RequestInvalid("the form cannot be read") from error


def _one(form: dict[str, list[str]], name: str) -> str:
    return form.get(name, [""])[0].replace("\0", "")


def _answer(
    request: HttpRequest, asked: Asked, credentials: Credentials, *, wants_refresh: bool, refresh_token: str = ""
) -> HttpResponse:
    grants = _grants(credentials.actor, asked)
    token = tokens.issue(credentials.actor, asked.host.service, grants)
    answer = {
        "token": token,
        "access_token": token,
        "expires_in": int(tokens.LIFETIME.total_seconds()),
        "issued_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if wants_refresh and not refresh_token and credentials.login and _may_use(credentials.actor, asked.host):
        refresh_token = tokens.issue_refresh(credentials.login, asked.host.service)
    if wants_refresh and refresh_token:
        answer["refresh_token"] = refresh_token
    if request.method == "POST":
        answer["scope"] = " ".join(f"{grant.type}:{grant.name}:{','.join(sorted(grant.actions))}" for grant in grants)
    return http.json(answer, Cache_Control="no-store")


def _may_use(actor: Actor, host: hosts.Host) -> bool:
    """Whether the actor can use the host. False for a project that does not exist, and for one they may not see."""
    return not host.project or access.knows_project(actor, host.project)


def _grants(actor: Actor, asked: Asked) -> list[tokens.Grant]:
    """What the actor may have now of the scopes that were asked for. One query for all repositories."""
    named = {scope: asked.host.find(scope.name) for scope in asked.scopes if scope.type == "repository"}
    allowed = access.allowed_actions(actor, *{name for name in named.values() if name})
    grants = []
    for scope in asked.scopes:
        if scope.type == "registry" and scope.name == "catalog" and "*" in scope.actions:
            grants.append(tokens.Grant("registry", "catalog", frozenset({"*"})))
        elif name := named.get(scope):
            actions, repository_id = allowed[name]
            wanted = {action for action in actions & GRANTABLE if action in scope.actions or "*" in scope.actions}
            if wanted:
                grants.append(tokens.Grant("repository", scope.name, frozenset(wanted), repository_id))
    return grants
