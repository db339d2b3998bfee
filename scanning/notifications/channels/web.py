"""Channels that send JSON by POST to a URL: one request, one answer, both kept for the log."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import outbound_http
from accounts.errors import Refusal

from .base import LOGGED_REQUEST, Channel, Outcome, WrongAddress

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Mapping

    from django.utils.functional import Promise

    from scanning.models import Delivery, Subscription

LOGGED_EXCERPT = 256  # characters of an answer that the log keeps, if it is text
LOGGED_REASON = 100  # characters of the reason that a service gives
RETRIED = frozenset({408, 425, 429})
USER_AGENT = "KCR"


class WebChannel(Channel):
    """A channel that posts to ``Subscription.url``. A subclass gives ``help_text`` and ``message``.

    The URL may open a door to everyone who knows it: pages, the audit log and the log of requests show its host only.

    ``service``: matches host and path of the URLs that the service gives out; None if any URL will do.
    ``wrong_service`` tells a person who typed another URL what to type.
    """

    is_told_of_quotas = True
    help_text: str | Promise
    service: re.Pattern[str] | None = None
    wrong_service: str | Promise = ""

    def message(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """The JSON to send, in the active language."""
        raise NotImplementedError

    def headers(self, delivery: Delivery, body: bytes) -> dict[str, str]:
        """More headers for the request. Raises Refusal if the message cannot be sent at all."""
        return {}

    def reason(self, body: bytes) -> str:
        """The reason that the service gives in the answer of a refusal; "" if it gives none."""
        return ""

    def judge(self, outcome: Outcome, answer: outbound_http.Answer) -> Outcome:
        """Decide by the HTTP status: sent, refused for good, or worth another attempt."""
        status = answer.status
        if 200 <= status < 300:
            return replace(outcome, is_sent=True)
        if 300 <= status < 400:
            problem = f"the answer was a redirect ({status}), which is not followed"
            return replace(outcome, is_final=True, problem=problem)
        reason = " ".join(self.reason(answer.body).split())[:LOGGED_REASON]
        suffix = f": {reason}" if reason.isprintable() and reason else ""
        if 400 <= status < 500 and status not in RETRIED:
            return replace(outcome, is_final=True, problem=f"the other side refused it with status {status}{suffix}")
        problem = f"the other side answered with status {status}{suffix}"
        return replace(outcome, problem=problem, retry_after=_retry_after(answer.headers))

    # ── For the console ──────────────────────────────────────────────────────────────────────────────────────────────
    def fields(self, current: Subscription | None) -> dict[str, forms.Field]:
        """The URL. A stored one is not shown again; an empty field keeps it."""
        keep = _("Leave it empty to go on sending to %(host)s.")
        return {
            "url": forms.CharField(
                label=gettext_lazy("URL"),
                max_length=outbound_http.MAX_URL,
                required=current is None,
                help_text=keep % {"host": self.target(current)} if current else str(self.help_text),
                widget=forms.URLInput({"spellcheck": "false", "autocomplete": "off", "placeholder": "https://"}),
            )
        }

    def columns(self, typed: Mapping[str, Any], current: Subscription | None = None) -> dict[str, Any]:
        """The URL, checked as it will be before each request. Raises WrongAddress."""
        url = typed["url"]
        if current and url in {"", current.url}:
            return {}
        try:
            target = outbound_http.check(url)
        except (outbound_http.Refused, outbound_http.Unreachable) as error:
            raise WrongAddress(str(error)) from error
        if not (self._is_of_service(target) or outbound_http.is_allowed(target)):
            raise WrongAddress(str(self.wrong_service))
        return {"url": url}

    def _is_of_service(self, target: outbound_http.Target) -> bool:
        """Whether the service gives out such URLs. The URL is a secret, so it must use https."""
        if self.service is None:
            return True
        address = f"{target.host}{target.path}"
        return (target.scheme, target.port) == ("https", 443) and bool(self.service.fullmatch(address))

    def is_ready(self, subscription: Subscription) -> bool:
        """Whether there is a URL."""
        return bool(subscription.url)

    def target(self, subscription: Subscription) -> str:
        """The host of the URL."""
        return outbound_http.host_of(subscription.url)

    def audited(self, subscription: Subscription) -> dict[str, Any]:
        """The host of the URL."""
        return {"host": outbound_http.host_of(subscription.url)}

    # ── Sending ──────────────────────────────────────────────────────────────────────────────────────────────────────
    def send(self, delivery: Delivery) -> Iterator[Outcome]:
        """Post the message once."""
        yield self._send(delivery)

    def _send(self, delivery: Delivery) -> Outcome:
        body = json.dumps(self.message(delivery.content), ensure_ascii=False, separators=(",", ":")).encode()
        try:
            more = self.headers(delivery, body)
        except Refusal as error:
            return Outcome(is_final=True, problem=str(error))
        headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": USER_AGENT, **more}
        url = delivery.subscription.url
        lines = [f"POST {outbound_http.host_of(url)} (path not shown)"]
        lines += [*(f"{name}: {value}" for name, value in headers.items()), ""]
        outcome = Outcome(request="\n".join([*lines, body[:LOGGED_REQUEST].decode("utf-8", "ignore")]))
        try:
            with translation.override("en"):
                target = outbound_http.check(url)
            answer = outbound_http.post(target, body, headers)
        except outbound_http.Refused as error:
            return replace(outcome, is_final=True, problem=str(error))
        except outbound_http.Unreachable as error:
            return replace(outcome, problem=str(error))
        return self.judge(replace(outcome, status=answer.status, response=_excerpt(answer)), answer)


def read_object(body: bytes) -> Mapping[str, Any]:
    """The JSON object in the body; empty if there is none."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """The Retry-After header: seconds or a date (RFC 9110, section 10.2.3). None if absent or unreadable."""
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
    """The beginning of an answer in text or JSON, to find a mistake; "" for other types.

    The person who chose the URL reads it, so more would let them read pages inside the operator's network.
    """
    named = next((value for name, value in answer.headers.items() if name.lower() == "content-type"), "")
    kind = named.partition(";")[0].strip().lower()
    if not (kind.startswith("text/") or kind == "application/json" or kind.endswith("+json")):
        return ""
    return answer.body.decode("utf-8", "replace").replace("\x00", "")[:LOGGED_EXCERPT]
