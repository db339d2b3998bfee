"""Lists that are searched, sorted and paged by keyset: as quick on the last page as on the first."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from django.core.exceptions import FieldError, ValidationError
from django.db.models import Model, Q

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.models import QuerySet


Entry = TypeVar("Entry")
Row = TypeVar("Row", bound=Model)
PAGE = 50
# Errors of a forged cursor: its text, number or time may not fit the column.
_UNREADABLE = (ValueError, TypeError, OverflowError, ValidationError, FieldError)


@dataclass(frozen=True, slots=True)
class Listing(Generic[Entry]):
    """One page of a list.

    ``newer`` and ``older`` are the cursors of the pages before and after it, "" if there is none. ``is_narrowed``: a
    search, a filter or a cursor may have left rows out.
    """

    rows: list[Entry]
    sort: str = ""
    newer: str = ""
    older: str = ""
    search: str = ""
    is_default_sort: bool = True
    is_narrowed: bool = False

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
    size: int = PAGE,
) -> Listing[Row]:
    """The page of ``found`` that the query string asks for.

    ``sorts``: name in the URL -> field, with "-" for falling; the first is the default, and names that are not in it
    mean the default. Rows with equal fields are ordered by id. A cursor that cannot be read means the first page.
    """
    sort = wanted.get("sort", "")
    sort = sort if sort in sorts else next(iter(sorts))
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
        return page(found, {"sort": sort}, sorts, search=search, is_filtered=is_filtered, size=size)
    has_more, rows = len(rows) > size, rows[:size]
    if backwards:
        rows.reverse()
    before = has_more if backwards else cursor is not None
    after = backwards or has_more
    return Listing(
        rows,
        sort,
        newer=_write(rows[0], field) if rows and before else "",
        older=_write(rows[-1], field) if rows and after else "",
        search=search,
        is_default_sort=sort == next(iter(sorts)),
        is_narrowed=bool(search) or is_filtered or cursor is not None,
    )


def identifier(text: str | None) -> int | None:
    """The id of a row that an address or a form holds; None if the text is no id."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None


def _beyond(found: QuerySet[Row], field: str, cursor: tuple[Any, int], *, descending: bool) -> QuerySet[Row]:
    value, pk = cursor
    than = "lt" if descending else "gt"
    if field == "pk":
        return found.filter(**{f"pk__{than}": pk})
    return found.filter(Q(**{f"{field}__{than}": value}) | Q(**{field: value, f"pk__{than}": pk}))


def _write(row: Model, field: str) -> str:
    value: Any = row
    for step in field.split("__"):
        value = getattr(value, step)
    text = value.isoformat() if isinstance(value, datetime) else value
    return base64.urlsafe_b64encode(json.dumps([text, row.pk]).encode()).decode().rstrip("=")


def _read(text: str) -> tuple[Any, int] | None:
    try:
        value, pk = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError, RecursionError, binascii.Error):
        return None
    is_text = isinstance(value, str) and "\0" not in value
    return (value, pk) if (is_text or _is_number(value)) and isinstance(pk, int) and _is_number(pk) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and abs(value) < 2**62  # what columns hold; not NaN, not infinite
