"""Slack, Microsoft Teams and Discord as far as a sender sees them: what they refuse, and what a reader sees.

Each ``Service`` answers as the real one does. ``visible`` is the text that people read, with the markup of the service
applied; ``calls`` lists what would call people or open another address.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from typing import Any, ClassVar

Answer = tuple[int, dict[str, str], bytes]


class Service(ABC):
    """A service that takes messages by POST."""

    kind: str
    sent: Answer

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []

    def __call__(self, headers: dict[str, str], body: bytes) -> Answer:
        """Keep the message, or refuse it."""
        try:
            message = json.loads(body)
            assert headers["Content-Type"].startswith("application/json")
            self.check(message, body)
        except (AssertionError, KeyError, TypeError) as error:
            return self.refused(repr(error))
        self.messages.append(message)
        return self.sent

    @abstractmethod
    def check(self, message: Any, body: bytes) -> None:
        """Raises AssertionError, KeyError or TypeError for a message that the service refuses."""

    @abstractmethod
    def refused(self, reason: str) -> Answer:
        """The answer to a message that is not right."""

    @abstractmethod
    def gone(self) -> Answer:
        """The answer when the webhook was deleted."""

    @abstractmethod
    def visible(self, message: Any) -> str:
        """The text that people read."""

    @abstractmethod
    def calls(self, message: Any) -> list[str]:
        """Mentions and addresses that are active in the message."""


def texts_of(value: Any) -> list[str]:
    """All strings inside."""
    if isinstance(value, str):
        return [value]
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in inside for text in texts_of(each)]


class SlackService(Service):
    """Block Kit: https://docs.slack.dev/reference/block-kit/blocks"""

    kind = "slack"
    sent = (200, {"Content-Type": "text/html"}, b"ok")
    limits: ClassVar = {"header": 150, "section": 3000}

    def check(self, message: Any, body: bytes) -> None:
        """Blocks, their types and lengths."""
        assert set(message) <= {"text", "blocks", "unfurl_links", "unfurl_media"}
        assert message["text"]
        assert len(message["text"]) <= 40_000
        assert 0 < len(message["blocks"]) <= 50
        for block in message["blocks"]:
            text = block["text"]
            assert 0 < len(text["text"]) <= self.limits[block["type"]]
            assert text["type"] == ("plain_text" if block["type"] == "header" else "mrkdwn")
            assert set(text) <= {"type", "text", "emoji" if text["type"] == "plain_text" else "verbatim"}

    def refused(self, reason: str) -> Answer:
        """A word, and nothing else."""
        return 400, {"Content-Type": "text/html"}, b"invalid_blocks"

    def gone(self) -> Answer:
        """The app was removed from the channel."""
        return 404, {"Content-Type": "text/html"}, b"no_service"

    def visible(self, message: Any) -> str:
        """Links become their words, escapes their characters."""
        lines = []
        for block in message["blocks"]:
            text = block["text"]["text"]
            if block["type"] == "section":
                text = re.sub(r"<[^<>|]*\|([^<>]*)>", r"\1", text).replace("`", "").replace("*", "")
            lines.append(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
        return "\n".join(lines)

    def calls(self, message: Any) -> list[str]:
        """Everything in angle brackets."""
        texts = [message["text"], *(block["text"]["text"] for block in message["blocks"])]
        return [found.partition("|")[0] for text in texts for found in re.findall(r"<([^>]*)>", text)]


class TeamsService(Service):
    """Adaptive Cards in a workflow: https://adaptivecards.io/explorer"""

    kind = "teams"
    sent = (202, {}, b"")

    def check(self, message: Any, body: bytes) -> None:
        """A message with one card of 28 KB at most."""
        assert len(body) <= 28 * 1024
        assert message["type"] == "message"
        (attachment,) = message["attachments"]
        assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
        card = attachment["content"]
        assert (card["type"], card["version"]) == ("AdaptiveCard", "1.4")
        assert set(card) == {"$schema", "type", "version", "fallbackText", "msteams", "body", "actions"}
        for block in card["body"]:
            assert block["type"] == "RichTextBlock"
            assert set(block) <= {"type", "inlines", "separator", "spacing"}
            for run in block["inlines"]:
                assert run["type"] == "TextRun"
                assert run["text"].strip()
                assert set(run) <= {"type", "text", "weight", "size", "color", "isSubtle", "fontType", "selectAction"}
        for action in [*card["actions"], *self._links(card)]:
            assert action["type"] == "Action.OpenUrl"
            assert action["url"].startswith("http")

    def refused(self, reason: str) -> Answer:
        """The trigger has a schema."""
        error = {"error": {"code": "TriggerInputSchemaMismatch", "message": reason}}
        return 400, {"Content-Type": "application/json"}, json.dumps(error).encode()

    def gone(self) -> Answer:
        """The workflow was deleted."""
        error = {"error": {"code": "WorkflowNotFound", "message": "The workflow could not be found."}}
        return 404, {"Content-Type": "application/json; charset=utf-8"}, json.dumps(error).encode()

    def visible(self, message: Any) -> str:
        """A TextRun shows its text as it is."""
        card = message["attachments"][0]["content"]
        return "\n".join("".join(run["text"] for run in block["inlines"]) for block in card["body"])

    def calls(self, message: Any) -> list[str]:
        """Addresses of actions, and entities, which mention people."""
        card = message["attachments"][0]["content"]
        entities = texts_of(card["msteams"].get("entities", []))
        return [*entities, *(each["url"] for each in [*card["actions"], *self._links(card)])]

    def _links(self, card: Any) -> list[dict[str, str]]:
        runs = [run for block in card["body"] for run in block["inlines"]]
        return [run["selectAction"] for run in runs if "selectAction" in run]


class DiscordService(Service):
    """Webhooks and embeds: https://docs.discord.com/developers/resources/message#embed-object"""

    kind = "discord"
    sent = (204, {}, b"")

    def check(self, message: Any, body: bytes) -> None:
        """Embeds and their limits."""
        assert set(message) <= {"embeds", "allowed_mentions"}
        assert message["allowed_mentions"] == {"parse": []}
        assert 0 < len(message["embeds"]) <= 10
        total = 0
        for embed in message["embeds"]:
            assert 0 < len(embed["title"]) <= 256
            assert len(embed["description"]) <= 4096
            assert len(embed["fields"]) <= 25
            assert 0 <= embed["color"] <= 0xFFFFFF
            assert embed["url"].startswith("http")
            for each in embed["fields"]:
                assert 0 < len(each["name"]) <= 256
                assert 0 < len(each["value"]) <= 1024
            footer = embed.get("footer", {}).get("text", "")
            assert len(footer) <= 2048
            total += len(embed["title"]) + len(embed["description"]) + len(footer)
            total += sum(len(each["name"]) + len(each["value"]) for each in embed["fields"])
        assert total <= 6000

    def refused(self, reason: str) -> Answer:
        """The code of a form that is not right."""
        return self._error(400, "Invalid Form Body", 50035)

    def gone(self) -> Answer:
        """The webhook was deleted."""
        return self._error(404, "Unknown Webhook", 10015)

    def visible(self, message: Any) -> str:
        """Links become their words, escapes their characters."""
        texts = []
        for embed in message["embeds"]:
            texts += [embed["title"], embed["description"]]
            texts += [text for each in embed["fields"] for text in (each["name"], each["value"])]
            texts.append(embed.get("footer", {}).get("text", ""))
        linked = re.sub(r"(?<!\\)\[([^\]]*)\]\(([^)]*)\)", r"\1", "\n".join(texts))
        return re.sub(r"\\([^0-9A-Za-z\s])", r"\1", linked)

    def calls(self, message: Any) -> list[str]:
        """Addresses, links, and markup that is not escaped."""
        found = []
        for embed in message["embeds"]:
            found.append(embed["url"])
            for text in (embed["title"], embed["description"], *texts_of(embed["fields"])):
                bare = re.sub(r"\\([^0-9A-Za-z\s])", "", text)
                found += re.findall(r"\[[^\]]*\]\(([^)]*)\)", bare)
                bare = re.sub(r"\[[^\]]*\]\([^)]*\)", "", bare)
                found += re.findall(r"<[^>]*>|@|https?:|[*_~`|]", bare)
        return found

    def _error(self, status: int, message: str, code: int) -> Answer:
        body = json.dumps({"message": message, "code": code}).encode()
        return status, {"Content-Type": "application/json"}, body
