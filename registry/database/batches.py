"""Long lists in parts: a query has a limit of parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Value = TypeVar("Value")


def in_batches(values: Sequence[Value], size: int) -> Iterator[Sequence[Value]]:
    """The values in order, at most ``size`` at a time."""
    return (values[start : start + size] for start in range(0, len(values), size))
