"""The network that a client's address is counted by: limits would not hold for a client with a whole IPv6 network."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

NETWORK, BLOCK = 64, 48  # prefixes: what a provider gives to one customer, and to a larger one


@lru_cache(maxsize=4096)
def parsed(address: str) -> IPv4Address | IPv6Address:
    """The address; an IPv4 address that is written as IPv6 (::ffff:192.0.2.1) becomes IPv4. Raises ValueError."""
    found = ip_address(address.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found


@lru_cache(maxsize=4096)
def network_of(address: str, prefix: int = NETWORK) -> str:
    """An IPv4 address itself, the network of an IPv6 address; other texts unchanged."""
    try:
        found = parsed(address)
    except ValueError:
        return address
    return str(found) if found.version == 4 else str(ip_network((found, prefix), strict=False))
