"""Natural order of names: 1.9 before 1.10, 1.2.0-rc.1 before 1.2.0."""

from __future__ import annotations

import re

_PRE_RELEASE = re.compile(
    r"(?<=[0-9])[-._]?(?:"
    r"(alpha|beta|canary|cr|dev|ea|milestone|nightly|pre|preview|rc|snapshot)(?![a-z])"
    r"|([ab])(?=[0-9]+(?:[-._]|$)))"  # as Python writes them: 3.13.0b2
)
_NUMBER = re.compile(r"[0-9]+")
# In the order of their bytes: a pre-release, then the end of the name, then all that a name may go on with (- . 0 a).
_BEFORE_END, _END = "!", "$"
MAX_LENGTH = 400  # of the key of a tag: three characters more for each of up to 64 numbers


def natural_key(name: str) -> str:
    """Return a text whose order by byte is the natural order of names in ASCII. Upper and lower case do not differ.

    Each number has its length before it, so longer numbers are greater. ``rc``, ``beta`` and the like after a number
    come before the name that ends there; a variant such as ``-alpine`` comes after it. Names that differ only in case
    or in leading zeros have the same key.
    """
    marked = _PRE_RELEASE.sub(rf"{_BEFORE_END}\1\2", name.lower())
    return _NUMBER.sub(_with_length, marked) + _END


def _with_length(number: re.Match[str]) -> str:
    digits = number[0].lstrip("0")
    return f"{len(digits):03}{digits}"
