"""How many requests an access key may send: counted by minute, by all processes together when there is a Redis."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accounts.redis import shared
from registry import errors

if TYPE_CHECKING:
    from accounts.actors import Actor

SECONDS = 60
READS, WRITES = 600, 120  # of a key in SECONDS


@dataclass(frozen=True, slots=True)
class Rate:
    """What a key has left of its reads or writes, and when (seconds) it has all of them again."""

    name: str
    most: int
    left: int
    seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """The header fields of draft-ietf-httpapi-ratelimit-headers."""
        return {
            "RateLimit-Policy": f'"{self.name}";q={self.most};w={SECONDS}',
            "RateLimit": f'"{self.name}";r={max(0, self.left)};t={self.seconds}',
        }


def count(actor: Actor, *, is_read: bool) -> Rate:
    """Count a request of the actor's key."""
    now = time.time()
    name, most = ("reads", READS) if is_read else ("writes", WRITES)
    number = shared.count(f"kcr:api:{name}:{actor.key_id}:{int(now // SECONDS)}", SECONDS)
    return Rate(name, most, most - number, SECONDS - int(now % SECONDS))


def require(rate: Rate) -> None:
    """Raises TooManyRequests when nothing is left."""
    if rate.left < 0:
        raise errors.TooManyRequests(
            f"this access key has sent its {rate.most} {rate.name} of this minute", detail={"seconds": rate.seconds}
        )
