"""Organizations, their people and invitations, and users. Roles change in ``registry.members``."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from . import audit, keys, passwords, tasks
from .actors import SYSTEM, Actor
from .errors import Refusal
from .models import (
    AccessKey,
    AuditEvent,
    ConsoleSession,
    Invitation,
    Organization,
    OrganizationMembership,
    OrganizationRole,
    Project,
    User,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_EMAIL = 254
MAX_DISPLAY_NAME = 100
RESERVED_DOMAIN = ".invalid"  # of service accounts; no mail server can have it (RFC 2606)
INVITATION_LIFETIME = timedelta(days=7)
INVITATIONS_OPEN, INVITATIONS_AN_HOUR = 100, 30  # of an organization: each is a mail to an address that an owner typed


def check_display_name(display_name: str) -> None:
    """Raises Refusal for a display name that is too long."""
    if len(display_name) > MAX_DISPLAY_NAME:
        raise Refusal(_("the name that people read has at most %(count)s characters") % {"count": MAX_DISPLAY_NAME})


def find_organization(name: str) -> Organization:
    """Raises Refusal when there is none of this name."""
    organization = Organization.objects.filter(name=name).first()
    if organization is None:
        raise Refusal(f"there is no organization {name}: make it with createorganization {name}")
    return organization


def find_project(name: str) -> Project:
    """Find a project by its unique ID. Raises Refusal."""
    project = Project.objects.select_related("organization").filter(name=name).first()
    if project is None:
        raise Refusal(f"there is no project {name}")
    return project


def find_user(email: str) -> User:
    """Find a user by e-mail address. Raises Refusal."""
    user = User.objects.filter(email=email.lower()).first()
    if user is None:
        raise Refusal(f"there is no user {email}: add them with adduser {email}")
    return user


def create_organization(name: str, display_name: str = "") -> tuple[Organization, bool]:
    """Return the organization, and whether it was made now. A display name is given to an existing one too.

    Raises Refusal.
    """
    check_display_name(display_name)
    if not 2 <= len(name) <= 64 or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise Refusal("an organization's name has 2 to 64 letters, digits, - or _")
    organization, created = Organization.objects.get_or_create(name=name, defaults={"display_name": display_name})
    if display_name and organization.display_name != display_name:
        organization.display_name = display_name
        organization.save(update_fields=["display_name"])
    return organization, created


@transaction.atomic
def set_size_limit(by: Actor, organization: Organization, limit: int | None) -> bool:
    """Limit the stored bytes of all projects of the organization; None: no limit. Returns whether it changed."""
    locked = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    if (before := locked.size_limit) == limit:
        return False
    locked.size_limit = organization.size_limit = limit
    locked.save(update_fields=["size_limit"])
    detail = {"before": before, "after": limit}
    audit.record(by, audit.Action.ORGANIZATION_QUOTA, organizations=[organization.pk], detail=detail)
    return True


@transaction.atomic
def add_user(
    organization: Organization,
    email: str,
    *,
    role: OrganizationRole | None = None,
    name: str = "",
    password: str | None = None,
    by: Actor = SYSTEM,
    invited_by: str = "",
) -> tuple[User, bool]:
    """Return the user as a member of the organization, and whether the user was made now.

    ``by`` adds the user. ``invited_by`` is the label of the inviter when the user joins by an invitation.
    An existing user keeps name and password (``update_user`` changes them), an existing member the role
    (``registry.members`` changes roles). Raises Refusal.
    """
    check_display_name(name)
    _check_email(email)
    if password is not None:
        try:
            validate_password(password, User(email=email, name=name))
        except ValidationError as error:
            raise Refusal(" ".join(error.messages)) from error
    user = User.objects.people().filter(email=email.lower()).first()
    created = user is None
    if user is None:
        user = User.objects.create_user(email, password, name=name)
    membership, joined = OrganizationMembership.objects.get_or_create(
        user=user, organization=organization, defaults={"role": role or OrganizationRole.MEMBER}
    )
    if joined:
        note_role(by, organization, user, None, membership.role, invited_by=invited_by)
    return user, created


def update_user(by: Actor, user: User, *, name: str = "", password: str | None = None) -> None:
    """Set the name and the password of a user, as an operator; what is not given stays. The caller has checked both.

    A new password ends the sessions of the user. Raises passwords.Busy.
    """
    if name and user.name != name:
        user.name = name
        user.save(update_fields=["name"])
    if password is not None and passwords.set_by_operator(user, password):
        audit.record(by, audit.Action.PASSWORD_CHANGE, person=user, detail={"by_operator": True})


def _check_email(email: str) -> None:
    try:
        validate_email(email)
        if len(email) > MAX_EMAIL:
            raise ValidationError(_("an email address has at most %(count)s characters") % {"count": MAX_EMAIL})
        if email.lower().endswith(RESERVED_DOMAIN):
            raise ValidationError(_("no mail can reach an address that ends with .invalid"))
    except ValidationError as error:
        raise Refusal(" ".join(error.messages)) from error


def note_role(
    by: Actor,
    organization: Organization,
    user: User,
    before: str | None,
    after: str | None,
    *,
    invited_by: str = "",
    ended: Sequence[int] = (),
) -> AuditEvent:
    """Write to the audit log that a role in the organization was changed (None: no member); tell of a new owner.

    ``ended``: ids of the projects' events about roles that ended with it. Returns the event of the organization's log.
    All other owners get a mail, ``by`` too: another person may use their session.
    """
    if after is None:
        action = audit.Action.MEMBER_REMOVE
    else:
        action = audit.Action.MEMBER_ADD if before is None else audit.Action.MEMBER_ROLE
    detail: dict[str, Any] = {"organization": organization.name, "before": before or "", "after": after or ""}
    detail |= {"invited_by": invited_by} if invited_by else {}
    detail |= {"ended": list(ended)} if ended else {}
    events = audit.record(by, action, person=user, organizations=[organization.pk], detail=detail)
    if after == OrganizationRole.OWNER:
        tasks.after_commit(tasks.tell_of_owner, organization.pk, user.pk, invited_by or by.label)
    return events[-1]


def invite(by: Actor, organization: Organization, email: str, role: OrganizationRole) -> Invitation:
    """Invite the holder of a mail address to the organization; they belong to it when they accept.

    Nothing depends on whether the address has an account, so that no owner learns it. The caller sends the mail
    (``tasks.request_invitation``). An open invitation of the address is replaced, and its link ends. Raises Refusal.
    """
    _check_email(email)
    email = email.lower()
    with transaction.atomic():
        Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
        if OrganizationMembership.objects.filter(organization=organization, user__email=email).exists():
            raise Refusal(_("%(email)s is here already: change the role in the list.") % {"email": email})
        _check_invitations(organization, email)
        invitation, _created = Invitation.objects.update_or_create(
            organization=organization,
            email=email,
            defaults={
                "role": role,
                "invited_by": by.label[:254],
                "token_hash": "",
                "expires_at": timezone.now() + INVITATION_LIFETIME,
            },
        )
        _record_invitation(by, audit.Action.INVITATION_SEND, invitation)
    return invitation


def _check_invitations(organization: Organization, email: str) -> None:
    """Raises Refusal when the organization has sent many lately, or many are open."""
    since = timezone.now() - timedelta(hours=1)
    sent = audit.of_organization(organization, action=audit.Action.INVITATION_SEND, since=since)
    if sent.count() >= INVITATIONS_AN_HOUR:
        raise Refusal(_("Too many invitations. Try again in an hour."))
    if Invitation.objects.filter(organization=organization).exclude(email=email).count() >= INVITATIONS_OPEN:
        raise Refusal(_("Many invitations are open. Withdraw some first."))


def find_invitation(token: str) -> Invitation | None:
    """The open invitation with this token, None when it has ended."""
    found = Invitation.objects.filter(token_hash__in=list(keys.possible_hashes(token)))
    return found.filter(expires_at__gt=timezone.now()).select_related("organization").first()


def accept(by: Actor, invitation: Invitation, user: User) -> None:
    """Make the invited person a member. Raises Refusal when the invitation has ended, or is for another address."""
    with transaction.atomic():
        locked = Invitation.objects.select_for_update().filter(pk=invitation.pk, expires_at__gt=timezone.now()).first()
        if locked is None or not user.is_active or user.email != locked.email:
            raise Refusal(_("this invitation has ended, or is for another e-mail address"))
        role = OrganizationRole(locked.role)
        add_user(invitation.organization, user.email, role=role, by=by, invited_by=locked.invited_by)
        locked.delete()


def needs_password(email: str) -> bool:
    """Whether the holder of the address cannot sign in yet: they have no account, or an account without a password."""
    user = User.objects.people().filter(email=email).first()
    return user is None or (user.is_active and not user.has_usable_password())


def join(by: Actor, invitation: Invitation, *, name: str, password: str) -> User:
    """Accept an invitation for a person who cannot sign in yet: their account gets this name and password.

    Raises Refusal, also for those who can sign in: an invitation is no way around their password. Raises
    passwords.Busy.
    """
    check_display_name(name)
    hashed = passwords.hashed(invitation.email, password)
    with transaction.atomic():
        user, _created = User.objects.get_or_create(email=invitation.email)
        locked = User.objects.select_for_update().get(pk=user.pk)
        if locked.has_usable_password() and locked.password:
            raise Refusal(_("sign in first, then open the link again"))
        locked.name = name or locked.name
        locked.password = hashed
        locked.save(update_fields=["name", "password"])
        accept(by, invitation, locked)
        audit.record(by, audit.Action.PASSWORD_RESET, person=locked)
    return locked


def decline(by: Actor, invitation: Invitation) -> None:
    """End an invitation, as its receiver."""
    _end_invitation(by, audit.Action.INVITATION_DECLINE, invitation)


def withdraw(by: Actor, invitation: Invitation) -> None:
    """End an invitation, as an owner."""
    _end_invitation(by, audit.Action.INVITATION_WITHDRAW, invitation)


def _end_invitation(by: Actor, action: audit.Action, invitation: Invitation) -> None:
    with transaction.atomic():
        if Invitation.objects.filter(pk=invitation.pk).delete()[0]:
            _record_invitation(by, action, invitation)


def _record_invitation(by: Actor, action: audit.Action, invitation: Invitation) -> None:
    """Only the organization's log has it: whether the address has an account must not tell."""
    organization = invitation.organization
    detail = {"organization": organization.name, "after": invitation.role}
    audit.record(by, action, subject=invitation.email, organizations=[organization.pk], detail=detail)


