"""The three ways to tell somebody: mail, Kakao Work, and a signed webhook; each tries once and says how it went.

What goes over the wire is kept for the log, without what would open a door: paths of addresses, secrets, links to
unsubscribe.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import smtplib
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.mail import EmailMultiAlternatives, get_connection
from django.template.loader import render_to_string
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.organizations import Refused
from scanning.models import Subscription
from scanning.notifications import outbound_http, recipients, subscriptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from scanning.models import Delivery

LOGGED_REQUEST = 16 * 1024
LOGGED_ANSWER = 4 * 1024  # of a mail server's
LOGGED_EXCERPT = 256  # characters of a web server's answer, when it is text
SHOWN_IMAGES = 20  # of a mail
SHOWN_FINDINGS = 50  # of a mail: of one image that many, of many images a few each
RETRIED = frozenset({408, 425, 429})
USER_AGENT = "KCR"

# Ground and ink of a severity, the same by day and by night.
PAINTS = {
    "critical": ("#8a1425", "#ffffff"),
    "high": ("#c2410c", "#ffffff"),
    "medium": ("#f2b544", "#3a2600"),
    "low": ("#bfd8ef", "#12344d"),
    "unknown": ("#d9d9e0", "#33333f"),
}

# What Kakao Work takes (Block Kit): characters of a header, of a text, of a button.
KAKAO_HEADER, KAKAO_TEXT, KAKAO_BUTTON, KAKAO_IMAGES = 20, 500, 20, 5

Channel = Subscription.Channel


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt went. ``is_final``: trying again would not help."""

    is_sent: bool = False
    is_final: bool = False
    problem: str = ""
    retry_after: timedelta | None = None
    request: str = ""
    status: int | None = None
    response: str = ""


def send(delivery: Delivery, keep: Callable[[list[str]], bool]) -> Outcome:
    """Try to send it. ``keep`` is told who has not got a mail yet after each one, and says whether to go on."""
    subscription = delivery.subscription
    with translation.override(subscription.language):
        if subscription.channel == Channel.MAIL:
            return _send_mails(delivery, keep)
        if subscription.channel == Channel.KAKAO_WORK:
            return _send_kakao_work(delivery)
        return _send_webhook(delivery)


# ── Words ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def severity_words(name: str) -> str:
    """A severity in a word."""
    words = {
        "critical": _("Critical"),
        "high": _("High"),
        "medium": _("Medium"),
        "low": _("Low"),
        "unknown": _("Unknown"),
    }
    return words.get(name, name)


def least_words(least: str) -> str:
    """From which severity on."""
    words = {
        "critical": _("Critical only"),
        "high": _("High and above"),
        "medium": _("Medium and above"),
        "low": _("Low and above"),
    }
    return words.get(least, _("All"))


def headline(content: Mapping[str, Any]) -> str:
    """What it is about, in one line."""
    totals, about = content["totals"], _about(content)
    if content["event"] == "test":
        return _("[KCR] Test of the notices of %(about)s") % {"about": about}
    values = {"about": about, "severity": severity_words(totals["worst"]), "count": totals["new"]}
    if totals["new"]:
        words = ngettext(
            "[KCR] %(about)s: %(count)s new vulnerability, worst %(severity)s",
            "[KCR] %(about)s: %(count)s new vulnerabilities, worst %(severity)s",
            totals["new"],
        )
        return words % values
    values["count"] = sum(totals["counts"].values())
    words = ngettext(
        "[KCR] %(about)s: %(count)s vulnerability, worst %(severity)s",
        "[KCR] %(about)s: %(count)s vulnerabilities, worst %(severity)s",
        values["count"],
    )
    return words % values


def _about(content: Mapping[str, Any]) -> str:
    return f"{content['project']}/{content['repository']}" if content["repository"] else str(content["project"])


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{severity_words(name)} {number}" for name, number in counts.items() if number)


