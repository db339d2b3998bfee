"""What accounts does in the background: mails, and what is due by the clock.

A request does not wait for a mail server. So the time of its answer does not tell whether an address has an account.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from functools import partial
from typing import Any

from celery import shared_task
from django.db import transaction
from django.db.models import Case, F, Q, When
from django.utils import timezone
from kombu.exceptions import OperationalError

from . import audit, federation, guesses, issuers, mails, redis, tokens
from .keys import hash_secret, new_secret
from .models import (
    AccessKey,
    Invitation,
    OrganizationMembership,
    OrganizationRole,
    ProjectMembership,
    ProjectRole,
    User,
    UserKind,
)
from .sessions import SessionStore

logger = logging.getLogger(__name__)

INVITATION_PREFIX = "kcri_"
BETWEEN_LINKS = timedelta(minutes=1)
LINKS, LINKS_PAUSE = 5, timedelta(hours=6)  # so many links in a row to an address, then none for a while
WARN_BEFORE = (timedelta(days=7), timedelta(days=1))
WARN_CONTACTS_BEFORE = (timedelta(days=14), timedelta(days=3), timedelta(days=1))  # of service accounts


def after_commit(task: Any, *arguments: Any) -> None:
    """Queue a task that sends a mail when the transaction is committed. Without a broker the log says it is lost."""
    transaction.on_commit(partial(_queue, task, *arguments))


def _queue(task: Any, *arguments: Any) -> bool:
    try:
        with redis.shared.attempt():
            task.delay(*arguments)
    except OperationalError as error:
        logger.error("no mail could be queued: %s", error)
        return False
    return True


def request_password_link(email: str) -> bool:
    """Queue a link for the user of this address, if there is one; False when the broker does not answer."""
    return _queue(send_password_link, email)


@shared_task(autoretry_for=(OSError,), retry_backoff=30, max_retries=5)
def send_password_link(email: str) -> bool:
    """Send the link, once a minute at most; False when there is no such user, or enough links were sent lately."""
    now = timezone.now()
    rested = Q(reset_sent_at=None) | Q(reset_sent_at__lt=now - LINKS_PAUSE)
    free = rested | Q(reset_sent_at__lt=now - BETWEEN_LINKS, resets_sent__lt=LINKS)
    found = User.objects.people().filter(free, email=email.lower(), is_active=True)
    user = found.first()
    number = Case(When(rested, then=1), default=F("resets_sent") + 1)
    if user is None or not found.update(reset_sent_at=now, resets_sent=number):
        return False
    try:
        mails.send_password_link(user)
    except OSError:
        User.objects.filter(pk=user.pk).update(reset_sent_at=None)
        raise
    return True


def request_invitation(invitation: Invitation) -> bool:
    """Queue the mail of an invitation; False when the broker does not answer."""
    return _queue(send_invitation, invitation.pk)


@shared_task(autoretry_for=(OSError,), retry_backoff=30, max_retries=5)
def send_invitation(pk: int) -> bool:
    """Make the link of an invitation, and send it; False when there is none, or its link has been made already."""
    unsent = Invitation.objects.filter(pk=pk, token_hash="")
    invitation = unsent.select_related("organization").first()
    token = new_secret(INVITATION_PREFIX)
    if invitation is None or not unsent.update(token_hash=hash_secret(token)):
        return False
    try:
        mails.send_invitation(invitation, token)
    except OSError:
        Invitation.objects.filter(pk=pk, token_hash=hash_secret(token)).update(token_hash="")
        raise
    return True


@shared_task(autoretry_for=(OSError,), retry_backoff=30, max_retries=5)
def tell_of_revoked_key(pk: int, by: str) -> bool:
    """Tell the holder of a key that another person revoked it; False when there is no such key."""
    key = _key_of_active(pk)
    if key is None:
        return False
    mails.send_revoked_key(key, by)
    return True


@shared_task(autoretry_for=(OSError,), retry_backoff=30, max_retries=5)
def tell_of_restored_key(pk: int, by: str) -> bool:
    """Tell the holder of a key that its revocation was undone; False when there is no such key."""
    key = _key_of_active(pk)
    if key is None:
        return False
    mails.send_restored_key(key, by)
    return True


def _key_of_active(pk: int) -> AccessKey | None:
    held = AccessKey.objects.filter(pk=pk, user__in=User.objects.people(), user__is_active=True)
    return held.select_related("user").first()


@shared_task
def tell_of_owner(organization: int, user: int, by: str) -> int:
    """Tell the other owners of an organization that a person was made an owner; returns how many mails."""
    owners = OrganizationMembership.objects.filter(organization=organization, role=OrganizationRole.OWNER)
    new = owners.filter(user=user).select_related("user", "organization").first()
    if new is None:
        return 0
    sent = 0
    for owner in owners.filter(user__is_active=True).exclude(user=user).select_related("user"):
        try:
            mails.send_new_owner(owner.user, new, by)
        except OSError:  # the other owners get their mail
            logger.exception("an owner of organization %s could not be told of a new one", organization)
        else:
            sent += 1
    return sent


@shared_task
def warn_of_expiry() -> int:
    """Mail the holders of keys that end soon, the contacts for keys of service accounts; returns how many mails.

    Each warning of a key is sent once, the last one that is due.
    """
    sent = 0
    for kind, times in ((UserKind.PERSON, WARN_BEFORE), (UserKind.SERVICE, WARN_CONTACTS_BEFORE)):
        for number, before in reversed(list(enumerate(times, 1))):
            due = AccessKey.objects.alive().lasting().filter(user__kind=kind, warnings_sent__lt=number)
            due = due.filter(expires_at__lte=timezone.now() + before)
            for pk in list(due.values_list("pk", flat=True)):
                sent += _warn(pk, number)
    return sent


def _warn(pk: int, number: int) -> int:
    """Count the warning and send it; returns how many mails. One that reaches no person is sent at the next run."""
    counted = AccessKey.objects.filter(pk=pk, warnings_sent__lt=number)
    key = counted.select_related("user__organization", "user__project").first()
    if key is None or not counted.update(warnings_sent=number):
        return 0
    people = contacts_of(key.user) if key.user.is_service else [key.user]
    sent = sum(_warn_person(key, person) for person in people)
    if people and not sent:
        AccessKey.objects.filter(pk=pk).update(warnings_sent=key.warnings_sent)
    return sent


def _warn_person(key: AccessKey, person: User) -> bool:
    try:
        mails.send_expiry_warning(key, person)
    except (OSError, ValueError):  # a wrong address or name must not keep other people from being warned
        logger.exception("%s could not be warned of the end of key %s", person, key.identifier)
        return False
    return True


def contacts_of(account: User) -> list[User]:
    """The people who hear of a service account: its contacts, else the admins of its project, else the owners.

    A contact who is no active member of the organization any more does not count.
    """
    people = User.objects.people().filter(
        is_active=True, organization_memberships__organization=account.organization_id
    )
    memberships = OrganizationMembership.objects.filter(organization=account.organization_id)
    owners = memberships.filter(role=OrganizationRole.OWNER).values("user")
    admins = ProjectMembership.objects.filter(project=account.project_id, role=ProjectRole.ADMIN).values("user")
    wanted = (
        [account.contacts.values("pk"), admins, owners]
        if account.project_id
        else [account.contacts.values("pk"), owners]
    )
    for each in wanted:
        if found := list(people.filter(pk__in=each).order_by("email")):
            return found
    return []


@shared_task
def forget_expired() -> int:
    """Delete sessions, invitations, refresh tokens and failed sign-ins whose time is over; returns how many rows.

    Sessions are not counted.
    """
    SessionStore.clear_expired()
    invitations, _ = Invitation.objects.filter(expires_at__lte=timezone.now()).delete()
    return invitations + tokens.forget_expired() + guesses.forget()


@shared_task
def prune_audit_log() -> int:
    """Delete events of the audit log, and sessions of CI, that are older than KCR_HISTORY_DAYS; returns how many."""
    return audit.prune() + federation.forget()


@shared_task
def refresh_issuers() -> int:
    """Fetch the keys of issuers of ID tokens that are due; returns how many."""
    return issuers.refresh_due()


@shared_task
def rotate_signing_key() -> bool:
    """Make a new signing key once a month; returns whether one was made."""
    rotated = tokens.rotate_signing_key(only_if_due=True)
    if rotated:
        logger.info("tokens are signed with a new key")
    return rotated
