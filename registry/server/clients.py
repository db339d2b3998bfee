"""Which client a request comes from: its address behind trusted proxies, and the network that shares are counted by."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any

from django.conf import settings

if TYPE_CHECKING:
    from collections.abc import Mapping

IPV6_PREFIX = 64  # what a provider gives to one customer


def address_of(environ: Mapping[str, Any]) -> str:
    """The nearest address that is no trusted proxy (KCR_TRUSTED_PROXIES); REMOTE_ADDR when none can be read.

    ``environ`` is that of WSGI. X-Forwarded-For is read from its end, and only as long as trusted proxies wrote it.
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


def is_trusted(hop: str) -> bool:
    """Whether this is the address of a trusted proxy (KCR_TRUSTED_PROXIES)."""
    try:
        return any(parsed(hop) in network for network in settings.TRUSTED_PROXIES)
    except ValueError:
        return False


def parsed(hop: str) -> IPv4Address | IPv6Address:
    """The address; an IPv4 address that is written as IPv6 (::ffff:192.0.2.1) becomes IPv4. Raises ValueError."""
    address = ip_address(hop)
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=4096)
def network_of(address: str) -> str:
    """The key that shares are counted by: an IPv4 address itself, the /64 of an IPv6 address, other texts unchanged."""
    try:
        found = parsed(address)
    except ValueError:
        return address
    return str(found) if found.version == 4 else str(ip_network((found, IPV6_PREFIX), strict=False))
