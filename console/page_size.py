"""How many rows of a list a page shows: a person chooses it in the query string (``rows``), and a cookie keeps it."""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT = 50
SIZES = (25, DEFAULT, 100)
COOKIE = "kcr_rows"

_kept: ContextVar[int] = ContextVar("kept", default=DEFAULT)


def read(text: str | None) -> int | None:
    """The size that a query string or a cookie holds; None if it is none of SIZES."""
    return next((size for size in SIZES if text == str(size)), None)


def kept() -> int:
    """The size of lists whose query string chooses none, in this request."""
    return _kept.get()


@contextmanager
def override(text: str | None) -> Iterator[None]:
    """Keep the size of this cookie for the time of a request."""
    token = _kept.set(read(text) or DEFAULT)
    try:
        yield
    finally:
        _kept.reset(token)
