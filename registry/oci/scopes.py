"""Scopes of the Docker token specification ("Token Scope Documentation"): ``type:name:action,action``.

A name may have a colon (host:port), so the type ends at the first colon and the actions begin after the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_SCOPES = 20
MAX_LENGTH = 4096


class InvalidScope(ValueError):
    """Too many scopes, or an invalid one."""


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

    ``repository(plugin)`` counts as ``repository``. Raises InvalidScope.
    """
    words = [word for text in texts for word in text.split()]
    if len(words) > MAX_SCOPES or sum(len(word) for word in words) > MAX_LENGTH:
        raise InvalidScope(f"at most {MAX_SCOPES} scopes of {MAX_LENGTH} characters in all")
    asked: dict[tuple[str, str], frozenset[str]] = {}
    for word in words:
        type_, _, rest = word.partition(":")
        name, colon, actions = rest.rpartition(":")
        type_ = type_.partition("(")[0]
        if not type_ or not name or not colon:
            raise InvalidScope("a scope has the form type:name:actions")
        resource = (type_, name)
        asked[resource] = asked.get(resource, frozenset()) | frozenset(filter(None, actions.split(",")))
    return [Scope(type_, name, actions) for (type_, name), actions in asked.items()]
