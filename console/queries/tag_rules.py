"""Pages of rules of tags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from registry import tag_rules
from registry.models import Repository
from registry.tag_rules import LAST

if TYPE_CHECKING:
    from accounts.models import Project
    from registry.tag_rules import Rule


@dataclass(frozen=True, slots=True)
class Line:
    """A rule in the order in which rules apply. ``is_own``: it is in the list that the page changes."""

    rule: Rule
    is_own: bool

    @property
    def is_last(self) -> bool:
        """Whether this is the rule for all other tags."""
        return self.rule.number == LAST


def lines(thing: Repository | Project) -> list[Line]:
    """The rules for the tags of a repository, or those of a project."""
    rules = tag_rules.effective(thing) if isinstance(thing, Repository) else tag_rules.rules_of(thing)
    return [Line(rule, is_own=rule.of == str(thing) and rule.number != LAST) for rule in rules]