def belongs(user: User, organization: Organization, *, lock: bool = False) -> bool:
    """Whether the user is in the organization. ``lock`` keeps them in it until the transaction ends.

    A service account belongs to its organization until it is deleted.
    """
    if user.is_service:
        alive = User.objects.filter(pk=user.pk, organization=organization, deleted_at=None)
        return (alive.select_for_update(no_key=True) if lock else alive).first() is not None
    found = OrganizationMembership.objects.filter(user=user, organization=organization)
    return (found.select_for_update(no_key=True) if lock else found).first() is not None


def deactivate(by: Actor, user: User) -> bool:
    """Shut a user out until they are activated again; False when they are already.

    Their sessions end. Access keys, refresh tokens and tokens fail at their next request; those that are not revoked
    meanwhile work again after ``activate``. Roles are kept.
    """
    return _set_active(by, user, audit.Action.USER_DEACTIVATE, is_active=False)


def activate(by: Actor, user: User) -> bool:
    """Let a user in again, with the keys and roles that they had; False when they are active already."""
    return _set_active(by, user, audit.Action.USER_ACTIVATE, is_active=True)


def set_operator(by: Actor, user: User, *, is_operator: bool) -> bool:
    """Make the user an operator of the installation, or no operator; False when nothing changes.

    Operators see the connection doctor. They have no other right by that. Raises Refusal for a service account.
    """
    if user.is_service:
        raise Refusal(f"{user} is a service account and cannot sign in")
    with transaction.atomic():
        if not User.objects.filter(pk=user.pk, is_superuser=not is_operator).update(is_superuser=is_operator):
            return False
        audit.record(by, audit.Action.USER_OPERATOR, person=user, detail={"after": is_operator})
    user.is_superuser = is_operator
    return True


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
    """Find an access key by its ID. Raises Refusal."""
    key = AccessKey.objects.select_related("user", "project").filter(identifier=identifier).first()
    if key is None:
        raise Refusal(f"there is no access key {identifier}")
    return key


def revoke_key(by: Actor, key: AccessKey) -> bool:
    """End another person's key at once, and tell its holder by mail; False when it was revoked already."""
    with transaction.atomic():
        if not keys.revoke(key, by=by):
            return False
        tasks.after_commit(tasks.tell_of_revoked_key, key.pk, by.label)
    return True


def restore_key(by: Actor, key: AccessKey) -> None:
    """Undo the revocation of another person's key (``keys.restore``), and tell its holder by mail. Raises Refusal."""
    with transaction.atomic():
        keys.restore(key, by=by)
        tasks.after_commit(tasks.tell_of_restored_key, key.pk, by.label)
