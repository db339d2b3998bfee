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
    return _spellings().get(text.strip().replace(" ", "_").casefold())


@cache
def _spellings() -> dict[str, str]:
    """{place or name in lower case: name}. Every page looks up the zone of its browser here."""
    found: dict[str, str] = {}
    for name in names():
        found.setdefault(name.rpartition("/")[2].casefold(), name)
    return found | {name.casefold(): name for name in names()}


def of_user(user: User) -> ZoneInfo:
    """The zone of a user's profile; without one, that of the browser they used last; without one, UTC."""
    return ZoneInfo(find(user.time_zone or user.browser_time_zone or UTC) or UTC)
