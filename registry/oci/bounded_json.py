"""JSON that strangers wrote, read at a bounded cost.

The cost of a document is the number of its values, not its length: four million bytes of ``[],[],...`` are a million
lists, seconds of the interpreter and a hundred megabytes. Each value but the first follows one of ``{``, ``[`` and
``,``, so counting these bytes bounds the number before anything is built.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_STRUCTURE = 100_000  # an index of 4,000 entries with everything that an entry can have is below 70,000
LARGE = 256 * 1024
LARGE_AT_ONCE = 2

_turns = BoundedSemaphore(LARGE_AT_ONCE)


class TooComplex(ValueError):
    """The document has too many values to be read."""


def check(content: bytes) -> None:
    """Raises TooComplex for more than MAX_STRUCTURE of ``{``, ``[`` and ``,``, those within texts included."""
    if sum(map(content.count, (b"{", b"[", b","))) > MAX_STRUCTURE:
        raise TooComplex(f"more than {MAX_STRUCTURE:,} of {{, [ and , together")


@contextmanager
def turn(content: bytes) -> Iterator[None]:
    """Wait until few others of this process read a large document: each needs several times its size in memory."""
    if len(content) <= LARGE:
        yield
        return
    with _turns:
        yield


def load(content: bytes | str, **hooks: Any) -> Any:
    """``json.loads`` that raises nothing but ValueError: nesting that is too deep is one of its causes."""
    try:
        return json.loads(content, **hooks)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
