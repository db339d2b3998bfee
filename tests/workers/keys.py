"""Steps of tests/clients/test_rotation.py."""

from __future__ import annotations

from datetime import timedelta

from accounts import organizations
from accounts.actors import SYSTEM
from accounts.models import ProjectRole
from registry import service_accounts


def make_service_key() -> dict[str, str]:
    """Make a service account of demo with the role Member. Return the id and the secret of a key of it."""
    project = organizations.find_project("demo")
    account = service_accounts.create(SYSTEM, project, "rotating", role=ProjectRole.MEMBER)
    new = service_accounts.make_key(SYSTEM, account, "runner")
    return {"id": new.key.identifier, "secret": new.secret}


def rotate(identifier: str, seconds: str) -> dict[str, str | float]:
    """Give the key a new secret; the former one works for so many seconds. Return the new one, and when that ends."""
    key = organizations.find_key(identifier)
    new = service_accounts.rotate(SYSTEM, key, former_ends_in=timedelta(seconds=int(seconds)))
    return {"secret": new.secret, "former_ends_at": new.key.former.ends_at.timestamp()}
