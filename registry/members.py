"""The people of organizations and projects, and their keys.

``set_organization_role`` and ``set_role`` are the only writers of these roles, so that every change is in the audit
log and ends the rights that depend on it. ``registry.repositories.set_role`` writes the roles on single repositories.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext as _

from accounts import audit as accounts_audit
from accounts import organizations
from accounts.errors import Refusal
from accounts.models import (
    AccessKey,
    AuditEvent,
    Organization,
    OrganizationMembership,
    OrganizationRole,
    Project,
    ProjectMembership,
    ProjectRole,
    User,
)
from registry import access, audit, edits, repositories
from registry.errors import Denied
from registry.models import Event, RepositoryUserPermission

if TYPE_CHECKING:
    from collections.abc import Collection

    from django.db.models import QuerySet

    from accounts.actors import Actor


def role_of(project: Project, user: User) -> ProjectRole | None:
    """The user's role in the project; organization owners need none."""
    role = ProjectMembership.objects.filter(project=project, user=user).values_list("role", flat=True).first()
    return ProjectRole(role) if role else None


def find_person(organization: Organization, email: str) -> User | None:
    """The person of the organization with this address. Users outside of it are not found, so that they stay hidden."""
    belonging = User.objects.people().filter(organization_memberships__organization=organization)
    return belonging.filter(email=email.lower()).first()


def find_holder(project: Project, email: str) -> User | None:
    """The person or service account with this address that can have roles in the project."""
    found = User.objects.filter(organization=project.organization_id, email=email.lower(), deleted_at=None)
    account = found.filter(Q(project=None) | Q(project=project)).first()
    return account or find_person(project.organization, email)


def set_role(
    actor: Actor,
    project: Project,
    user: User,
    role: ProjectRole | None,
    *,
    seen: str | None = None,
    undoes: Collection[int] = (),
) -> Event | None:
    """Give exactly this role in the project, None for no role. Returns the event, None if nothing changed.

    The user's roles on single repositories of the project end: a role in the project allows more. ``ended`` in the
    event's detail holds the ids of their events. Raises Denied (the user is not in the organization, or is a service
    account and the actor may not give it the role), Changed (the role is not the one that was ``seen``).
    """
    with transaction.atomic():
        belongs = organizations.belongs(user, project.organization, lock=True)
        before = role_of(project, user)
        if before == role:
            return None
        edits.compare_role(user, before, seen)
        if role is None:
            ProjectMembership.objects.filter(project=project, user=user).delete()
        elif belongs:
            access.require_may_give(actor, user, role, project)
            ProjectMembership.objects.update_or_create(project=project, user=user, defaults={"role": role})
        else:
            raise Denied(
                _("%(user)s is not in the organization %(organization)s")
                % {"user": user, "organization": project.organization.name}
            )
        ended = _take_grants(actor, user, undoes, content_object__project=project)
        roles = {"before": before or "", "after": role or ""}
        detail: dict[str, Any] = {"user": user.email, **roles, **({"ended": ended} if ended else {})}
        event = audit.record(actor, Event.Action.MEMBER_CHANGE, project, undoes=undoes, **detail)
        accounts_audit.record(
            actor,
            accounts_audit.Action.PROJECT_ROLE,
            person=user,
            organizations=[project.organization_id],
            detail={"project": project.name, **roles},
        )
    return event


def set_organization_role(
    actor: Actor, organization: Organization, user: User, role: OrganizationRole | None, *, seen: str | None = None
) -> AuditEvent | None:
    """Give a member exactly this role in the organization; None removes the user and every role in its projects.

    ``organizations.add_user`` makes members. Returns the event of the organization's audit log, None if nothing
    changed. ``ended`` in its detail holds the ids of the projects' events about roles that ended (``restore_member``).
    Raises Refusal (an organization keeps at least one active owner), Changed (the role is not the one that was
    ``seen``).
    """
    with transaction.atomic():
        Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
        memberships = OrganizationMembership.objects.filter(organization=organization)
        held = memberships.select_for_update(no_key=True).filter(user=user).first()
        if held is None or held.role == role:
            return None
        edits.compare_role(user, held.role, seen)
        others = memberships.filter(role=OrganizationRole.OWNER, user__is_active=True).exclude(user=user)
        if held.role == OrganizationRole.OWNER and not others.exists():
            raise Refusal(
                _("%(user)s is the last owner of %(organization)s: make another member an owner first")
                % {"user": user, "organization": organization}
            )
        before = held.role
        if role:
            held.role = role
            held.save(update_fields=["role"])
            return organizations.note_role(actor, organization, user, before, role)
        ended = end_roles(actor, organization, user)
        held.delete()
        return organizations.note_role(actor, organization, user, before, None, ended=ended)


