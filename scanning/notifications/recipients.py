"""Who may get notification mails: members of the organization, and other addresses after they agree.

An address outside the organization first gets one mail with a link, and no other mail until its reader agrees on that
page. The answer is valid for all notifications of the project, until the address unsubscribes.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core import signing
from django.core.mail import EmailMultiAlternatives
from django.db.models import F
from django.template.loader import render_to_string
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from accounts.errors import Refusal
from accounts.models import User
from scanning import pages
from scanning.models import MailHour, Recipient

if TYPE_CHECKING:
    from collections.abc import Iterable

    from accounts.models import Project

MAILS_PER_HOUR = 500  # of a project
QUESTIONS = 3  # to an address, for one project
QUESTIONS_PER_DAY = 3  # to an address, for all projects
BETWEEN_QUESTIONS = timedelta(days=1)
RETRY = timedelta(minutes=10)
ANSWERED_WITHIN = timedelta(days=14)
AT_ONCE = 100
CONFIRM_SALT = "kcr.notices.confirm"
UNSUBSCRIBE_SALT = "kcr.notices.unsubscribe"


class State(StrEnum):
    """MEMBER and CONFIRMED get mails; ASKED and DECLINED do not."""

    MEMBER = "member"
    CONFIRMED = "confirmed"
    ASKED = "asked"
    DECLINED = "declined"


@dataclass(frozen=True, slots=True)
class Known:
    """An address of a subscription. ``asked_at``: when the last question was sent, None before the first."""

    address: str
    state: State
    asked_at: datetime | None = None
    may_ask_again: bool = False


def known(project: Project, addresses: Iterable[str]) -> list[Known]:
    """The state of each address, in their order. Two queries."""
    wanted = list(addresses)
    members, rows = _members(project, wanted), _rows(project, wanted)
    return [_known(address, members, rows) for address in wanted]


def allowed(project: Project, addresses: Iterable[str]) -> set[str]:
    """The addresses that may get mails."""
    return {each.address for each in known(project, addresses) if each.state in {State.MEMBER, State.CONFIRMED}}


def ask(project: Project, addresses: Iterable[str], language: str) -> None:
    """Queue a question to each address that must agree and was never asked. Call it inside a transaction."""
    now = timezone.now()
    new = [
        Recipient(project=project, address=each.address.lower(), language=language, due_at=now)
        for each in known(project, addresses)
        if each.state == State.ASKED
    ]
    Recipient.objects.bulk_create(new, ignore_conflicts=True)


def ask_again(project: Project, address: str) -> None:
    """Queue another question. Raises Refusal within BETWEEN_QUESTIONS, after QUESTIONS, and after an answer."""
    found = Recipient.objects.filter(project=project, address=address.lower()).first()
    if found is None or not _may_ask_again(found):
        raise Refusal(_("This address was asked recently, or often enough, or has declined."))
    Recipient.objects.filter(pk=found.pk, mails=found.mails, due_at=None).update(due_at=timezone.now())


def withdraw(project: Project, address: str) -> None:
    """Cancel the address's agreement: it must agree again before it gets another mail of the project."""
    Recipient.objects.filter(project=project, address=address.lower()).update(confirmed_at=None, due_at=None)


def reserve(project: Project) -> timedelta | None:
    """Count one mail of the project. If MAILS_PER_HOUR are used up, count nothing and return how long to wait."""
    now = timezone.now()
    hour = now.replace(minute=0, second=0, microsecond=0)
    MailHour.objects.get_or_create(project=project, hour=hour)
    if MailHour.objects.filter(project=project, hour=hour, mails__lt=MAILS_PER_HOUR).update(mails=F("mails") + 1):
        return None
    return hour + timedelta(hours=1) - now


def forget() -> None:
    """Delete the counts of past days."""
    MailHour.objects.filter(hour__lt=timezone.now() - timedelta(days=1)).delete()


# ── The question ─────────────────────────────────────────────────────────────────────────────────────────────────────
def send_due() -> int:
    """Send the questions that are due; returns how many. Safe in several workers at once: each claims a row first."""
    now = timezone.now()
    due = Recipient.objects.filter(due_at__lte=now).order_by("due_at").select_related("project")
    sent = 0
    for row in list(due[:AT_ONCE]):
        claimed = Recipient.objects.filter(pk=row.pk, due_at=row.due_at)
        if _was_asked_enough(row, now):
            claimed.update(due_at=None)
        elif (wait := reserve(row.project)) is not None:
            claimed.update(due_at=now + wait)
        elif claimed.update(due_at=now + RETRY, mails=F("mails") + 1, asked_at=now):
            sent += _send(row)
    return sent


