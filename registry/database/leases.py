"""Times in rows that say how long a process has a piece of work.

Each lease has a longest time. A row with a later end was written while the clock of a machine was ahead; it counts as
ended, so that setting a clock back does not stop the work for that long. Clocks of two machines may differ by the
longest time of a lease. A process whose lease was taken from it notices that when it writes to the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import Q

if TYPE_CHECKING:
    from datetime import datetime, timedelta


def is_over(field: str, now: datetime, longest: timedelta) -> Q:
    """Whether the lease that ends at ``field`` has ended. ``longest``: how long a lease lasts."""
    return Q(**{f"{field}__lt": now}) | Q(**{f"{field}__gt": now + 2 * longest})


def is_stale(field: str, now: datetime, longest: timedelta) -> Q:
    """Whether the last sign of life in ``field`` is older than ``longest``."""
    return Q(**{f"{field}__lt": now - longest}) | Q(**{f"{field}__gt": now + longest})
