"""E-mail: one mail for each recipient, so that each has a link to unsubscribe of their own."""

from __future__ import annotations

import hashlib
import re
import smtplib
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import EmailMultiAlternatives, get_connection
from django.core.validators import validate_email
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import zones
from accounts.models import User
from registry.models import Severity
from scanning.notifications import recipients, words

from .base import LOGGED_REQUEST, Channel, Outcome, WrongAddress

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import timedelta

    from scanning.models import Delivery, Subscription

MAX_RECIPIENTS = 20
LOGGED_ANSWER = 4 * 1024  # characters of a mail server's answers
SHOWN_RECIPIENTS = 2
SHOWN_IMAGES = 10
SHOWN_FINDINGS = 15  # of one image; each of many images gets its share

# Background and text colour of a severity. Mails cannot use the console's style sheet.
COLOURS = {
    "critical": ("#8a1425", "#ffffff"),
    "high": ("#c2410c", "#ffffff"),
    "medium": ("#f2b544", "#3a2600"),
    "low": ("#bfd8ef", "#12344d"),
    "unknown": ("#d9d9e0", "#33333f"),
}


class Mail(Channel):
    """E-mail addresses. Addresses outside the organization must agree first (``recipients``)."""

    kind = "mail"
    label = gettext_lazy("E-mail")
    icon = "mail"
    has_recipients = True

    # ── For the console ──────────────────────────────────────────────────────────────────────────────────────────────
    def fields(self, current: Subscription | None) -> dict[str, forms.Field]:
        """The addresses, one a line."""
        return {
            "recipients": forms.CharField(
                label=gettext_lazy("Recipients"),
                max_length=5_500,
                initial="\n".join(current.recipients) if current else "",
                widget=forms.Textarea({"rows": 3, "spellcheck": "false", "autocapitalize": "none"}),
                help_text=gettext_lazy(
                    "E-mail addresses, one a line. Each mail has a link to unsubscribe. Addresses outside the "
                    "organization are asked first whether they agree."
                ),
            )
        }

    def columns(self, typed: Mapping[str, Any], current: Subscription | None = None) -> dict[str, Any]:
        """The addresses; the text separates them by line ends, commas or semicolons. Raises WrongAddress."""
        lines = (line.strip() for line in re.split(r"[\n,;]", typed["recipients"]))
        found = list(dict.fromkeys(line for line in lines if line))
        if not found:
            raise WrongAddress(_("Give at least one e-mail address."))
        if len(found) > MAX_RECIPIENTS:
            limit = _("At most %(count)s recipients: use the address of a group.")
            raise WrongAddress(limit % {"count": MAX_RECIPIENTS})
        for address in found:
            try:
                validate_email(address)
            except ValidationError:
                raise WrongAddress(_("“%(address)s” is not an e-mail address.") % {"address": address}) from None
        return {"recipients": found}

    def is_ready(self, subscription: Subscription) -> bool:
        """Whether a recipient is left."""
        return bool(subscription.recipients)

    def target(self, subscription: Subscription) -> str:
        """The first addresses, and how many more there are."""
        if not subscription.recipients:
            return _("no recipient left")
        shown = ", ".join(subscription.recipients[:SHOWN_RECIPIENTS])
        more = len(subscription.recipients) - SHOWN_RECIPIENTS
        return f"{shown} +{more}" if more > 0 else shown

    def audited(self, subscription: Subscription) -> dict[str, Any]:
        """All addresses."""
        return {"recipients": list(subscription.recipients)}

    # ── Sending ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def send(self, delivery: Delivery) -> Iterator[Outcome]:
        """Send a mail to each recipient who has agreed. Yields ``left`` after each mail that the server accepts."""
        wanted, log = _willing(delivery)
        if not wanted:
            problem = "no recipient has agreed to get mails yet" if log else "no recipient is left to send to"
            yield Outcome(is_final=True, problem=problem, response="\n".join(log)[:LOGGED_ANSWER])
            return
        problems, left, request, pause = list[tuple[str, bool]](), list(wanted), "", None
        connection = get_connection()
        try:
            connection.open()
            for address in wanted:
                if pause := recipients.reserve(delivery.subscription.project):
                    problems.append((f"the project has sent {recipients.MAILS_PER_HOUR} mails this hour", False))
                    break
                made = mail(delivery, address, connection)
                request = request or _logged(made, wanted)
                try:
                    made.send()
                except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError) as error:  # go on with the next one
                    problem, is_final = _problem(error)
                    problems.append((f"{address}: {problem}", is_final))
                    log.append(f"{address}: {problem}")
                    continue
                log.append(f"{address}: accepted")
                left.remove(address)
                yield Outcome(left=tuple(left))
        except OSError as error:  # SMTPException is a subclass
            problems.append(_problem(error))
        finally:
            _close(connection)
        yield _outcome(problems, left, pause, request, log)


def _outcome(
    problems: list[tuple[str, bool]], left: list[str], pause: timedelta | None, request: str, log: list[str]
) -> Outcome:
    return Outcome(
        is_sent=not left,
        is_final=all(is_final for _problem, is_final in problems),
        problem="; ".join(problem for problem, _is_final in problems),
        retry_after=pause,
        request=request,
        response="\n".join(log)[:LOGGED_ANSWER],
    )


def _willing(delivery: Delivery) -> tuple[list[str], list[str]]:
    """The recipients who may be mailed, and a line of the log for each who has not agreed."""
    named = [address for address in delivery.recipients if address in delivery.subscription.recipients]
    allowed = recipients.allowed(delivery.subscription.project, named)
    log = [f"{address}: has not agreed to get mails" for address in named if address not in allowed]
    return [address for address in named if address in allowed], log


