"""Discord: a message with one embed, sent to a webhook of a channel."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from scanning.notifications import words

from .web import USER_AGENT, WebChannel, read_object

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from accounts import outbound_http
    from scanning.models import Delivery, Subscription

    from .base import Outcome

# Limits of an embed, in characters; EMBED is the sum.
TITLE, DESCRIPTION, FIELD_VALUE, EMBED = 256, 4096, 1024, 6000
FOOTER = 100  # characters that the footer may take of them
IMAGES = 10  # a field each; Discord allows 25
FINDINGS = 3  # of each image
NAME = 120  # characters of a line, before it is escaped
LONGEST_WAIT = 7 * 24 * 3600.0

_MARKUP = re.compile(r"[\\*_~`|<>\[\]()#:@!+=-]")
_COLOURS = {"critical": 0x8A1425, "high": 0xC2410C, "medium": 0xF2B544, "low": 0x3B82C4}


class Discord(WebChannel):
    """A channel of Discord."""

    kind = "discord"
    label = "Discord"
    icon = "headphones"
    help_text = gettext_lazy("The address of a webhook of the channel: https://discord.com/api/webhooks/…")
    service = re.compile(
        r"((canary|ptb)\.)?discord(app)?\.com/api/(v[0-9]+/)?webhooks/[0-9]+/[\w-]+(\?thread_id=[0-9]+)?"
    )
    wrong_service = gettext_lazy(
        "This is not a webhook of Discord: its address begins with https://discord.com/api/webhooks/."
    )

    def target(self, subscription: Subscription) -> str:
        """The service and the host."""
        return f"{self.label} · {super().target(subscription)}"

    def headers(self, delivery: Delivery, body: bytes) -> dict[str, str]:
        """Discord asks programs to name themselves in this form."""
        return {"User-Agent": f"DiscordBot ({settings.PUBLIC_URL}, 1) {USER_AGENT}"}

    def message(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """An embed with headline, summary and the worst images. It mentions no user: ``allowed_mentions`` is empty."""
        embed = {
            "title": _escaped(words.headline(content), TITLE // 2),
            "url": content["url"],
            "description": _fitting(map(_escaped, words.facts(content)), DESCRIPTION),
            "color": _COLOURS.get(words.worst(content), 0x6B7280),
            "fields": [],
        }
        room = EMBED - len(embed["title"]) - len(embed["description"]) - FOOTER
        for image in words.images(content)[:IMAGES]:
            field = _field(image)
            room -= len(field["name"]) + len(field["value"])
            if room < 0:
                break
            embed["fields"].append(field)
        if more := words.more_images(content, len(embed["fields"])):
            embed["footer"] = {"text": words.cut(more, FOOTER)}
        return {"embeds": [embed], "allowed_mentions": {"parse": []}}

    def reason(self, body: bytes) -> str:
        """Discord answers with ``{"message": "Unknown Webhook", "code": 10015}``."""
        answer = read_object(body)
        message, code = answer.get("message"), answer.get("code")
        return f"{message} ({code})" if message and code else str(message or "")

    def judge(self, outcome: Outcome, answer: outbound_http.Answer) -> Outcome:
        """Discord says in the body, too, how many seconds to wait."""
        judged = super().judge(outcome, answer)
        asked = read_object(answer.body).get("retry_after")
        if answer.status != 429 or judged.retry_after or not isinstance(asked, int | float) or not asked > 0:
            return judged
        return replace(judged, retry_after=timedelta(seconds=min(asked, LONGEST_WAIT)))


def _field(image: Mapping[str, Any]) -> dict[str, Any]:
    findings = (_escaped(words.finding(finding)) for finding in image["new"][:FINDINGS])
    link = f"[{_('Open in KCR')}]({image['url']})"
    lines = [*map(_escaped, words.facts_of(image)), *findings]
    name = _escaped(" ".join([image["path"], *image["tags"][:3]]))
    return {"name": name, "value": _fitting([*lines, link], FIELD_VALUE)}


def _fitting(lines: Iterable[str], limit: int) -> str:
    """As many lines as fit. A line is never cut: half an escape would let the rest be markup."""
    text = ""
    for line in lines:
        if len(text) + len(line) + 1 <= limit:
            text += f"\n{line}" if text else line
    return text


def _escaped(text: str, length: int = NAME) -> str:
    """The text on one line, in which no character is markup, a mention or a link. At most twice ``length``."""
    return _MARKUP.sub(r"\\\g<0>", words.cut(" ".join(text.split()), length))