def end_roles(actor: Actor, organization: Organization, user: User) -> list[int]:
    """End the user's roles in the organization's projects and on their repositories. Returns the ids of the events."""
    ended = []
    for project in Project.objects.filter(organization=organization, memberships__user=user):
        event = set_role(actor, project, user, None)
        ended += [event.pk] if event else []
    return ended + _take_grants(actor, user, content_object__project__organization=organization)


def keys_in_project(project: Project, *, with_ended: bool = False) -> QuerySet[AccessKey]:
    """The valid keys that can act in the project: their holder has a role there, and they are not for another project.

    A role on a single repository of the project counts, and being an owner of the organization. Keys of the project's
    service accounts are among them, with or without a role. ``with_ended``: also
    revoked and expired keys.
    """
    holder = OuterRef("user")
    roles = ProjectMembership.objects.filter(project=project, user=holder)
    grants = RepositoryUserPermission.objects.filter(content_object__project=project, user=holder)
    owners = _owners(project.organization).filter(user=holder)
    found = AccessKey.objects.lasting() if with_ended else AccessKey.objects.alive().lasting()
    found = found.filter(Q(project=None) | Q(project=project))
    return found.filter(Q(Exists(roles)) | Q(Exists(grants)) | Q(Exists(owners)) | Q(user__project=project))


def administered_projects_of(admin: Actor, organization: Organization, user: User) -> list[Project]:
    """Return the projects that ``admin`` administers and in which keys of ``user`` can act, by name. One query."""
    own = ProjectMembership.objects.filter(project=OuterRef("pk"), user=admin.user_id, role=ProjectRole.ADMIN)
    roles = ProjectMembership.objects.filter(project=OuterRef("pk"), user=user)
    grants = RepositoryUserPermission.objects.filter(content_object__project=OuterRef("pk"), user=user)
    reached = Q(Exists(roles)) | Q(Exists(grants)) | Q(Exists(_owners(organization).filter(user=user)))
    return list(Project.objects.filter(Exists(own), reached, organization=organization).order_by("name"))


def keys_in_organization(organization: Organization, *, with_ended: bool = False) -> QuerySet[AccessKey]:
    """The valid keys of the organization's people and service accounts, without those for projects of others.

    ``with_ended``: also revoked and expired keys.
    """
    belongs = OrganizationMembership.objects.filter(organization=organization, user=OuterRef("user"))
    found = AccessKey.objects.lasting() if with_ended else AccessKey.objects.alive().lasting()
    held = Q(Exists(belongs)) | Q(user__organization=organization)
    return found.filter(held, Q(project=None) | Q(project__organization=organization))


def may_revoke(actor: Actor, project: Project, key: AccessKey) -> bool:
    """Whether an admin of the project may revoke this key.

    Any admin may revoke a key that is limited to the project, and the keys of the project's service accounts. Another
    key can act in other projects as well, so only an owner of the organization may revoke it; an admin can remove the
    holder's role in the project instead.
    """
    return project.pk in {key.project_id, key.user.project_id} or may_revoke_all(actor, project)


def may_revoke_all(actor: Actor, project: Project) -> bool:
    """Whether an admin of the project may also revoke its keys that are not limited to it."""
    return _owners(project.organization).filter(user=actor.user_id).exists()


def revoke_key(actor: Actor, project: Project, key: AccessKey) -> bool:
    """Revoke a key that can act in the project, and mail its holder; False when it was revoked. Raises Denied."""
    if not may_revoke(actor, project, key):
        raise Denied(_("only an owner of the organization may revoke a key that is not limited to this project"))
    return organizations.revoke_key(actor, key)


def restore_key(actor: Actor, project: Project, key: AccessKey) -> None:
    """Undo the revocation of a key that can act in the project, and mail its holder. Raises Denied, Refusal."""
    if not may_revoke(actor, project, key):
        raise Denied(_("only an owner of the organization may restore a key that is not limited to this project"))
    organizations.restore_key(actor, key)


def _owners(organization: Organization) -> QuerySet[OrganizationMembership]:
    return OrganizationMembership.objects.filter(organization=organization, role=OrganizationRole.OWNER)


def _take_grants(actor: Actor, user: User, undoes: Collection[int] = (), **where: object) -> list[int]:
    """End the user's roles on these repositories. Returns the ids of the events."""
    found = RepositoryUserPermission.objects.filter(user=user, **where)
    ended = []
    for grant in found.select_related("content_object__project__organization"):
        event = repositories.set_role(actor, grant.content_object, user, None, undoes=undoes)
        ended += [event.pk] if event else []
    return ended
