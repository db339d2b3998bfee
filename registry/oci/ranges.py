"""Byte ranges: of downloads (RFC 9110, section 14) and of upload chunks (distribution-spec 1.1, "Pushing blobs")."""

from __future__ import annotations

import re

_DOWNLOAD = re.compile(r"bytes=(?:([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19}))", re.ASCII)
_CHUNK = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII)


class Unsatisfiable(ValueError):
    """The range has no byte of the content, or a chunk's range cannot be read."""


def of_download(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte (inclusive) that a Range header asks for; None means all of the content.

    Several ranges at once, other units and what is not a range at all are answered with everything, as RFC 9110
    allows. Raises Unsatisfiable.
    """
    match = _DOWNLOAD.fullmatch(header.replace(" ", ""))
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        start, end = max(0, size - int(suffix)), size - 1
    else:
        start, end = int(first), min(int(last) if last else size - 1, size - 1)
    if start >= size or start > end:
        raise Unsatisfiable(f"the content has {size} bytes")
    return start, end


def of_chunk(header: str) -> tuple[int, int]:
    """First and last byte (inclusive) of an upload chunk's Content-Range. Raises Unsatisfiable."""
    match = _CHUNK.fullmatch(header)
    if match is None or int(match[2]) < int(match[1]):
        raise Unsatisfiable("Content-Range of a chunk has the form <first byte>-<last byte>")
    return int(match[1]), int(match[2])
