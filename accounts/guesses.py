"""The brake on guessing: wrong secrets are counted for a while, by account and by address.

An address of IPv6 is counted as its /64, which is what one customer of a provider has, and as its /48 with a higher
limit.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

from django.db.models import Count, Q
from django.utils import timezone

from .models import SignInFailure

if TYPE_CHECKING:
    from .models import SignInFailureQuerySet

ALLOWED = 10  # failures of an account or a network
ALLOWED_IN_BLOCK = 100
WINDOW = timedelta(minutes=5)


class WrongCredentials(Exception):
    """The name and secret do not belong together; the message may be shown."""


class Slowed(Exception):
    """Nothing was looked at: try again later. The only argument is the number of seconds to wait."""

    @property
    def seconds(self) -> int:
        """How long to wait, at least 1."""
        return max(1, int(self.args[0]))


class TooManyFailures(Slowed):
    """Too many wrong secrets lately."""


class TooManyForAccount(TooManyFailures):
    """Too many wrong secrets for this account, wherever they came from."""


def network(address: str) -> str:
    """What an address is counted as: itself, or the /64 of an address of IPv6."""
    return _widened(address, 64)


def block(address: str) -> str:
    """The wider network of an address: itself, or the /48 of an address of IPv6."""
    return _widened(address, 48)


def _widened(address: str, prefix: int) -> str:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:45] or "unknown"
    return str(ip_network((int(found), prefix), strict=False)) if isinstance(found, IPv6Address) else str(found)


def recent() -> SignInFailureQuerySet:
    """The failures that count now."""
    return SignInFailure.objects.since(timezone.now() - WINDOW)


def begin(account: str, address: str | None) -> SignInFailure:
    """Count an attempt as a failure before its secret is looked at; the caller deletes the row if the secret is right.

    Each attempt writes its row first and counts afterwards. So of many attempts at once no more than the limit are
    looked at. With None the account alone is counted. Raises TooManyFailures.
    """
    _require_room(account, address)  # most refusals write nothing
    attempt = _count(account, address)
    try:
        _require_room(account, address, own=1)
    except TooManyFailures:
        attempt.delete()
        raise
    return attempt


def note(account: str, address: str) -> None:
    """Count a failure. Raises TooManyForAccount when the account has had too many, wherever they came from."""
    attempt = _count(account, address)
    if recent().filter(account=attempt.account).count() > ALLOWED:
        raise TooManyForAccount(WINDOW.total_seconds())


def require_room_for(address: str) -> None:
    """Raises TooManyFailures when the network of this address, or its block, has had too many."""
    _require_room(None, address)


def forget() -> int:
    """Delete failures that no longer count; returns how many."""
    return SignInFailure.objects.filter(at__lt=timezone.now() - WINDOW).delete()[0]


def _count(account: str, address: str | None) -> SignInFailure:
    where = {} if address is None else {"address": network(address), "block": block(address)}
    return SignInFailure.objects.create(account=_hashed(account), **where)


def _hashed(account: str) -> str:
    """People type their password into the field for the name: what was typed is not kept."""
    return hashlib.sha256(account.lower().encode("utf-8", "surrogatepass")).hexdigest()


def _require_room(account: str | None, address: str | None, own: int = 0) -> None:
    """One query. The network is named before the account: waiting helps those whose network it is."""
    limits: dict[str, tuple[Q, int, type[TooManyFailures]]] = {}
    if address is not None:
        limits["network"] = (Q(address=network(address)), ALLOWED, TooManyFailures)
        limits["block"] = (Q(block=block(address)), ALLOWED_IN_BLOCK, TooManyFailures)
    if account is not None:
        refusal = TooManyFailures if address is None else TooManyForAccount
        limits["account"] = (Q(account=_hashed(account)), ALLOWED, refusal)
    counted = recent().aggregate(**{name: Count("pk", filter=which) for name, (which, _, _) in limits.items()})
    for name, (which, allowed, kind) in limits.items():
        if counted[name] - own >= allowed:
            raise kind(_seconds_to_wait(which, allowed))


def _seconds_to_wait(which: Q, allowed: int) -> float:
    """Until the latest failures are one less than allowed."""
    latest = list(recent().filter(which).order_by("-at").values_list("at", flat=True)[:allowed])
    oldest = latest[-1] if latest else timezone.now()
    return (oldest + WINDOW - timezone.now()).total_seconds() + 1
