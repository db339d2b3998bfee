"""Steps of tests/clients/test_keyless.py."""

from __future__ import annotations

import json

from accounts import issuers, organizations
from accounts.actors import SYSTEM
from accounts.models import FederatedSession, IssuerKind, ProjectRole, User
from console.queries import keyless as queries
from registry import service_accounts
from registry.models import Event


def trust(kind: str, url: str, claims: str) -> list[str]:
    """Let tokens of an issuer act as the service account ci of demo. Return the names of the issuer's keys."""
    project = organizations.find_project("demo")
    account = User.objects.filter(project=project, name="ci").first()
    account = account or service_accounts.create(SYSTEM, project, "ci", role=ProjectRole.MEMBER)
    issuer = issuers.create(SYSTEM, project.organization, IssuerKind(kind), url)
    service_accounts.add_trust_rule(SYSTEM, account, issuer, kind, json.loads(claims))
    return [key["kid"] for key in issuer.keys]


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


def has_account() -> bool:
    """Whether there is the account ci of demo."""
    return User.objects.filter(email="ci@demo.project.invalid").exists()


def pushed(image: str, tag: str) -> bool:
    """Whether an ID token pushed the tag of the image."""
    events = Event.objects.filter(action=Event.Action.TAG_ADD, path=image, tag=tag)
    return any(event.detail.get("via") for event in events)
