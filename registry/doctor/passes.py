"""Passes to the diagnostic address of the registry API (``registry.v2.diagnostics``).

A pass is a time, signed with KCR_SECRET_KEY. It opens nothing but that address, for half an hour, and names no user.
"""

from __future__ import annotations

import time

from django.core import signing

SCHEME = "kcr-doctor"
LIFETIME = 1800.0  # seconds, into the past and the future: the clocks of two machines may differ
_SALT = "registry.doctor"


def issue() -> str:
    """Return the value of an Authorization header."""
    return f"{SCHEME} {signing.dumps(time.time(), salt=_SALT)}"


def is_valid(header: str) -> bool:
    """Whether an Authorization header has a pass that was made in the last half hour."""
    scheme, _, value = header.partition(" ")
    if scheme.lower() != SCHEME:
        return False
    try:
        made_at = signing.loads(value, salt=_SALT)
    except signing.BadSignature:
        return False
    return isinstance(made_at, float) and abs(time.time() - made_at) < LIFETIME
