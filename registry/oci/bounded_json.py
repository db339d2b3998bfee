"""Parse untrusted JSON with bounded time and memory.

The cost of a document depends on its number of values, not its length: 4 MB of ``[],[],...`` are a million lists, take
seconds and a hundred megabytes. Each value except the first follows a ``{``, ``[`` or ``,``, so counting these bytes
bounds the number of values before parsing.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_STRUCTURE = 100_000  # an index with 4,000 entries and all optional fields has less than 70,000
LARGE = 256 * 1024
LARGE_AT_ONCE = 2

_turns = BoundedSemaphore(LARGE_AT_ONCE)


class TooComplex(ValueError):
    """The document has too many values."""


def check(content: bytes) -> None:
    """Raises TooComplex for more than MAX_STRUCTURE of ``{``, ``[`` and ``,``, also inside strings."""
    if sum(map(content.count, (b"{", b"[", b","))) > MAX_STRUCTURE:
        raise TooComplex(f"more than {MAX_STRUCTURE:,} of {{, [ and , together")


@contextmanager
def turn(content: bytes) -> Iterator[None]:
    """Let at most LARGE_AT_ONCE threads parse large documents: each needs several times its size in memory."""
    if len(content) <= LARGE:
        yield
        return
    with _turns:
        yield


def load(content: bytes | str, **hooks: Any) -> Any:
    """``json.loads`` that raises ValueError also for JSON that is nested too deeply."""
    try:
        return json.loads(content, **hooks)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
