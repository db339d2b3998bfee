"""Content digests: ``algorithm:encoded`` (image-spec, descriptor.md, "Digests")."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

# The registered algorithms, and the length of their lower-case hexadecimal form.
HEX_LENGTHS = {"sha256": 64, "sha512": 128}
DEFAULT_ALGORITHM = "sha256"
MAX_LENGTH = 255

_GENERAL = re.compile(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+", re.ASCII)
_HEX = re.compile(r"[a-f0-9]+", re.ASCII)


class InvalidDigest(ValueError):
    """The text is not a digest that this registry can verify."""


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest that this registry can verify. ``str()`` gives the form on the wire."""

    algorithm: str
    encoded: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.encoded}"


def parse(text: str) -> Digest:
    """Parse a digest of stored content: sha256 or sha512, lower-case hexadecimal.

    Raises InvalidDigest with a message for the user.
    """
    algorithm, colon, encoded = text[: MAX_LENGTH + 1].partition(":")
    if not colon:
        raise InvalidDigest("a digest has the form algorithm:hex, for example sha256:…")
    if algorithm not in HEX_LENGTHS:
        raise InvalidDigest(f"digest algorithm must be one of {', '.join(HEX_LENGTHS)}")
    if len(encoded) != HEX_LENGTHS[algorithm] or not _HEX.fullmatch(encoded):
        raise InvalidDigest(f"a {algorithm} digest has {HEX_LENGTHS[algorithm]} lower-case hexadecimal digits")
    return Digest(algorithm, encoded)


def is_digest(text: str) -> bool:
    """Whether a reference is a digest: it has a colon, which tags cannot have."""
    return ":" in text


def is_wellformed(text: str) -> bool:
    """Whether the text matches the general grammar, for digests of content that is not stored here."""
    return len(text) <= MAX_LENGTH and _GENERAL.fullmatch(text) is not None


def new_hash(algorithm: str) -> _Hash:
    """Return a running hash. Raises InvalidDigest for an algorithm that is not registered."""
    if algorithm not in HEX_LENGTHS:
        raise InvalidDigest(f"digest algorithm must be one of {', '.join(HEX_LENGTHS)}")
    return hashlib.new(algorithm)


def of(content: bytes, algorithm: str = DEFAULT_ALGORITHM) -> Digest:
    """Return the digest of the content."""
    return Digest(algorithm, hashlib.new(algorithm, content).hexdigest())


def is_of_nothing(digest: Digest) -> bool:
    """Whether this is the digest of zero bytes."""
    return of(b"", digest.algorithm) == digest
