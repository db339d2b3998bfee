"""The address of the client that a request comes from, behind trusted proxies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.conf import settings

from accounts.networks import parsed

if TYPE_CHECKING:
    from collections.abc import Mapping


def address_of(environ: Mapping[str, Any]) -> str:
    """Return the nearest address that is no trusted proxy (KCR_TRUSTED_PROXIES); REMOTE_ADDR if there is none.

    ``environ`` is that of WSGI. X-Forwarded-For is read from its end, as far as trusted proxies wrote it.
    """
    hops = [environ.get("REMOTE_ADDR", "")]
    if settings.TRUSTED_PROXIES:
        hops = [*environ.get("HTTP_X_FORWARDED_FOR", "").split(","), *hops]
    for hop in reversed(hops):
        try:
            address = str(parsed(hop.strip()))
        except ValueError:
            break
        if not is_trusted(address):
            return address
    return str(environ.get("REMOTE_ADDR", ""))


def is_private(address: str) -> bool:
    """Whether this is an address of this machine or of a private network."""
    try:
        return parsed(address).is_private
    except ValueError:
        return False


def is_trusted(hop: str) -> bool:
    """Whether this is the address of a trusted proxy (KCR_TRUSTED_PROXIES)."""
    try:
        return any(parsed(hop) in network for network in settings.TRUSTED_PROXIES)
    except ValueError:
        return False
