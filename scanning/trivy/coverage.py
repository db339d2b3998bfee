"""Decides whether the vulnerability database covers the operating system of an image.

Trivy finds nothing, and does not fail, in a system or release that the database has no rows for. So two facts are
compared: the rows that Trivy looked up, from its log, and the sources that the database has, from ``trivy.db``. No list
of systems is needed here.

``trivy.db`` is a bbolt file, and each source is a bucket at its root: "debian 12", "Oracle Linux 9", "Red Hat",
"npm::GitHub Security Advisory npm". There is no bbolt reader for Python, so this module reads the names at the root.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# A meta page of a bbolt file: magic, version, page size, number of the root page, number of pages, transaction. A file
# has two; the one of the newer transaction counts, if its checksum (64-bit FNV-1a) is right.
_META = struct.Struct("<16x I I I 4x Q 8x 8x Q Q Q")
_META_BODY = slice(16, 72)
_MAGIC = 0xED0CDAED
# The head of a page: kind, number of entries, number of overflow pages. An entry of a leaf: position and length of its
# name. An entry of a branch: position and length of a name, number of a page.
_PAGE, _LEAF_ENTRY, _BRANCH_ENTRY = struct.Struct("<8x H H I"), struct.Struct("<4x I I 4x"), struct.Struct("<I I Q")
_BRANCH, _LEAF = 1, 2
_MAX_PAGES = 4096  # of the root; the public database has some ten
_NO_SOURCES = frozenset({"vulnerability", "data-source"})

_LOOKUP = re.compile(r"\[(?P<family>[^\]\s]+)\] Detecting [^\t\n]*\.\.\.(?P<facts>[^\n]*)")
_RELEASE = re.compile(r'\b(?:os_)?version="([^"]*)"')
_PACKAGES = re.compile(r"\bpkg_num=(\d+)")
# Families whose rows have another name. The others differ in case, signs and endings only ("photon": "Photon OS 5.0").
_NAMES = {"centos": "redhat", "sles": "suselinuxenterprise", "slem": "suselinuxenterprisemicro"}
_ENDINGS = ("", "linux", "os")
# Trivy finds rows of Red Hat by content sets, and knows those of these releases if the image does not name its own.
_RED_HAT, _RED_HAT_RELEASES, _CONTENT_SET = "redhat", {"6", "7", "8", "9"}, b'"aquasecurity:trivy:ContentSet"'


class Damaged(ValueError):
    """The file is not a whole bbolt file."""


@lru_cache(maxsize=4)
def sources(path: Path) -> frozenset[str]:
    """The names of the sources in a ``trivy.db``, which never changes. Raises Damaged, OSError."""
    with path.open("rb") as file:
        page_size, root, pages = _newest_meta(file)
        if path.stat().st_size < pages * page_size:
            raise Damaged("it is cut off")
        found, due, seen = set[str](), [root], 0
        while due:
            number, seen = due.pop(), seen + 1
            if number >= pages or seen > _MAX_PAGES:
                raise Damaged("its first pages are damaged")
            names, more = _read_page(file, number, page_size, pages)
            found |= names
            due += more
    return frozenset(found - _NO_SOURCES)


def covers(known: frozenset[str], family: str, name: str, log: str, sbom: bytes) -> bool:
    """Whether a run of Trivy looked up rows of the image's own release that are in the database.

    ``family`` and ``name``: the system as the report has it ("debian", "12.5"). ``log``: what the run logged. False
    also if Trivy found no package of the system to look up.
    """
    for lookup in _LOOKUP.finditer(log):
        number, release = _PACKAGES.search(lookup["facts"]), _RELEASE.search(lookup["facts"])
        if lookup["family"] != family or (number and number[1] == "0"):
            continue
        version = release[1] if release else ""
        # An unknown Amazon Linux is looked up as another release.
        if name.startswith(version) and _has_rows(known, family, version, sbom):
            return True
    return False


def _has_rows(known: frozenset[str], family: str, release: str, sbom: bytes) -> bool:
    wanted = _NAMES.get(family, _letters(family))
    if wanted == _RED_HAT and release not in _RED_HAT_RELEASES and _CONTENT_SET not in sbom:
        return False
    ending = f" {release}"
    spelled = {_letters(each.removesuffix(ending)) for each in known}  # a rolling system has rows without a release
    return any(wanted + each in spelled for each in _ENDINGS)


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


# ── bbolt ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _newest_meta(file: IO[bytes]) -> tuple[int, int, int]:
    """Page size, number of the root page, number of pages. Raises Damaged."""
    metas = []
    size = 0
    for number in (0, 1):
        file.seek(number * size)
        page = file.read(_META.size)
        if len(page) < _META.size:
            break
        magic, _, page_size, root, pages, transaction, checksum = _META.unpack(page)
        if magic == _MAGIC and checksum == _checksum(page[_META_BODY]) and 0 < page_size <= 1024**2:
            metas.append((transaction, page_size, root, pages))
            size = page_size
        elif number == 0:
            break
    if not metas:
        raise Damaged("it is not a bbolt file")
    return max(metas)[1:]


def _checksum(body: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in body:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def _read_page(file: IO[bytes], number: int, page_size: int, pages: int) -> tuple[set[str], list[int]]:
    """The names on a page of the root, and the numbers of the pages below it. Raises Damaged."""
    file.seek(number * page_size)
    page = file.read(page_size)
    try:
        kind, entries, overflow = _PAGE.unpack_from(page)
        if kind not in {_BRANCH, _LEAF} or overflow > min(pages, _MAX_PAGES):
            raise Damaged("its first pages are damaged")
        page += file.read(overflow * page_size)
        entry = _LEAF_ENTRY if kind == _LEAF else _BRANCH_ENTRY
        places = [_PAGE.size + place * entry.size for place in range(entries)]
        if kind == _BRANCH:
            return set(), [entry.unpack_from(page, place)[2] for place in places]
        found = [(place, *entry.unpack_from(page, place)) for place in places]
    except struct.error as error:  # the page is shorter than its head says
        raise Damaged("its first pages are damaged") from error
    return {page[place + at : place + at + length].decode(errors="replace") for place, at, length in found}, []
