"""What a rule is, and which rule applies to a tag. No queries.

A repository and its project each have a list of rules in order. The first rule with a pattern that matches the tag's
name applies: of the locked rules of the project, then of the rules of the repository, then of the other rules of the
project. The last rule is the repository's ``tag_overwrite``; it matches every name.

The rows store a rule as {"patterns": ["v*"], "mode": "write-once", "keep": true, "pushers": ["ci@acme.test"]}, one of a
project with "locked" besides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from accounts.models import Project
from registry.errors import RequestInvalid
from registry.oci import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from registry.models import Repository

MAX_RULES = 50
MAX_PATTERNS = 20  # of one rule
MAX_PUSHERS = 20
MAX_ADDRESS = 254
ADMINS = "admins"
LAST = 0  # the number of the rule that ``tag_overwrite`` is
_PATTERN = re.compile(r"[A-Za-z0-9_.*?!\[\]-]+")  # what a tag may have, and what globs need


class Mode(StrEnum):
    """What may become of a tag.

    MOVABLE: it may be pointed to another digest. IMMUTABLE: it names one digest while it exists. WRITE_ONCE: its name
    never names another digest, even after the tag was deleted.
    """

    MOVABLE = "movable"
    IMMUTABLE = "immutable"
    WRITE_ONCE = "write-once"


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule. ``keep``: its tags cannot be deleted. ``pushers``: who may point its tags to a digest, () for all.

    ``patterns`` are globs over whole names, in which upper and lower case differ. ``pushers`` are e-mail addresses, and
    ADMINS for the admins of the project and the owners of its organization. ``number`` is its place in the list of
    ``of`` ("shop" or "shop/web"), from 1; LAST for the last rule. ``is_locked``: no repository comes before it.
    """

    patterns: tuple[str, ...]
    mode: Mode = Mode.MOVABLE
    keep: bool = False
    pushers: tuple[str, ...] = ()
    is_locked: bool = False
    number: int = LAST
    of: str = ""

    def matches(self, tag: str) -> bool:
        """Whether one of the patterns matches the name of the tag."""
        return any(fnmatchcase(tag, pattern) for pattern in self.patterns)

    @property
    def restricts(self) -> bool:
        """Whether there is something that the rule forbids."""
        return self.mode != Mode.MOVABLE or self.keep or bool(self.pushers)


def effective(repository: Repository) -> tuple[Rule, ...]:
    """The rules for the tags of the repository in order, the last rule included. No query if its project is loaded."""
    project = repository.project
    of_project = _read(project.tag_rules, project.name) if project.tag_rules else ()
    own = _read(repository.tag_rules, str(repository)) if repository.tag_rules else ()
    mode = Mode.MOVABLE if repository.tag_overwrite else Mode.IMMUTABLE
    return (
        *(rule for rule in of_project if rule.is_locked),
        *own,
        *(rule for rule in of_project if not rule.is_locked),
        Rule(("*",), mode, of=str(repository)),
    )


def find(rules: Iterable[Rule], tag: str) -> Rule:
    """The first of the ``effective`` rules that matches the tag's name."""
    return next(rule for rule in rules if rule.matches(tag))


def rules_of(thing: Repository | Project) -> tuple[Rule, ...]:
    """The own rules of a repository or project in order."""
    return _read(thing.tag_rules, thing.name if isinstance(thing, Project) else str(thing))


def _read(stored: Sequence[dict[str, Any]], of: str) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            tuple(each["patterns"]),
            Mode(each["mode"]),
            bool(each.get("keep")),
            tuple(each.get("pushers", ())),
            bool(each.get("locked")),
            number,
            of,
        )
        for number, each in enumerate(stored, 1)
    )


def stored(rule: Rule, *, in_project: bool) -> dict[str, Any]:
    """The rule as the rows store it."""
    found: dict[str, Any] = {
        "patterns": list(rule.patterns),
        "mode": rule.mode.value,
        "keep": rule.keep,
        "pushers": list(rule.pushers),
    }
    return found | {"locked": rule.is_locked} if in_project else found


def checked(wanted: Any, *, in_project: bool) -> list[dict[str, Any]]:
    """The list of rules as the rows store it. Raises RequestInvalid with the number of the rule that is wrong."""
    if not isinstance(wanted, list) or len(wanted) > MAX_RULES:
        raise RequestInvalid(_("a list has at most %(count)s rules") % {"count": MAX_RULES})
    return [stored(_checked(each, number), in_project=in_project) for number, each in enumerate(wanted, 1)]


def _checked(each: Any, number: int) -> Rule:
    patterns, pushers = ([str(value) for value in each.get(name) or ()] for name in ("patterns", "pushers"))
    if not 0 < len(patterns) <= MAX_PATTERNS or not all(_is_pattern(pattern) for pattern in patterns):
        raise RequestInvalid(
            _(
                "rule %(number)s has 1 to %(count)s patterns such as v*, each of 1 to %(length)s characters that tags"
                " may have, and * or ?"
            )
            % {"number": number, "count": MAX_PATTERNS, "length": names.MAX_TAG}
        )
    if len(pushers) > MAX_PUSHERS or not all(_is_pusher(pusher) for pusher in pushers):
        raise RequestInvalid(
            _("rule %(number)s names at most %(count)s e-mail addresses, or admins, as those who may push")
            % {"number": number, "count": MAX_PUSHERS}
        )
    if each.get("mode") not in list(Mode):
        modes = ", ".join(Mode)
        raise RequestInvalid(_("the mode of rule %(number)s is one of %(modes)s") % {"number": number, "modes": modes})
    lower = tuple(dict.fromkeys(pusher.lower() for pusher in pushers))
    keep, is_locked = each.get("keep") is True, each.get("locked") is True
    return Rule(tuple(dict.fromkeys(patterns)), Mode(each["mode"]), keep, lower, is_locked, number)


def _is_pattern(text: str) -> bool:
    return len(text) <= names.MAX_TAG and _PATTERN.fullmatch(text) is not None


def _is_pusher(text: str) -> bool:
    name, at, domain = text.partition("@")
    is_address = bool(name and at and domain) and not set(text) & set(" ,;\t\r\n")
    return len(text) <= MAX_ADDRESS and (text.lower() == ADMINS or is_address)
