"""People of a project: roles given and taken, as a part of the project's history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from accounts import organizations
from accounts.models import Project, ProjectMembership, ProjectRole, User
from registry import history
from registry.errors import Denied
from registry.models import Event

if TYPE_CHECKING:
    from accounts.actors import Actor


def role_of(project: Project, user: User) -> ProjectRole | None:
    """The role that the user has in the project itself (organization owners have every right without one)."""
    role = ProjectMembership.objects.filter(project=project, user=user).values_list("role", flat=True).first()
    return ProjectRole(role) if role else None


def set_role(actor: Actor, project: Project, user: User, role: ProjectRole | None) -> bool:
    """Give exactly this role in the project, or none; returns whether anything changed.

    Raises Denied: people of other organizations can be given nothing.
    """
    with transaction.atomic():
        locked = Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        before = role_of(locked, user)
        if before == role:
            return False
        try:
            organizations.set_project_role(locked, user, role)
        except organizations.Refused as error:
            raise Denied(str(error)) from error
        history.record(
            actor, Event.Action.MEMBER_CHANGE, locked, user=user.email, before=before or "", after=role or ""
        )
    return True
