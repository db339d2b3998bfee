"""Byte ranges: of downloads (RFC 9110, section 14) and of upload chunks (distribution-spec 1.1, "Pushing blobs")."""

from __future__ import annotations

import re

MAX_RANGES = 1_000

_DOWNLOAD = re.compile(r"([0-9]{1,19})-([0-9]{0,19})|-([0-9]{1,19})", re.ASCII)
_CHUNK = re.compile(r"([0-9]{1,19})-([0-9]{1,19})", re.ASCII)


class Unsatisfiable(ValueError):
    """No range overlaps the content, or the range of a chunk is invalid."""


def of_download(header: str, size: int) -> list[tuple[int, int]]:
    """Return first and last byte (inclusive) of each range of a Range header; an empty list means the whole content.

    Also return an empty list for other units, an invalid header, more than MAX_RANGES, and ranges that together are
    longer than the content. Raises Unsatisfiable.
    """
    unit, _, text = header.replace(" ", "").partition("=")
    matches = [_DOWNLOAD.fullmatch(part) for part in text.split(",", MAX_RANGES)]
    if unit != "bytes" or not all(matches) or len(matches) > MAX_RANGES:
        return []
    asked = [_limits(match, size) for match in matches if match]
    found = [(start, end) for start, end in asked if start <= end and start < size]
    if not found:
        raise Unsatisfiable(f"the content has {size} bytes")
    return found if sum(end - start + 1 for start, end in found) <= size else []


def _limits(match: re.Match[str], size: int) -> tuple[int, int]:
    first, last, suffix = match.groups()
    if suffix is not None:
        return max(0, size - int(suffix)), size - 1 if int(suffix) else -1
    return int(first), min(int(last) if last else size - 1, size - 1)


def of_chunk(header: str) -> tuple[int, int]:
    """First and last byte (inclusive) of an upload chunk's Content-Range. Raises Unsatisfiable."""
    match = _CHUNK.fullmatch(header)
    if match is None or int(match[2]) < int(match[1]):
        raise Unsatisfiable("Content-Range of a chunk has the form <first byte>-<last byte>")
    return int(match[1]), int(match[2])
