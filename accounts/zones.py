"""Time zones by their IANA names, such as ``Asia/Seoul``."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, available_timezones

if TYPE_CHECKING:
    from .models import User

UTC = "UTC"


@cache
def names() -> tuple[str, ...]:
    """The zones that have a region and a place, and UTC. The first call reads the disk."""
    return (UTC, *sorted(name for name in available_timezones() if "/" in name))


def find(text: str) -> str | None:
    """The zone of this name in any case, or the first one whose place has it ("seoul", "new york"); None for others."""
    wanted = text.strip().replace(" ", "_").casefold()
    found = [name for name in names() if wanted in {name.casefold(), name.rpartition("/")[2].casefold()}]
    return next((name for name in found if name.casefold() == wanted), found[0] if found else None)


def of_user(user: User) -> ZoneInfo:
    """The zone of a user's profile; without one, that of the browser they used last; without one, UTC."""
    return ZoneInfo(find(user.time_zone or user.browser_time_zone or UTC) or UTC)
