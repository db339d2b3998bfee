"""Rights on single repositories, kept by django-guardian; the only module that calls it.

The permission tables have a foreign key to the repository, so their rows vanish with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models
from guardian.shortcuts import assign_perm, remove_perm

if TYPE_CHECKING:
    from .models import User


class RepositoryRole(models.TextChoices):
    """Member: pull and push. Viewer: pull."""

    MEMBER = "member"
    VIEWER = "viewer"


PERMISSIONS = {
    RepositoryRole.MEMBER: ("pull_repository", "push_repository"),
    RepositoryRole.VIEWER: ("pull_repository",),
}
ALL_PERMISSIONS = ("pull_repository", "push_repository")


def set_role(user: User, repository: models.Model, role: RepositoryRole | None) -> None:
    """Give exactly this role on the repository; None takes every right away. Run it inside a transaction."""
    wanted = PERMISSIONS[role] if role else ()
    for permission in ALL_PERMISSIONS:
        change = assign_perm if permission in wanted else remove_perm
        change(permission, user, repository)
