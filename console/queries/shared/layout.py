"""What the layout of every page needs: the projects that the person may open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Exists, OuterRef, Q

from accounts.models import OrganizationMembership, OrganizationRole, Project, ProjectMembership
from registry import access
from registry.access import Action
from registry.database.prepared import prepare_models
from registry.models import Repository

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.actors import Actor


SHOWN = 30


def projects_of(actor: Actor) -> QuerySet[Project]:
    """The projects whose pages the actor may see: a role in them, or ownership of their organization."""
    roles = ProjectMembership.objects.filter(user=actor.user_id, project=OuterRef("pk"))
    owned = OrganizationMembership.objects.filter(
        user=actor.user_id, role=OrganizationRole.OWNER, organization=OuterRef("organization")
    )
    return Project.objects.filter(Q(Exists(roles)) | Q(Exists(owned))).select_related("organization")


def repositories_of(actor: Actor) -> QuerySet[Repository]:
    """The live repositories of the projects whose pages the actor may see."""
    return access.permitted(Repository.objects.filter(project__in=projects_of(actor)), actor, Action.VIEW)


@prepare_models(Project)
def _switch(actor: Actor) -> QuerySet[Project]:
    return projects_of(actor).order_by("organization__name", "name")[: SHOWN + 1]


def layout_context(actor: Actor, project: Project | None = None) -> dict[str, Any]:
    """The context of layout.html. One query."""
    switch = _switch.all(actor)
    return {"switch": switch[:SHOWN], "switch_has_more": len(switch) > SHOWN, "project": project}
