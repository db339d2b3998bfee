"""The people of a project: their roles change here, so that the history knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import transaction

from accounts import organizations
from accounts.models import Project, ProjectMembership, ProjectRole, User
from registry import history, repositories
from registry.models import Event, RepositoryUserPermission

if TYPE_CHECKING:
    from accounts.actors import Actor


def set_role(actor: Actor, project: Project, user: User, role: ProjectRole | None) -> bool:
    """Give exactly this role in the project, or none; returns whether anything changed.

    Rights on single repositories of the project end when a role in it begins: the role holds more. Raises Refused:
    the user is of another organization.
    """
    with transaction.atomic():
        Project.objects.select_for_update(no_key=True).get(pk=project.pk)
        held = ProjectMembership.objects.filter(project=project, user=user).values_list("role", flat=True).first()
        if held == role:
            return False
        organizations.set_project_role(project, user, role)
        for grant in RepositoryUserPermission.objects.filter(content_object__project=project, user=user).select_related(
            "content_object__project__organization"
        ):
            repositories.set_role(actor, grant.content_object, user, None)
        history.record(actor, Event.Action.ROLE_CHANGE, project, user=user.email, before=held or "", after=role or "")
    return True
