"""Scopes of the Docker token specification ("Token Scope Documentation"): ``type:name:action,action``.

A name may have a colon (host:port), so the type ends at the first colon and the actions begin after the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_SCOPES = 50
MAX_WEIGHT = 5_500  # characters of claims: a token with them stays below the 8 KiB that servers allow for a header
CLAIM_WEIGHT = 72  # characters that the claim of a scope has besides the scope


class InvalidScope(ValueError):
    """A text is no scope."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A requested resource and actions; ``str()`` gives the form on the wire."""

    type: str
    name: str
    actions: frozenset[str]

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{','.join(sorted(self.actions))}"


def parse(texts: Iterable[str]) -> list[Scope]:
    """Parse scopes from repeated parameters and space-separated lists; merge the actions of a resource.

    ``repository(plugin)`` counts as ``repository``. Returns the first scopes that fit in a token, at most MAX_SCOPES:
    a token may lack what was asked for. Raises InvalidScope.
    """
    asked: dict[tuple[str, str], frozenset[str]] = {}
    room = MAX_WEIGHT
    for word in (word for text in texts for word in text.split()):
        type_, _, rest = word.partition(":")
        name, colon, actions = rest.rpartition(":")
        type_ = type_.partition("(")[0]
        if not type_ or not name or not colon:
            raise InvalidScope("a scope has the form type:name:actions")
        resource = (type_, name)
        if resource not in asked:
            weight = len(word) + CLAIM_WEIGHT
            if weight > room or len(asked) == MAX_SCOPES:
                continue
            room -= weight
        asked[resource] = asked.get(resource, frozenset()) | frozenset(filter(None, actions.split(",")))
    return [Scope(type_, name, actions) for (type_, name), actions in asked.items()]
