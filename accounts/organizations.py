"""Organizations, projects and the people in them."""

from __future__ import annotations

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils.translation import gettext as _

from . import audit, keys, tasks
from .actors import SYSTEM, Actor
from .models import (
    AccessKey,
    ConsoleSession,
    Organization,
    OrganizationMembership,
    OrganizationRole,
    Project,
    ProjectMembership,
    ProjectRole,
    User,
)

MAX_EMAIL = 254
MAX_DISPLAY_NAME = 100


class Refused(ValueError):
    """The change cannot be made; the message says why and what to do."""


def _check_length(display_name: str) -> None:
    if len(display_name) > MAX_DISPLAY_NAME:
        raise Refused(_("the name that people read has at most %(count)s characters") % {"count": MAX_DISPLAY_NAME})


def find_organization(name: str) -> Organization:
    """Raises Refused when there is none of this name."""
    organization = Organization.objects.filter(name=name).first()
    if organization is None:
        raise Refused(f"there is no organization {name}: make it with createorganization {name}")
    return organization


def find_project(name: str) -> Project:
    """Find a project by its unique ID. Raises Refused."""
    project = Project.objects.select_related("organization").filter(name=name).first()
    if project is None:
        raise Refused(f"there is no project {name}")
    return project


def find_user(email: str) -> User:
    """Find a user by e-mail address. Raises Refused."""
    user = User.objects.filter(email=email.lower()).first()
    if user is None:
        raise Refused(f"there is no user {email}: add them with adduser {email}")
    return user


def create_organization(name: str, display_name: str = "") -> tuple[Organization, bool]:
    """Return the organization, and whether it was made now. Raises Refused."""
    _check_length(display_name)
    if not 2 <= len(name) <= 64 or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise Refused("an organization's name has 2 to 64 letters, digits, - or _")
    return Organization.objects.get_or_create(name=name, defaults={"display_name": display_name})


def create_project(
    organization: Organization, name: str, display_name: str = "", description: str = ""
) -> tuple[Project, bool]:
    """Return the project, and whether it was made now. ``name`` must be a valid unique ID (registry.oci.names).

    Raises Refused when another organization has a project of this name.
    """
    _check_length(display_name)
    project, created = Project.objects.get_or_create(
        name=name,
        defaults={"organization": organization, "display_name": display_name, "description": description},
    )
    if project.organization_id != organization.pk:
        raise Refused(_("the project ID %(name)s is taken: IDs are unique in the whole installation") % {"name": name})
    return project, created


@transaction.atomic
def add_user(
    organization: Organization,
    email: str,
    *,
    role: OrganizationRole | None = None,
    name: str = "",
    password: str | None = None,
    by: Actor = SYSTEM,
) -> tuple[User, bool]:
    """Return the user as a member of the organization, and whether the user was made now. ``by``: who adds them.

    An existing user keeps name and password, an existing member the role (``registry.members`` changes roles).
    Raises Refused.
    """
    _check_length(name)
    try:
        validate_email(email)
        if len(email) > MAX_EMAIL:
            raise ValidationError(_("an email address has at most %(count)s characters") % {"count": MAX_EMAIL})
        if password is not None:
            validate_password(password, User(email=email, name=name))
    except ValidationError as error:
        raise Refused(" ".join(error.messages)) from error
    user = User.objects.filter(email=email.lower()).first()
    created = user is None
    if user is None:
        user = User.objects.create_user(email, password, name=name)
    membership, joined = OrganizationMembership.objects.get_or_create(
        user=user, organization=organization, defaults={"role": role or OrganizationRole.MEMBER}
    )
    if joined:
        note_role(by, organization, user, None, membership.role)
    return user, created


def note_role(by: Actor, organization: Organization, user: User, before: str | None, after: str | None) -> None:
    """Write to the audit log that a role in the organization was changed (None: no member); tell of a new owner.

    All other owners get a mail, ``by`` too: it may be that somebody else uses their session.
    """
    if after is None:
        action = audit.Action.MEMBER_REMOVE
    else:
        action = audit.Action.MEMBER_ADD if before is None else audit.Action.MEMBER_ROLE
    detail = {"organization": organization.name, "before": before or "", "after": after or ""}
    audit.record(by, action, person=user, organizations=[organization.pk], detail=detail)
    if after == OrganizationRole.OWNER:
        tasks.after_commit(tasks.tell_of_owner, organization.pk, user.pk, by.label)


def belongs(user: User, organization: Organization, *, lock: bool = False) -> bool:
    """Whether the user is in the organization; with ``lock`` nobody takes them out before the transaction ends."""
    found = OrganizationMembership.objects.filter(user=user, organization=organization)
    return (found.select_for_update(no_key=True) if lock else found).first() is not None


def set_project_role(project: Project, user: User, role: ProjectRole | None) -> None:
    """Give exactly this role in the project; None removes the user from it. Raises Refused for outsiders."""
    if role is None:
        ProjectMembership.objects.filter(project=project, user=user).delete()
        return
    if not belongs(user, project.organization):
        raise Refused(
            _("%(user)s is not in the organization %(organization)s")
            % {"user": user, "organization": project.organization.name}
        )
    ProjectMembership.objects.update_or_create(project=project, user=user, defaults={"role": role})


def deactivate(by: Actor, user: User) -> bool:
    """Shut somebody out until they are activated again; False when they are already.

    Their sessions end. Access keys, refresh tokens and tokens fail at their next request; those that nobody revokes
    meanwhile work again after ``activate``. Roles are kept.
    """
    return _set_active(by, user, audit.Action.USER_DEACTIVATE, is_active=False)


def activate(by: Actor, user: User) -> bool:
    """Let somebody in again, with the keys and roles that they had; False when they are active already."""
    return _set_active(by, user, audit.Action.USER_ACTIVATE, is_active=True)


def _set_active(by: Actor, user: User, action: audit.Action, *, is_active: bool) -> bool:
    with transaction.atomic():
        if not User.objects.filter(pk=user.pk, is_active=not is_active).update(is_active=is_active):
            return False
        # When activating too: a sign-in may have been on its way when the user was deactivated.
        ConsoleSession.objects.filter(user=user).delete()
        audit.record(by, action, person=user)
    user.is_active = is_active
    return True


def without_owner(user: User) -> list[Organization]:
    """The organizations of the user that have no active owner."""
    owners = OrganizationMembership.objects.filter(role=OrganizationRole.OWNER, user__is_active=True)
    found = Organization.objects.filter(memberships__user=user).exclude(memberships__in=owners)
    return list(found.order_by("name"))


def find_key(identifier: str) -> AccessKey:
    """Find an access key by its ID. Raises Refused."""
    key = AccessKey.objects.select_related("user", "project").filter(identifier=identifier).first()
    if key is None:
        raise Refused(f"there is no access key {identifier}")
    return key


def revoke_key(by: Actor, key: AccessKey) -> bool:
    """End somebody else's key at once, and tell its holder by mail; False when it was revoked already."""
    with transaction.atomic():
        if not keys.revoke(key, by=by):
            return False
        tasks.after_commit(tasks.tell_of_revoked_key, key.pk, by.label)
    return True