# ── Mail ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _send_mails(delivery: Delivery, keep: Callable[[list[str]], bool]) -> Outcome:
    """One mail for each recipient, so that the link to unsubscribe is theirs alone."""
    wanted, log = _willing(delivery)
    if not wanted:
        words = "no recipient has agreed to get mails yet" if log else "nobody is left to send to"
        return Outcome(is_final=True, problem=words, response="\n".join(log)[:LOGGED_ANSWER])
    problems, left, pause = list[tuple[str, bool]](), list(wanted), None
    connection = get_connection()
    try:
        connection.open()
        for address in wanted:
            if pause := recipients.reserve(delivery.subscription.project):
                problems.append((f"the project has sent {recipients.MAILS_PER_HOUR} mails this hour", False))
                break
            try:
                mail(delivery, address, connection).send()
            except (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError) as error:  # the next one may be welcome
                words, is_final = _mail_problem(error)
                problems.append((f"{address}: {words}", is_final))
                log.append(f"{address}: {words}")
                continue
            log.append(f"{address}: accepted")
            left.remove(address)
            if not keep(left):
                break
    except OSError as error:  # SMTPException is one
        problems.append(_mail_problem(error))
    finally:
        _close(connection)
    return Outcome(
        is_sent=not left,
        is_final=all(is_final for _words, is_final in problems),
        problem="; ".join(words for words, _final in problems),
        retry_after=pause,
        request=_logged_mail(delivery, wanted),
        response="\n".join(log)[:LOGGED_ANSWER],
    )


def _willing(delivery: Delivery) -> tuple[list[str], list[str]]:
    """Who is to get it and may be mailed; and a line of the log for each who may not."""
    named = [address for address in delivery.recipients if address in delivery.subscription.recipients]
    allowed = recipients.allowed(delivery.subscription.project, named)
    log = [f"{address}: has not agreed to get mails" for address in named if address not in allowed]
    return [address for address in named if address in allowed], log


class _Mail(EmailMultiAlternatives):
    """A mail whose headers are not folded: programs that look for List-Unsubscribe do not put it together again."""

    def message(self, **options: Any) -> Any:
        """The mail as it is sent."""
        made: Any = super().message(**options)
        made.policy = made.policy.clone(max_line_length=998)
        return made


def mail(delivery: Delivery, address: str, connection: Any = None) -> EmailMultiAlternatives:
    """The mail for one recipient, in the language that is active."""
    link = subscriptions.unsubscribe_url(delivery.subscription_id, address)
    context = _mail_context(delivery, link)
    number = hashlib.sha256(f"{delivery.pk} {address}".encode()).hexdigest()[:24]
    made = _Mail(
        headline(delivery.content),
        render_to_string("mail/notice.txt", context),
        to=[address],
        connection=connection,
        headers={
            "List-Unsubscribe": f"<{link}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
            "Auto-Submitted": "auto-generated",
            # Always the same: a mail that is sent twice by accident is one mail for many clients.
            "Message-ID": f"<kcr.{delivery.pk}.{number}@{settings.PUBLIC.hostname}>",
        },
    )
    made.attach_alternative(render_to_string("mail/notice.html", context), "text/html")
    return made