class _Message(EmailMultiAlternatives):
    """A mail with unfolded headers: some mail programs do not join a List-Unsubscribe header that spans lines."""

    def __init__(self, *args: Any, link: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.link = link

    def message(self, **options: Any) -> Any:
        """The mail as it is sent."""
        made: Any = super().message(**options)
        made.policy = made.policy.clone(max_line_length=998)
        return made


def mail(delivery: Delivery, address: str, connection: Any = None) -> _Message:
    """The mail for one recipient, in the active language and the recipient's time zone (UTC if it is no user's)."""
    user = User.objects.people().filter(email=address.lower()).first()
    with timezone.override(zones.of_user(user) if user else zones.UTC):
        return _mail(delivery, address, connection)


def _mail(delivery: Delivery, address: str, connection: Any) -> _Message:
    link = recipients.unsubscribe_link(delivery.subscription_id, address)
    context = _context(delivery.content) | {"unsubscribe": link}
    number = hashlib.sha256(f"{delivery.pk} {address}".encode()).hexdigest()[:24]
    made = _Message(
        words.headline(delivery.content),
        render_to_string("mail/notification.txt", context),
        to=[address],
        connection=connection,
        link=link,
        headers={
            "List-Unsubscribe": f"<{link}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",  # RFC 8058
            "Auto-Submitted": "auto-generated",
            # The same in each attempt, so that a mail program shows a mail once that arrives twice.
            "Message-ID": f"<kcr.{delivery.pk}.{number}@{settings.PUBLIC.hostname}>",
        },
    )
    made.attach_alternative(render_to_string("mail/notification.html", context), "text/html")
    return made


def _logged(made: _Message, wanted: list[str]) -> str:
    """The mail for the log: without the link, which would let a reader of the log unsubscribe the recipient."""
    text = str(made.body).replace(made.link, "(not shown)")
    head = f"From: {settings.DEFAULT_FROM_EMAIL}\nTo: {', '.join(wanted)}\nSubject: {made.subject}"
    return f"{head}\n\n{text}"[:LOGGED_REQUEST]


def _context(content: Mapping[str, Any]) -> dict[str, Any]:
    totals = content["totals"]
    of_each = max(3, SHOWN_FINDINGS // max(1, len(content["images"])))
    images = [_image_context(image, of_each) for image in content["images"][:SHOWN_IMAGES]]
    counts = totals["new_counts"] if totals["new"] else totals["counts"]
    found = sum(totals["counts"].values())
    facts = [_("%(count)s in all") % {"count": found}] if totals["new"] not in {0, found} else []
    if totals["fixable"]:
        facts.append(_("%(count)s can be fixed by an update") % {"count": totals["fixable"]})
    return {
        "subject": words.headline(content),
        "content": content,
        "about": words.subject(content),
        "least": Severity[content["least"].upper()].and_above,
        "found": found,
        "facts": facts + _changes(totals),
        "images": images,
        "more_images": max(0, totals["images"] - len(images)),
        "segments": _segments(counts),
        "summary": words.counts(counts),
        "url": settings.PUBLIC_URL,
    }


def _image_context(image: dict[str, Any], limit: int) -> dict[str, Any]:
    shown = image["new"][:limit]
    return image | {
        "shown": [finding | _badge(finding["severity"]) for finding in shown],
        "more": max(0, image["new_total"] - len(shown)),
        "scanned": datetime.fromisoformat(image["scanned_at"]) if image.get("scanned_at") else None,
        "facts": [each for each in (words.counts(image["counts"]), *_changes(image), *words.limits_of(image)) if each],
    }


def _changes(numbers: Mapping[str, Any]) -> list[str]:
    """How many findings were fixed or accepted, in words; without zeros."""
    texts = {"fixed": _("%(count)s fixed"), "accepted": _("%(count)s accepted")}
    return [text % {"count": numbers[name]} for name, text in texts.items() if numbers[name]]


def _segments(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """The bar of severities: colours, number, and width in percent."""
    width = 100 // max(1, len(counts))
    return [_badge(name) | {"number": number, "width": width} for name, number in counts.items() if number]


def _badge(severity: str) -> dict[str, str]:
    """Word and colours of a severity."""
    ground, ink = COLOURS.get(severity, COLOURS["unknown"])
    return {"word": words.severity(severity), "ground": ground, "ink": ink}


def _problem(error: OSError) -> tuple[str, bool]:
    """What the mail server said, and whether another attempt would fail, too."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, said = next(iter(error.recipients.values()))
        return f"refused: {code} {_text(said)}", code >= 500
    if isinstance(error, smtplib.SMTPResponseException):
        is_lasting = not isinstance(error, smtplib.SMTPAuthenticationError | smtplib.SMTPConnectError)
        problem = f"the mail server said {error.smtp_code} {_text(error.smtp_error)}"
        return problem, is_lasting and error.smtp_code >= 500
    if isinstance(error, smtplib.SMTPException):
        return f"the mail server broke off: {type(error).__name__}", False
    return f"the mail server cannot be reached: {error.strerror or type(error).__name__}", False


def _text(said: bytes | str) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return " ".join(text.split())[:200]


def _close(connection: Any) -> None:
    """End the session with the mail server. Errors do not matter: all mails are sent or failed already."""
    try:
        connection.close()
    except OSError:
        connection.connection = None
