"""Steps of tests/clients/test_keyless.py."""

from __future__ import annotations

import json

from accounts import issuers, organizations
from accounts.actors import SYSTEM
from accounts.models import FederatedSession, IssuerKind, ProjectRole, User
from console.queries import keyless as queries
from registry import service_accounts
from registry.models import Event


def trust(kind: str, url: str, claims: str, name: str = "demo") -> list[str]:
    """Let tokens of an issuer act as the service account ci of the project. Return the names of the issuer's keys."""
    make_account(name)
    account = User.objects.get(email=f"ci@{name}.project.invalid")
    issuer = issuers.create(SYSTEM, organizations.find_project(name).organization, IssuerKind(kind), url)
    service_accounts.add_trust_rule(SYSTEM, account, issuer, kind, json.loads(claims))
    return [key["kid"] for key in issuer.keys]


def make_account(name: str) -> None:
    """Make the service account ci of the project, if there is none."""
    if not User.objects.filter(email=f"ci@{name}.project.invalid").exists():
        service_accounts.create(SYSTEM, organizations.find_project(name), "ci", role=ProjectRole.MEMBER)


def origin(tag: str) -> dict[str, str]:
    """Where the push of a tag came from."""
    found: dict[str, str] = Event.objects.get(action=Event.Action.TAG_ADD, tag=tag).detail["via"]
    return found


def snippet(title: str) -> str:
    """The text of a snippet of the account ci."""
    account = User.objects.get(email="ci@demo.project.invalid")
    return next(each.text for each in queries.snippets(account) if each.title == title)


def sessions() -> int:
    """How many sessions there are."""
    return FederatedSession.objects.count()


def pushed(image: str, tag: str) -> bool:
    """Whether an ID token pushed the tag of the image."""
    events = Event.objects.filter(action=Event.Action.TAG_ADD, path=image, tag=tag)
    return any(event.detail.get("via") for event in events)


def pushers(image: str, tag: str) -> list[str]:
    """Who pushed the tag of the image."""
    events = Event.objects.filter(action=Event.Action.TAG_ADD, path=image, tag=tag)
    return list(events.values_list("actor", flat=True))