def _mail_context(delivery: Delivery, link: str) -> dict[str, Any]:
    content = delivery.content
    totals = content["totals"]
    of_each = max(5, SHOWN_FINDINGS // max(1, len(content["images"])))
    images = [_image_context(image, of_each) for image in content["images"][:SHOWN_IMAGES]]
    counts = totals["new_counts"] if totals["new"] else totals["counts"]
    found = sum(totals["counts"].values())
    facts = [_("%(count)s in all") % {"count": found}] if totals["new"] not in {0, found} else []
    if totals["fixable"]:
        facts.append(_("%(count)s can be fixed by an update") % {"count": totals["fixable"]})
    return {
        "subject": headline(content),
        "content": content,
        "about": _about(content),
        "least": least_words(content["least"]),
        "found": found,
        "facts": facts + _changes(totals),
        "images": images,
        "more_images": max(0, totals["images"] - len(images)),
        "segments": _segments(counts),
        "summary": _counts(counts),
        "unsubscribe": link,
        "url": settings.PUBLIC_URL,
    }


def _image_context(image: dict[str, Any], most: int) -> dict[str, Any]:
    shown = image["new"][:most]
    return image | {
        "shown": [finding | _paint(finding["severity"]) for finding in shown],
        "more": max(0, image["new_total"] - len(shown)),
        "facts": [words for words in (_counts(image["counts"]), *_changes(image)) if words],
    }


def _changes(numbers: Mapping[str, Any]) -> list[str]:
    """What is known to be good."""
    words = {"fixed": _("%(count)s fixed"), "accepted": _("%(count)s accepted")}
    return [text % {"count": numbers[name]} for name, text in words.items() if numbers[name]]


def _segments(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    width = 100 // max(1, len(counts))
    return [_paint(name) | {"number": number, "width": width} for name, number in counts.items() if number]


def _paint(severity: str) -> dict[str, str]:
    """Word and colours of a severity: mail clients know no style sheet of ours."""
    ground, ink = PAINTS.get(severity, PAINTS["unknown"])
    return {"word": severity_words(severity), "ground": ground, "ink": ink}


def _mail_problem(error: OSError) -> tuple[str, bool]:
    """What the mail server said, in words; and whether it will say so again."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, said = next(iter(error.recipients.values()))
        return f"refused: {code} {_text(said)}", code >= 500
    if isinstance(error, smtplib.SMTPResponseException):
        lasting = not isinstance(error, smtplib.SMTPAuthenticationError | smtplib.SMTPConnectError)
        return f"the mail server said {error.smtp_code} {_text(error.smtp_error)}", lasting and error.smtp_code >= 500
    if isinstance(error, smtplib.SMTPException):
        return f"the mail server broke off: {type(error).__name__}", False
    return f"the mail server cannot be reached: {error.strerror or type(error).__name__}", False


def _text(said: bytes | str) -> str:
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    return " ".join(text.split())[:200]


def _close(connection: Any) -> None:
    """End the session with the mail server; the next mail opens another one."""
    try:
        connection.close()
    except OSError:
        connection.connection = None


def _logged_mail(delivery: Delivery, recipients: list[str]) -> str:
    text = render_to_string("mail/notice.txt", _mail_context(delivery, ""))
    head = f"From: {settings.DEFAULT_FROM_EMAIL}\nTo: {', '.join(recipients)}\nSubject: {headline(delivery.content)}"
    return f"{head}\n\n{text}"[:LOGGED_REQUEST]


# ── Kakao Work ───────────────────────────────────────────────────────────────────────────────────────────────────────
def _send_kakao_work(delivery: Delivery) -> Outcome:
    body = json.dumps(kakao_work_message(delivery.content), ensure_ascii=False).encode()
    outcome, answer = _post(delivery, body, {})
    # Kakao Work says no with status 200, too.
    if outcome.is_sent and answer is not None and _says_no(answer.body):
        return replace(outcome, is_sent=False, is_final=True, problem="Kakao Work did not accept the message")
    return outcome


def _says_no(body: bytes) -> bool:
    try:
        said = json.loads(body)
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("success") is False


def kakao_work_message(content: Mapping[str, Any]) -> dict[str, Any]:
    """A message of Kakao Work's Block Kit, in the language that is active."""
    totals = content["totals"]
    worst = totals["worst"]
    counts = totals["new_counts"] if totals["new"] else totals["counts"]
    style = "red" if worst in {"critical", "high"} else "yellow" if worst == "medium" else "blue"
    title = _("Test") if content["event"] == "test" else _("Vulnerabilities")
    lines = [_counts(counts)]
    if totals["fixed"]:
        lines.append(_("%(count)s fixed") % {"count": totals["fixed"]})
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": title[:KAKAO_HEADER], "style": style},
        {"type": "text", "text": _cut(headline(content) + "\n" + "\n".join(lines), KAKAO_TEXT)},
    ]
    blocks += [{"type": "text", "text": _cut(_kakao_image(image), KAKAO_TEXT)} for image in _first(content)]
    if (more := totals["images"] - len(_first(content))) > 0:
        words = ngettext("and %(count)s more image", "and %(count)s more images", more) % {"count": more}
        blocks.append({"type": "text", "text": words})
    blocks.append(
        {
            "type": "button",
            "text": _cut(_("Open in KCR"), KAKAO_BUTTON),
            "style": "primary",
            "action": {"type": "open_system_browser", "name": "open", "value": content["url"]},
        }
    )
    return {"text": _cut(headline(content), KAKAO_TEXT), "blocks": blocks}


def _first(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(content["images"][:KAKAO_IMAGES])


def _kakao_image(image: Mapping[str, Any]) -> str:
    lines = [f"{image['path']} {' '.join(image['tags'][:3])}".strip(), _counts(image["new_counts"] or image["counts"])]
    for finding in image["new"][:3]:
        package = f"{finding['package']} {finding['installed']} → {finding['fixed'] or _('no fix yet')}"
        lines.append(f"{finding['vulnerability']} {package}")
    return "\n".join(line for line in lines if line)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


# ── Webhook ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _send_webhook(delivery: Delivery) -> Outcome:
    try:
        secret = subscriptions.secret_of(delivery.subscription)
    except Refused as error:
        return Outcome(is_final=True, problem=str(error))
    body = json.dumps(delivery.content, ensure_ascii=False, separators=(",", ":")).encode()
    timestamp = str(int(time.time()))
    headers = {
        "X-KCR-Event": str(delivery.content.get("event", "")),
        "X-KCR-Delivery": str(delivery.pk),
        "X-KCR-Timestamp": timestamp,
        "X-KCR-Signature": f"sha256={signature(secret, timestamp, body)}",
    }
    return _post(delivery, body, headers)[0]


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """What a receiver computes again: HMAC-SHA256 with the secret over the timestamp, a dot and the body."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, "sha256").hexdigest()


def _post(delivery: Delivery, body: bytes, more: Mapping[str, str]) -> tuple[Outcome, outbound_http.Answer | None]:
    """Send JSON to the subscription's address; what became of it, and the answer if there was one."""
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": USER_AGENT, **more}
    host = outbound_http.host_of(delivery.subscription.url)
    lines = [f"POST {host} (path not shown)", *(f"{name}: {value}" for name, value in headers.items()), ""]
    asked = Outcome(request="\n".join([*lines, body[:LOGGED_REQUEST].decode("utf-8", "ignore")]))
    try:
        with translation.override("en"):
            target = outbound_http.check(delivery.subscription.url)
        answer = outbound_http.post(target, body, headers)
    except outbound_http.Refused as error:
        return replace(asked, is_final=True, problem=str(error)), None
    except outbound_http.Unreachable as error:
        return replace(asked, problem=str(error)), None
    said = replace(asked, status=answer.status, response=_excerpt(answer))
    return _judge(said, answer), answer


def _judge(said: Outcome, answer: outbound_http.Answer) -> Outcome:
    """Whether that status means that it has arrived, will never, or may later."""
    status = answer.status
    if 200 <= status < 300:
        return replace(said, is_sent=True)
    if 300 <= status < 400:
        return replace(said, is_final=True, problem=f"the answer was a redirect ({status}), which is not followed")
    if 400 <= status < 500 and status not in RETRIED:
        return replace(said, is_final=True, problem=f"the other side refused it with status {status}")
    return replace(
        said, problem=f"the other side answered with status {status}", retry_after=_retry_after(answer.headers)
    )


def _retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """What the other side asks for: seconds, or a date."""
    asked = next((value for name, value in headers.items() if name.lower() == "retry-after"), "").strip()
    if asked.isascii() and asked.isdigit():
        return timedelta(seconds=min(int(asked[:9]), 7 * 24 * 3600))
    try:
        moment = parsedate_to_datetime(asked)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(timedelta(0), moment - datetime.now(UTC))


def _excerpt(answer: outbound_http.Answer) -> str:
    """The beginning of an answer in text or JSON, which helps to find a mistake; of others nothing.

    The person who chooses the address reads it: it must not become a way to read what the address holds.
    """
    named = next((value for name, value in answer.headers.items() if name.lower() == "content-type"), "")
    kind = named.partition(";")[0].strip().lower()
    if not (kind.startswith("text/") or kind == "application/json" or kind.endswith("+json")):
        return ""
    return answer.body.decode("utf-8", "replace").replace("\x00", "")[:LOGGED_EXCERPT]
