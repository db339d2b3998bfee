"""Slack: a message of Block Kit, sent to an incoming webhook.

Slack reads text as its markup "mrkdwn". ``<!channel>`` in it calls everyone in the channel, so names are escaped, and
names that an image brings along stand in code, where no other markup counts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from scanning.notifications import words

from .web import WebChannel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from scanning.models import Subscription

# Limits of Block Kit, in characters.
HEADER, SECTION = 150, 3000
IMAGES = 5
FINDINGS = 3  # of each image
NAME = 120  # characters of a name, before it is escaped

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_MARKUP = str.maketrans(dict.fromkeys("*_~`", " "))


class Slack(WebChannel):
    """A channel of Slack, or of a program that takes Slack's messages, such as Mattermost."""

    kind = "slack"
    label = "Slack"
    icon = "hash"
    help_text = gettext_lazy("The address of an incoming webhook: https://hooks.slack.com/services/…")
    service = re.compile(r"hooks\.slack(-gov)?\.com/services/[^?]+")
    wrong_service = gettext_lazy(
        "This is not an incoming webhook of Slack: its address begins with https://hooks.slack.com/services/."
    )

    def target(self, subscription: Subscription) -> str:
        """The service and the host."""
        return f"{self.label} · {super().target(subscription)}"

    def message(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Header, summary, the worst images, and a link to the console; ``text`` is for lists of messages."""
        images = words.images(content)[:IMAGES]
        headline = _escaped(words.headline(content))
        blocks: list[dict[str, Any]] = [
            {"type": "header", "text": {"type": "plain_text", "text": words.cut(headline, HEADER), "emoji": False}},
            *(_section(_image(image)) for image in images),
        ]
        if facts := words.facts(content):
            blocks.insert(1, _section(map(_escaped, facts)))
        last = [f"<{_escaped(content['url'])}|{_escaped(_('Open in KCR'))}>"]
        if more := words.more_images(content, len(images)):
            last.insert(0, _escaped(more))
        blocks.append(_section(last))
        return {"text": headline, "blocks": blocks, "unfurl_links": False, "unfurl_media": False}

    def reason(self, body: bytes) -> str:
        """Slack answers with a word, such as ``no_service`` or ``channel_is_archived``."""
        word = body[:60].decode("ascii", "replace").strip()
        return word if re.fullmatch(r"[a-z_]+", word) else ""


def _section(lines: Iterable[str]) -> dict[str, Any]:
    """As many lines as fit. A line is never cut: half an escape or half a link would become other text."""
    text = ""
    for line in lines:
        if len(text) + len(line) + 1 > SECTION:
            break
        text += f"\n{line}" if text else line
    # "verbatim": Slack makes no links of names and addresses that it finds in the text.
    return {"type": "section", "text": {"type": "mrkdwn", "text": text, "verbatim": True}}


def _image(image: Mapping[str, Any]) -> list[str]:
    tags = " ".join(map(_code, image["tags"][:3]))
    head = f"*<{_escaped(image['url'])}|{_escaped(image['path'])}>* {tags}".strip()
    facts = (_escaped(fact).translate(_MARKUP) for fact in words.facts_of(image))
    return [head, *facts, *(_code(words.finding(finding)) for finding in image["new"][:FINDINGS])]


def _code(name: str) -> str:
    """The name in code, on one line."""
    return f"`{_escaped(words.cut(' '.join(name.split()), NAME)).replace('`', ' ')}`"


def _escaped(text: str) -> str:
    return text.translate(_ESCAPES)
