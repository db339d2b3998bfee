"""Kakao Work: a message of its Block Kit, sent to the Incoming Webhook of a chat room."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from scanning.notifications import words

from .web import WebChannel, read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from accounts import outbound_http
    from scanning.models import Subscription

    from .base import Outcome

# Limits of Block Kit, in characters.
HEADER, TEXT, BUTTON = 20, 500, 20
IMAGES = 5
FINDINGS = 3  # of each image


class KakaoWork(WebChannel):
    """A chat room of Kakao Work."""

    kind = "kakaowork"
    label = gettext_lazy("Kakao Work")
    icon = "message-circle"
    help_text = gettext_lazy("The address of an Incoming Webhook, made in Kakao Work for a chat room.")

    def target(self, subscription: Subscription) -> str:
        """The host does not say that it is Kakao Work."""
        return f"{self.label} · {super().target(subscription)}"

    def message(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Header, summary, the worst images, and a button to the console."""
        images = words.images(content)[:IMAGES]
        headline = words.headline(content)
        blocks: list[dict[str, Any]] = [
            {"type": "header", "text": words.title(content)[:HEADER], "style": _style(words.worst(content))},
            _text("\n".join([headline, *words.facts(content)])),
            *(_text(_image(image)) for image in images),
        ]
        if more := words.more_images(content, len(images)):
            blocks.append(_text(more))
        blocks.append(
            {
                "type": "button",
                "text": words.cut(_("Open in KCR"), BUTTON),
                "style": "primary",
                "action": {"type": "open_system_browser", "name": "open", "value": content["url"]},
            }
        )
        return {"text": words.cut(headline, TEXT), "blocks": blocks}

    def judge(self, outcome: Outcome, answer: outbound_http.Answer) -> Outcome:
        """Kakao Work may refuse a message with status 200 and ``"success": false``."""
        judged = super().judge(outcome, answer)
        if judged.is_sent and read_object(answer.body).get("success") is False:
            return replace(judged, is_sent=False, is_final=True, problem="Kakao Work did not accept the message")
        return judged


def _style(worst: str) -> str:
    return "red" if worst in {"critical", "high"} else "yellow" if worst == "medium" else "blue"


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": words.cut(text, TEXT)}


def _image(image: Mapping[str, Any]) -> str:
    head = f"{image['path']} {' '.join(image['tags'][:3])}".strip()
    return "\n".join([head, *words.facts_of(image), *map(words.finding, image["new"][:FINDINGS])])
