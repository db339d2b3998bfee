"""The rows of a list that a form chose: those that are checked, or all that match the search and filter of the list."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from django.http import HttpRequest, QueryDict

NO_FILTERS = frozenset({"all", "seen", "sure", "csrfmiddlewaretoken", "after", "before", "sort", "rows"})
SHOWN = 50  # names of a selection that a page lists


@dataclass(frozen=True, slots=True)
class Selection:
    """``names``: of the rows. ``filters``: of the list, by name; None if the rows were checked one by one.

    ``is_confirmed``: the person saw these very rows and sent the form that deletes them. ``is_changed``: the person
    sent it, but other rows match now.
    """

    names: list[str]
    filters: dict[str, str] | None = None
    is_confirmed: bool = False
    is_changed: bool = False

    @property
    def shown(self) -> list[str]:
        """The names that a page lists."""
        return self.names if self.filters is None else self.names[:SHOWN]

    @property
    def more(self) -> int:
        """How many names a page leaves out."""
        return len(self.names) - len(self.shown)

    @property
    def fields(self) -> dict[str, str]:
        """The hidden fields of the form that deletes all that match."""
        return {"all": "yes", "seen": _fingerprint(self.names), **(self.filters or {})}


def selected(request: HttpRequest, field: str, matching: Callable[[QueryDict], Iterable[str]]) -> Selection:
    """What the form chose. ``field``: the name of its checkboxes. ``matching``: the names of all rows that match.

    Rows that were added after the person looked are not deleted: the form holds a hash of the names that it showed.
    """
    given = request.POST if request.method == "POST" else request.GET
    is_sent = request.method == "POST" and bool(given.get("sure"))
    if not given.get("all"):
        return Selection(given.getlist(field), is_confirmed=is_sent)
    names = list(matching(given))
    is_same = given.get("seen") == _fingerprint(names)
    filters = {name: given[name] for name in given if given[name] and name not in {*NO_FILTERS, field}}
    return Selection(names, filters, is_confirmed=is_sent and is_same, is_changed=is_sent and not is_same)


def _fingerprint(names: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()
