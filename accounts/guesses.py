"""The limit on guessing secrets: failures are counted for five minutes, by account and by network.

An IPv6 address counts for its /64, which a provider gives to one customer, and for its /48 with a higher limit. A
network has two counts, one of passwords and one of access keys. The secret of a key cannot be guessed, so a client that
repeats a stale key does not keep the people of its network from signing in.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db.models import Count, Q
from django.utils import timezone

from .models import SignInFailure
from .networks import BLOCK, network_of

if TYPE_CHECKING:
    from .models import SignInFailureQuerySet

ALLOWED = 10  # failures of an account or a network
ALLOWED_AT_HOME = 100  # failures of a network, for an account that signed in from there lately
ALLOWED_IN_BLOCK = 100
WINDOW = timedelta(minutes=5)


class WrongCredentials(Exception):
    """The name and the secret do not belong together. The message may be shown."""


class Slowed(Exception):
    """The attempt was refused: try again later. The only argument is the number of seconds to wait."""

    @property
    def seconds(self) -> int:
        """How long to wait, at least 1."""
        return max(1, int(self.args[0]))


class TooManyFailures(Slowed):
    """Too many wrong secrets from this network lately."""


class TooManyForAccount(TooManyFailures):
    """Too many wrong secrets for this account, from any network."""


def recent() -> SignInFailureQuerySet:
    """The failures that count now."""
    return SignInFailure.objects.since(timezone.now() - WINDOW)


def _counted_as(address: str) -> dict[str, str]:
    """The networks of an address, as SignInFailure has them: never empty, which means no address."""
    networks = {"address": network_of(address), "block": network_of(address, BLOCK)}
    return {name: network[:45] or "unknown" for name, network in networks.items()}


def begin(account: str, address: str | None, *, of_key: bool = False, is_at_home: bool = False) -> SignInFailure:
    """Count an attempt as a failure before its secret is checked; the caller deletes the row if the secret is right.

    Each attempt writes its row first and counts afterwards, so many attempts at once do not pass the limit together.
    With ``address`` None only the account is counted. ``is_at_home``: the network may have had ALLOWED_AT_HOME.
    Raises TooManyFailures.
    """
    _require_room(account, address, of_key, is_at_home)  # most refusals write nothing
    attempt = _count(account, address, of_key)
    try:
        _require_room(account, address, of_key, is_at_home, own=1)
    except TooManyFailures:
        attempt.delete()
        raise
    return attempt


def require_room_for(attempt: SignInFailure) -> None:
    """Raises TooManyFailures when the network of this attempt had too many wrong passwords before it."""
    of_network = recent().filter(address=attempt.address, of_key=False)
    if of_network.exclude(pk=attempt.pk).count() >= ALLOWED:
        raise TooManyFailures(_seconds_to_wait(of_network, ALLOWED))


def forget() -> int:
    """Delete failures that no longer count; returns how many."""
    return SignInFailure.objects.filter(at__lt=timezone.now() - WINDOW).delete()[0]


def _count(account: str, address: str | None, of_key: bool) -> SignInFailure:
    where = {} if address is None else _counted_as(address)
    return SignInFailure.objects.create(account=_hashed(account), of_key=of_key, **where)


def _hashed(account: str) -> str:
    """The account is kept as a hash only: people type their password into the field for the name."""
    return hashlib.sha256(account.lower().encode("utf-8", "surrogatepass")).hexdigest()


def _require_room(account: str, address: str | None, of_key: bool, is_at_home: bool, own: int = 0) -> None:
    """One query. The network's limit is checked before the account's: its users need to know that waiting helps."""
    limits: dict[str, tuple[Q, int, type[TooManyFailures]]] = {}
    if address is not None:
        networks = _counted_as(address)
        limits["network"] = (Q(address=networks["address"], of_key=of_key), ALLOWED, TooManyFailures)
        limits["block"] = (Q(block=networks["block"], of_key=of_key), ALLOWED_IN_BLOCK, TooManyFailures)
    refusal = TooManyFailures if address is None else TooManyForAccount
    limits["account"] = (Q(account=_hashed(account)), ALLOWED, refusal)
    counted = recent().aggregate(**{name: Count("pk", filter=which) for name, (which, _, _) in limits.items()})
    exceeded = [name for name, (_, allowed, _) in limits.items() if counted[name] - own >= allowed]
    if is_at_home and exceeded == ["network"] and counted["network"] - own < ALLOWED_AT_HOME:
        return
    if exceeded:
        which, allowed, kind = limits[exceeded[0]]
        raise kind(_seconds_to_wait(recent().filter(which), allowed))


def _seconds_to_wait(failures: SignInFailureQuerySet, allowed: int) -> float:
    """Until the latest failures are one less than allowed."""
    latest = list(failures.order_by("-at").values_list("at", flat=True)[:allowed])
    oldest = latest[-1] if latest else timezone.now()
    return (oldest + WINDOW - timezone.now()).total_seconds() + 1
