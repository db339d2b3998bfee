"""What is known of pulls: the one place where policies ask when a tag was wanted last."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from registry.models import Repository


def counted_since(repository: Repository) -> datetime | None:
    """From when on the pulls of the repository are known; None: they are not counted.

    What was not pulled in a time that nobody looked at is unknown, not unused: no rule may take it for that.
    """
    return None


def last_pulls(repository: Repository) -> dict[int, datetime]:
    """By the id of a tag's row, when that meaning was pulled last; those without a known pull are left out."""
    return {}
