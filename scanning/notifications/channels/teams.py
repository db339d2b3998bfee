"""Microsoft Teams: an Adaptive Card, sent to a webhook that a person made with the app Workflows.

The text of a TextRun has no markup, so names need no escapes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from scanning.notifications import words

from .web import WebChannel, read_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scanning.models import Subscription

IMAGES = 5
FINDINGS = 3  # of each image
TEXT = 250  # characters of a line: a message of 28 KB is refused


class Teams(WebChannel):
    """A channel or chat of Microsoft Teams."""

    kind = "teams"
    label = "Microsoft Teams"
    icon = "messages-square"
    help_text = gettext_lazy(
        "The address of a workflow that starts with “When a Teams webhook request is received”, made in Teams with the "
        "app Workflows."
    )
    service = re.compile(
        r"[a-z0-9.-]+\."
        r"(api\.powerplatform\.com|api\.gov\.powerplatform\.microsoft\.us|api\.high\.powerplatform\.microsoft\.us"
        r"|api\.powerplatform\.partner\.microsoftonline\.cn|logic\.azure\.(com|us|cn))/.+"
    )
    wrong_service = gettext_lazy(
        "This is not a webhook of a workflow: its host ends with .api.powerplatform.com. Webhooks of the former "
        "connectors (webhook.office.com) are retired."
    )

    def target(self, subscription: Subscription) -> str:
        """The host does not say that it is Teams."""
        return f"{self.label} · {super().target(subscription)}"

    def message(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """A message with one card: headline, summary, the worst images, and a button to the console."""
        images = words.images(content)[:IMAGES]
        headline = words.headline(content)
        body = [
            _block([_run(headline, weight="Bolder", size="Medium", color=_colour(words.worst(content)))]),
            *(_block([_run(fact)]) for fact in words.facts(content)),
            *(block for image in images for block in _image(image)),
        ]
        if more := words.more_images(content, len(images)):
            body.append(_block([_run(more, isSubtle=True)]))
        card = {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "fallbackText": words.cut(headline, TEXT),
            "msteams": {"width": "Full"},
            "body": body,
            "actions": [{"type": "Action.OpenUrl", "title": _("Open in KCR"), "url": content["url"]}],
        }
        attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        return {"type": "message", "attachments": [attachment]}

    def reason(self, body: bytes) -> str:
        """Workflows answer with ``{"error": {"code": "WorkflowNotFound", "message": …}}``."""
        error = read_object(body).get("error")
        return str(error.get("code", "")) if isinstance(error, dict) else ""


def _image(image: Mapping[str, Any]) -> list[dict[str, Any]]:
    link = {"type": "Action.OpenUrl", "url": image["url"]}
    head = [_run(image["path"], weight="Bolder", selectAction=link)]
    if image["tags"]:
        head.append(_run(f" {' '.join(image['tags'][:3])}", fontType="Monospace"))
    findings = (_run(words.finding(each), fontType="Monospace", size="Small") for each in image["new"][:FINDINGS])
    return [
        {**_block(head), "separator": True},
        *(_block([_run(fact)], spacing="None") for fact in words.facts_of(image)),
        *(_block([finding], spacing="None") for finding in findings),
    ]


def _block(inlines: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": inlines, **more}


def _run(text: str, **more: Any) -> dict[str, Any]:
    """Text on one line, without markup."""
    start = " " if text.startswith(" ") else ""
    return {"type": "TextRun", "text": start + words.cut(" ".join(text.split()), TEXT), **more}


def _colour(worst: str) -> str:
    return "Attention" if worst in {"critical", "high"} else "Warning" if worst == "medium" else "Default"
