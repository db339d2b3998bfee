"""Pages of rules of tags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry import tag_rules
from registry.models import Repository
from registry.tag_rules import LAST

if TYPE_CHECKING:
    from accounts.models import Project
    from registry.tag_rules import Refused, Rule

SHOWN = 200


@dataclass(frozen=True, slots=True)
class Line:
    """A rule in the order in which rules apply. ``is_own``: it is in the list that the page changes."""

    rule: Rule
    is_own: bool

    @property
    def is_last(self) -> bool:
        """Whether this is the rule for all other tags."""
        return self.rule.number == LAST


@dataclass(frozen=True, slots=True)
class Preview:
    """What rules do: how many of today's tags each is for, and how many changes they would have refused lately.

    ``shown``: the newest of these, at most SHOWN.
    """

    numbers: list[tuple[Rule, int]]
    total: int
    shown: list[Refused]

    @property
    def days(self) -> int:
        """The days of ``total``."""
        return tag_rules.DAYS


def lines(thing: Repository | Project) -> list[Line]:
    """The rules for the tags of a repository, or those of a project."""
    rules = tag_rules.effective(thing) if isinstance(thing, Repository) else tag_rules.rules_of(thing)
    return [Line(rule, is_own=rule.of == str(thing) and rule.number != LAST) for rule in rules]


def preview(thing: Repository | Project) -> Preview:
    """What the rules of the repository or project, which need not be saved, do. At most five queries."""
    if isinstance(thing, Repository):
        found = [thing]
    else:
        found = list(Repository.objects.live().filter(project=thing).order_by("name"))
        for repository in found:
            repository.project = thing
    numbers = tag_rules.numbers(found)
    refused = sorted(tag_rules.replay(found), key=lambda each: each.at, reverse=True)
    order = [line.rule for line in lines(thing)]
    return Preview([(rule, numbers[rule]) for rule in order], len(refused), refused[:SHOWN])
