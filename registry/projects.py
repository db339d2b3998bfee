"""Projects: made with a name that is part of every image's address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from accounts import organizations
from accounts.models import Organization, Project, ProjectRole, User
from registry import errors, members
from registry.oci import names

if TYPE_CHECKING:
    from accounts.actors import Actor


def create(
    actor: Actor, organization: Organization, name: str, *, display_name: str = "", description: str = ""
) -> Project:
    """Make a project; a person who makes one is its first admin.

    Raises NameInvalid, Refused (there is one of this name).
    """
    if not names.is_project(name):
        raise errors.NameInvalid(
            "a project's ID has 3 to 40 lower-case letters, digits and -, and starts with a letter"
        )
    with transaction.atomic():
        project, created = organizations.create_project(organization, name, display_name)
        if not created:
            raise organizations.Refused(f"there is a project {name} already")
        project.description = description
        project.save(update_fields=["description"])
        if actor.user_id is not None:
            members.set_role(actor, project, User.objects.get(pk=actor.user_id), ProjectRole.ADMIN)
    return project
