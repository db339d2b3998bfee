"""What a probe found: one type for the command, the page and the database."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """OK: as it should be. WARNING: works, with a risk. FAILURE: breaks something. SKIPPED: could not be probed."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Text:
    """An English sentence with %-placeholders, which pages translate before they fill it."""

    words: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.words % self.values if self.words else ""


@dataclass(frozen=True, slots=True)
class Result:
    """``seen``: what the probe saw. ``change``: what to change, with the name of the setting; empty if nothing.

    ``lines``: for each kind of proxy, the line or option to change.
    """

    probe: str
    state: State
    seen: Text
    change: Text = field(default_factory=Text)
    lines: dict[str, str] = field(default_factory=dict)

    def written(self) -> dict[str, Any]:
        """As JSON. ``seen`` and ``change`` are English; ``words`` has what ``Result.read`` needs."""
        return {
            "probe": self.probe,
            "state": str(self.state),
            "seen": str(self.seen),
            "change": str(self.change),
            "lines": self.lines,
            "words": [[text.words, text.values] for text in (self.seen, self.change)],
        }

    @classmethod
    def read(cls, row: dict[str, Any]) -> Result:
        """The result that ``written`` returned."""
        seen, change = (Text(words, values) for words, values in row["words"])
        return cls(row["probe"], State(row["state"]), seen, change, row["lines"])


class Ended(Exception):
    """Ends a probe with a result. Made by ``ok``, ``warning``, ``failure`` and ``skip``."""

    def __init__(self, state: State, seen: Text, change: Text | None = None, fault: str = "") -> None:
        super().__init__(str(seen))
        self.state, self.seen, self.change, self.fault = state, seen, change or Text(), fault


def ok(words: str, **values: Any) -> Ended:
    """The result of a probe that found nothing wrong."""
    return Ended(State.OK, Text(words, values))


def skip(words: str, **values: Any) -> Ended:
    """The result of a probe that could not be made, or has nothing to probe."""
    return Ended(State.SKIPPED, Text(words, values))


def warning(words: str, change: str, *, fault: str = "", **values: Any) -> Ended:
    """The result of a probe that found a risk. ``fault``: a key of ``proxies.LINES``."""
    return Ended(State.WARNING, Text(words, values), Text(change, values), fault)


def failure(words: str, change: str, *, fault: str = "", **values: Any) -> Ended:
    """The result of a probe that found a fault. ``fault``: a key of ``proxies.LINES``."""
    return Ended(State.FAILURE, Text(words, values), Text(change, values), fault)