def _was_asked_enough(row: Recipient, now: datetime) -> bool:
    lately = Recipient.objects.filter(address=row.address, asked_at__gt=now - timedelta(days=1))
    is_answered = row.confirmed_at or row.declined_at
    return bool(is_answered) or row.mails >= QUESTIONS or lately.exclude(pk=row.pk).count() >= QUESTIONS_PER_DAY


def _send(row: Recipient) -> bool:
    """Send the question. A failure counts as a question, and is retried after RETRY."""
    with translation.override(row.language):
        subject = _("Do you want notifications about %(project)s?") % {"project": row.project.name}
        context: dict[str, Any] = {
            "subject": subject,
            "project": row.project.name,
            "address": row.address,
            "link": link(row),
            "url": settings.PUBLIC_URL,
        }
        mail = EmailMultiAlternatives(
            subject,
            render_to_string("mail/confirm.txt", context),
            to=[row.address],
            headers={"Auto-Submitted": "auto-generated"},
        )
        mail.attach_alternative(render_to_string("mail/confirm.html", context), "text/html")
        try:
            mail.send()
        except (OSError, ValueError):  # SMTPException is an OSError
            return False
    Recipient.objects.filter(pk=row.pk).update(due_at=None)
    return True


def link(row: Recipient) -> str:
    """The page on which the address agrees or declines."""
    return pages.confirm(signing.dumps([row.pk, row.address], salt=CONFIRM_SALT))


def read(token: str) -> Recipient | None:
    """The recipient of a link; None if the link is not ours, or is older than ANSWERED_WITHIN."""
    try:
        pk, address = signing.loads(token, salt=CONFIRM_SALT, max_age=ANSWERED_WITHIN)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    return Recipient.objects.filter(pk=pk, address=address).select_related("project").first()


def answer(row: Recipient, *, agrees: bool) -> None:
    """Store the answer. An address that declines is not asked for this project again."""
    now = timezone.now()
    said = {"confirmed_at": now if agrees else None, "declined_at": None if agrees else now}
    Recipient.objects.filter(pk=row.pk).update(**said, due_at=None)


# ── Unsubscribe links ────────────────────────────────────────────────────────────────────────────────────────────────
def unsubscribe_link(subscription_id: int, address: str) -> str:
    """The page on which this address leaves this subscription. The signature is its only proof."""
    return pages.unsubscribe(signing.dumps([subscription_id, address], salt=UNSUBSCRIBE_SALT))


def read_unsubscribe_token(token: str) -> tuple[int, str] | None:
    """The id of the subscription and the address; None if the signature is not ours."""
    try:
        pk, address = signing.loads(token, salt=UNSUBSCRIBE_SALT)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    return pk, address


# ── Inside ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def _members(project: Project, addresses: list[str]) -> set[str]:
    people = User.objects.people().filter(
        organization_memberships__organization=project.organization_id,
        email__in={address.lower() for address in addresses},
        is_active=True,
    )
    return set(people.values_list("email", flat=True))


def _rows(project: Project, addresses: list[str]) -> dict[str, Recipient]:
    wanted = {address.lower() for address in addresses}
    return {row.address: row for row in Recipient.objects.filter(project=project, address__in=wanted)}


def _known(address: str, members: set[str], rows: dict[str, Recipient]) -> Known:
    row = rows.get(address.lower())
    if address.lower() in members:
        return Known(address, State.MEMBER)
    if row is None:
        return Known(address, State.ASKED)
    if row.confirmed_at:
        return Known(address, State.CONFIRMED, row.asked_at)
    state = State.DECLINED if row.declined_at else State.ASKED
    return Known(address, state, row.asked_at, _may_ask_again(row))


def _may_ask_again(row: Recipient) -> bool:
    is_open = row.confirmed_at is None and row.declined_at is None and row.due_at is None
    is_late = row.asked_at is None or row.asked_at < timezone.now() - BETWEEN_QUESTIONS
    return is_open and is_late and row.mails < QUESTIONS
