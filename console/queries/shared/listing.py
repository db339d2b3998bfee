"""Lists that are searched, sorted and paged by keyset: as quick on the last page as on the first."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from django.core.exceptions import FieldError, ValidationError
from django.db.models import Model, Q

from console import page_size
from registry.natural import natural_key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.models import QuerySet


Entry = TypeVar("Entry")
Row = TypeVar("Row", bound=Model)
NAMES = frozenset({"name", "path"})
# Errors of a forged cursor: its text, number or time may not fit the column.
_UNREADABLE = (ValueError, TypeError, OverflowError, ValidationError, FieldError)


class _Cursor(NamedTuple):
    """Where a page begins or ends: the row's value and id, and how many rows are before the page's edge.

    After a page: up to and with its last row. Before a page: those before its first row.
    """

    value: Any
    pk: int
    passed: int


@dataclass(frozen=True, slots=True)
class Listing(Generic[Entry]):
    """One page of a list.

    ``newer`` and ``older`` are the cursors of the pages before and after it, "" if there is none. ``first``: the place
    of the first row in the list; rows that were added or removed since the person saw the first page shift it.
    ``found``: all rows that match, None if ``rows`` are all. ``is_narrowed``: a search, a filter or a cursor may have
    left rows out; ``is_filtered``: a search or a filter.
    """

    rows: list[Entry]
    found: QuerySet[Any] | None = None
    first: int = 1
    size: int = page_size.DEFAULT
    sort: str = ""
    newer: str = ""
    older: str = ""
    search: str = ""
    is_default_sort: bool = True
    is_narrowed: bool = False
    is_filtered: bool = False

    @property
    def last(self) -> int:
        """The place of the last row in the list."""
        return self.first + len(self.rows) - 1

    @property
    def may_choose_size(self) -> bool:
        """Whether another number of rows could change the page."""
        return not self.is_whole or len(self.rows) > page_size.SIZES[0]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of rows that a person may choose."""
        return page_size.SIZES

    def matching(self) -> int:
        """How many rows match the search and the filters. One query, none if the page shows all of them."""
        return self.found.count() if self.found is not None and not self.is_whole else len(self.rows)

    @property
    def is_whole(self) -> bool:
        """Whether this page is all there is."""
        return not self.newer and not self.older


def page(
    found: QuerySet[Row],
    wanted: Mapping[str, str],
    sorts: Mapping[str, str],
    *,
    search: str = "",
    is_filtered: bool = False,
) -> Listing[Row]:
    """The page of ``found`` that the query string asks for; ``rows`` in it is its size (``page_size``).

    ``sorts``: name in the URL -> field, with "-" for falling; the first is the default, and names that are not in it
    mean the default. Rows with equal fields are ordered by id. A list by name is in natural order if it fits on a page.
    A cursor that cannot be read means the first page.
    """
    sort = wanted.get("sort", "")
    sort = sort if sort in sorts else next(iter(sorts))
    size = page_size.read(wanted.get("rows")) or page_size.kept()
    field, falls = sorts[sort].lstrip("-"), sorts[sort].startswith("-")
    backwards = "before" in wanted
    cursor = _read(wanted.get("before", "") or wanted.get("after", ""))
    backwards = backwards and cursor is not None
    descending = falls != backwards
    sign = "-" if descending else ""
    order = [f"{sign}{field}"] if field == "pk" else [f"{sign}{field}", f"{sign}pk"]
    try:
        rest = found if cursor is None else _beyond(found, field, cursor, descending=descending)
        rows = list(rest.order_by(*order)[: size + 1])
    except _UNREADABLE:
        if cursor is None:
            raise
        first_page = {"sort": sort, "rows": str(size)}
        return page(found, first_page, sorts, search=search, is_filtered=is_filtered)
    has_more, rows = len(rows) > size, rows[:size]
    if backwards:
        rows.reverse()
    before = has_more if backwards else cursor is not None
    after = backwards or has_more
    if field in NAMES and not before and not after:
        rows.sort(key=lambda row: natural_key(getattr(row, field)), reverse=falls)
    passed = cursor.passed if cursor else 0
    first = max(1, passed - len(rows) + 1) if backwards else passed + 1
    first = first if before else 1
    return Listing(
        rows,
        found,
        first=first,
        size=size,
        sort=sort,
        newer=_write(rows[0], field, first - 1) if rows and before else "",
        older=_write(rows[-1], field, first + len(rows) - 1) if rows and after else "",
        search=search,
        is_default_sort=sort == next(iter(sorts)),
        is_narrowed=bool(search) or is_filtered or cursor is not None,
        is_filtered=bool(search) or is_filtered,
    )


def identifier(text: str | None) -> int | None:
    """The id of a row that an address or a form holds; None if the text is no id."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None


def _beyond(found: QuerySet[Row], field: str, cursor: _Cursor, *, descending: bool) -> QuerySet[Row]:
    value, pk, _ = cursor
    than = "lt" if descending else "gt"
    if field == "pk":
        return found.filter(**{f"pk__{than}": pk})
    return found.filter(Q(**{f"{field}__{than}": value}) | Q(**{field: value, f"pk__{than}": pk}))


def _write(row: Model, field: str, passed: int) -> str:
    value: Any = row
    for step in field.split("__"):
        value = getattr(value, step)
    text = value.isoformat() if isinstance(value, datetime) else value
    return base64.urlsafe_b64encode(json.dumps([text, row.pk, passed]).encode()).decode().rstrip("=")


def _read(text: str) -> _Cursor | None:
    try:
        value, pk, passed = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError, RecursionError, binascii.Error):
        return None
    is_text = isinstance(value, str) and "\0" not in value
    if (is_text or _is_number(value)) and all(isinstance(each, int) and _is_number(each) for each in (pk, passed)):
        return _Cursor(value, pk, passed)
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 2**62  # what columns hold; not NaN, not infinite
