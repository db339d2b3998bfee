"""How many requests an access key may send: counted by minute, by all processes together when there is a Redis."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from django.conf import settings

from accounts.redis import shared
from registry import errors

if TYPE_CHECKING:
    from accounts.actors import Actor

SECONDS = 60


@dataclass(frozen=True, slots=True)
class Rate:
    """What a key has left of its requests, and when (seconds) it has all of them again."""

    most: int
    left: int
    seconds: int

    @property
    def headers(self) -> dict[str, str]:
        """The header fields of draft-ietf-httpapi-ratelimit-headers."""
        return {
            "RateLimit-Policy": f'"key";q={self.most};w={SECONDS}',
            "RateLimit": f'"key";r={max(0, self.left)};t={self.seconds}',
        }


def count(actor: Actor) -> Rate:
    """Count a request of the actor's key."""
    now, most = time.time(), settings.API_RATE
    number = shared.count(f"kcr:api:{actor.key_id}:{int(now // SECONDS)}", SECONDS)
    return Rate(most, most - number, SECONDS - int(now % SECONDS))


def require(rate: Rate) -> None:
    """Raises TooManyRequests when nothing is left."""
    if rate.left < 0:
        raise errors.TooManyRequests(
            f"this access key has sent its {rate.most} requests of this minute", detail={"seconds": rate.seconds}
        )
