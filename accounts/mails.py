"""Mails about accounts, in HTML and text, in the language of the receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.utils import timezone, translation
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from django.utils.translation import gettext as _

from . import zones
from .models import User

if TYPE_CHECKING:
    from .models import AccessKey, Invitation, OrganizationMembership


def send(user: User, subject: str, template: str, **context: Any) -> None:
    """Send ``mail/<template>.txt`` and ``.html`` to a person. Raises OSError (SMTPException is one)."""
    assert not user.is_service, f"{user} has no mailbox"
    _send(user.email, subject, template, context | {"user": user})


def _send(address: str, subject: str, template: str, context: dict[str, Any]) -> None:
    subject = " ".join(subject.split())  # a name in it may have lines
    context |= {"subject": subject, "url": settings.PUBLIC_URL}
    mail = EmailMultiAlternatives(subject, render_to_string(f"mail/{template}.txt", context), to=[address])
    mail.attach_alternative(render_to_string(f"mail/{template}.html", context), "text/html")
    mail.send()


def send_password_link(user: User) -> None:
    """A link with which the user sets a new password; it works once, for a day."""
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    link = f"{settings.PUBLIC_URL}/password/new/{uid}/{default_token_generator.make_token(user)}"
    with translation.override(user.language or None):
        send(user, _("Set a new password for KCR"), "password", link=link)


def send_invitation(invitation: Invitation, token: str) -> None:
    """A link to join an organization, to an address with or without an account; in its language or the inviter's."""
    link = f"{settings.PUBLIC_URL}/invitations/{token}"
    known = User.objects.people().filter(email__in=[invitation.email, invitation.invited_by]).exclude(language="")
    languages = dict(known.values_list("email", "language"))
    with translation.override(languages.get(invitation.email) or languages.get(invitation.invited_by)):
        subject = _("Invitation to %(organization)s in KCR") % {"organization": invitation.organization}
        _send(invitation.email, subject, "invitation", {"invitation": invitation, "link": link})


def send_expiry_warning(key: AccessKey, person: User) -> None:
    """The key ends soon: make another one in time. ``person``: its holder, or a contact of its service account."""
    with translation.override(person.language or None), timezone.override(zones.of_user(person)):
        said = {"name": key.name, "account": key.user.email}
        if person.pk == key.user_id:
            send(person, _("Your access key “%(name)s” expires soon") % said, "key_expiry", key=key)
        else:
            subject = _("The access key “%(name)s” of %(account)s expires soon") % said
            send(person, subject, "service_key_expiry", key=key, page=_page_of(key.user))


def _page_of(account: User) -> str:
    """The address of a service account's page in the console."""
    assert account.organization is not None
    project = account.project
    home = f"projects/{project.name}" if project else f"organizations/{account.organization.name}"
    return f"{settings.PUBLIC_URL}/{home}/service-accounts/{account.name}"


def send_revoked_key(key: AccessKey, by: str) -> None:
    """Another person revoked the key. Logins with it fail."""
    with translation.override(key.user.language or None):
        subject = _("Your access key “%(name)s” has been revoked") % {"name": key.name}
        send(key.user, subject, "key_revoked", key=key, by=by)


def send_restored_key(key: AccessKey, by: str) -> None:
    """The revocation of the key was undone. It works again."""
    with translation.override(key.user.language or None):
        subject = _("Your access key “%(name)s” works again") % {"name": key.name}
        send(key.user, subject, "key_restored", key=key, by=by)


def send_new_owner(owner: User, new: OrganizationMembership, by: str) -> None:
    """Another owner of the organization has been made."""
    said = {"new": new.user.email, "organization": new.organization.name, "by": by}
    with translation.override(owner.language or None):
        subject = _("%(new)s is now an owner of %(organization)s") % said
        send(owner, subject, "new_owner", **said)
