"""The vulnerability database: a folder that is never changed, and a name that points to the newest one.

    <scans>/vulnerability-db/<when it was made>/db/{trivy.db, metadata.json}    a cache folder of Trivy's
                                              /java-db/…
    <scans>/vulnerability-db/current -> <when it was made>

A scan asks once where "current" is and stays there, so it never sees half of another one. A new one becomes current
after Trivy has read it.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import tarfile
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from django.conf import settings
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from accounts.actors import SYSTEM
from registry import blobs, errors, hosts, manifests
from registry.oci import digests, documents, names
from scanning.models import DatabaseRefresh
from scanning.models.scans import Problem
from scanning.trivy import program
from scanning.trivy.program import ScanFailed, Workplace

if TYPE_CHECKING:
    from collections.abc import Iterator

KEPT = 2  # scans that began with the one before may still read it
FILES = ("trivy.db", "metadata.json")
MAX_BYTES = 8 * 1024**3
BLOCK = 1024**2
LAYER_TYPE = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"
# A bbolt file begins with a page that says: magic, version, page size, which page is the root, how many pages.
_META = struct.Struct("<16x I I I 4x Q 8x 8x Q")
_MAGIC = 0xED0CDAED
# A page begins with: its kind, how many entries it has, how many pages more it takes.
# An entry of a leaf says where its name is, and how long.
_PAGE, _ENTRY = struct.Struct("<8x H H I"), struct.Struct("<4x I I 4x")
_LEAF = 2
_NO_PACKAGES = json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []}).encode()


@dataclass(frozen=True, slots=True)
class Database:
    """A database that may be used. ``updated_at``: when its makers made it; ``next_at``: when they promise another."""

    folder: Path
    updated_at: datetime
    next_at: datetime | None

    @property
    def is_stale(self) -> bool:
        """Whether it is so old that results should not be trusted without a look at its age."""
        return timezone.now() - self.updated_at > DatabaseRefresh.STALE


class Refused(ValueError):
    """What was offered is not a vulnerability database that can be used; the message says why."""


def current() -> Database | None:
    """The database that scans use; None while there is none."""
    try:
        folder = (_root() / "current").resolve(strict=True)
        return _read(folder)
    except (OSError, Refused):
        return None


def refresh(*, only_if_due: bool = False) -> Database | None:
    """Fetch a newer database from KCR_TRIVY_DB_REPOSITORY; returns it, or None when there is none or it cannot be had.

    Every attempt leaves a DatabaseRefresh, which says why it failed. With ``only_if_due`` nothing is done while the
    current one is not to be renewed by its makers' own word.
    """
    now, before = timezone.now(), current()
    if only_if_due and before and before.next_at and before.next_at > now:
        return None
    source = settings.TRIVY_DB_REPOSITORY
    try:
        with workplace() as place:
            fetched = _fetch(source, place)
            is_newer = before is None or _read_metadata(fetched)[0] > before.updated_at
            made = _publish(fetched, place) if is_newer else None
    except (ScanFailed, Refused, OSError) as problem:  # a full disk, say
        text = problem.detail if isinstance(problem, ScanFailed) else str(problem)
        _note(source, before, text or str(problem))
        return None
    _note(source, made or before)
    return made


def install(archive: IO[bytes], source: str) -> Database:
    """Use the database in an archive (the layer ``db.tar.gz`` of its OCI artifact), whatever its age.

    Raises Refused, and nothing has changed.
    """
    with workplace() as place:
        made = _publish(_extract(archive, place.folder / "offered"), place)
    _note(source, made)
    return made


@contextmanager
def workplace() -> Iterator[Workplace]:
    """An empty folder on the file system of the data, gone afterwards."""
    root = Path(settings.SCAN_DIR) / "scanning"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, ignore_cleanup_errors=True) as folder:
        yield Workplace(Path(folder))


def _root() -> Path:
    return Path(settings.SCAN_DIR) / "vulnerability-db"


def _note(source: str, used: Database | None, problem: str = "") -> None:
    DatabaseRefresh.objects.create(
        source=source[:300], updated_at=used.updated_at if used else None, problem=problem[:500]
    )


# ── Where it comes from ──────────────────────────────────────────────────────────────────────────────────────────────
def _fetch(source: str, place: Workplace) -> Path:
    """The folder with the files of the newest database that the source has."""
    host, _, path = source.partition("/")
    ours = hosts.of_service(host)
    if ours is None:
        return program.download_database(source, place)
    wire_name, reference = _split(path)
    try:
        # A repository of this registry: its bytes are here, no client is needed.
        return _extract(_open_layer(ours.parse(wire_name), reference), place.folder / "offered")
    except errors.RegistryError as error:
        raise Refused(f"{source}: {error}") from error


def _split(path: str) -> tuple[str, str]:
    """The name in a reference, and its digest (NAME:TAG@DIGEST, NAME@DIGEST), else its tag, else Trivy's own."""
    named, _, digest = path.partition("@")
    name, colon, tag = named.rpartition(":")
    return (name, digest or tag) if colon else (named, digest or "2")


def _open_layer(name: names.ImageName, reference: str) -> IO[bytes]:
    """The archive in the manifest of a tag or digest, as it was pushed: its bytes are looked at once more."""
    found = manifests.find(SYSTEM, name, reference)
    if str(digests.of(found.content, digests.parse(found.digest).algorithm)) != found.digest:
        raise Refused(f"{name}@{found.digest} has been changed")
    document = documents.parse(found.content, found.media_type)
    layer = next((layer for layer in document.layers if layer.media_type == LAYER_TYPE), None)
    if layer is None:
        raise Refused(f"{name}:{reference} is not a vulnerability database of Trivy's")
    file = blobs.open_bytes(blobs.find(SYSTEM, name, layer.digest))
    hashed = digests.new_hash(digests.parse(layer.digest).algorithm)
    while block := file.read(BLOCK):
        hashed.update(block)
    if hashed.hexdigest() != digests.parse(layer.digest).encoded:
        file.close()
        raise Refused(f"the bytes of {layer.digest} are damaged")
    file.seek(0)
    return file


def _extract(archive: IO[bytes], folder: Path) -> Path:
    """Take the files of a database, and nothing else, out of a tar archive, compressed or not. Raises Refused."""
    folder.mkdir()
    try:
        with archive, tarfile.open(fileobj=archive, mode="r|*") as members:
            for member in members:
                name = member.name.removeprefix("./")
                if name not in FILES or not member.isreg():
                    continue
                if member.size > MAX_BYTES:
                    raise Refused(f"{name} has {member.size} bytes")
                with (folder / name).open("xb") as file:
                    shutil.copyfileobj(members.extractfile(member), file)  # type: ignore[arg-type]  # it is a file
    except (tarfile.TarError, EOFError, OSError) as error:
        raise Refused(f"the archive cannot be read: {error}") from error
    if missing := [name for name in FILES if not (folder / name).exists()]:
        raise Refused(f"the archive holds no {' and no '.join(missing)}")
    return folder


# ── How it becomes current ───────────────────────────────────────────────────────────────────────────────────────────
def _publish(fetched: Path, place: Workplace) -> Database:
    """Try the database out, and make it the current one. Raises Refused."""
    _read_metadata(fetched)
    if not _is_whole(fetched / "trivy.db"):
        raise Refused("trivy.db is cut off, or is no database, or knows nothing")
    tried = place.folder / "tried"
    tried.mkdir()
    fetched.rename(tried / "db")
    program.write_java_database(tried)
    try:
        program.make_report(_NO_PACKAGES, tried, place)
    except ScanFailed as problem:
        if problem.problem is Problem.SCANNER_MISSING:
            raise
        raise Refused(f"Trivy cannot read it: {problem.detail}") from problem
    updated_at = _read(tried).updated_at
    root = _root()
    root.mkdir(mode=0o755, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{updated_at:%Y%m%dT%H%M%S}-", dir=root))
    folder.chmod(0o755)  # there is no secret in it, and Trivy may run as another user
    for part in list(tried.iterdir()):
        shutil.move(part, folder / part.name)  # the folder may be on another file system
    pointer = folder / "pointer"
    pointer.symlink_to(folder.name)
    os.replace(pointer, root / "current")  # noqa: PTH105  the one atomic step
    _forget_old(root)
    return _read(folder)


def _is_whole(path: Path) -> bool:
    """Whether the file has all the pages that it says it has, and advisories of somebody in them.

    Trivy would notice missing pages only when it needs them, and missing advisories never: everything would be clean.
    """
    with path.open("rb") as file:
        first = file.read(_META.size)
        if len(first) < _META.size:
            return False
        magic, _, page_size, root, pages = _META.unpack(first)
        if magic != _MAGIC or path.stat().st_size < pages * page_size or root >= pages:
            return False
        file.seek(root * page_size)
        page = file.read(page_size)
        try:
            kind, entries, more = _PAGE.unpack_from(page)
            page += file.read(min(more, pages) * page_size)
            if kind != _LEAF:  # more sources than fit on a page
                return True
            places = range(_PAGE.size, _PAGE.size + entries * _ENTRY.size, _ENTRY.size)
            found = [(place, *_ENTRY.unpack_from(page, place)) for place in places]
        except struct.error:  # it says that there is more than there is
            return False
    names = {page[place + offset : place + offset + length] for place, offset, length in found}
    return bool(names - {b"vulnerability", b"data-source"})


def _forget_old(root: Path) -> None:
    # By when their files were written: Trivy touches the folders that it reads.
    written = {path.parents[1]: path.stat().st_mtime_ns for path in root.glob("*/db/metadata.json")}
    used = (root / "current").resolve()
    others = sorted(
        (path for path in written if not path.is_symlink() and path.resolve() != used), key=lambda path: written[path]
    )
    for folder in others[: 1 - KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


def _read(folder: Path) -> Database:
    updated_at, next_at = _read_metadata(folder / "db")
    return Database(folder, updated_at, next_at)


def _read_metadata(folder: Path) -> tuple[datetime, datetime | None]:
    """When it was made and when the next one is to come. Raises Refused."""
    try:
        metadata: Any = json.loads((folder / "metadata.json").read_bytes())
    except (OSError, ValueError) as error:
        raise Refused("its metadata.json cannot be read") from error
    if not isinstance(metadata, dict) or metadata.get("Version") != 2:
        raise Refused("it is of another version than 2, which this Trivy reads")
    updated_at = _moment(metadata.get("UpdatedAt"))
    if updated_at is None:
        raise Refused("its metadata.json does not say when it was made")
    return updated_at, _moment(metadata.get("NextUpdate"))


def _moment(text: Any) -> datetime | None:
    try:
        moment = parse_datetime(text[:19] + "Z") if isinstance(text, str) else None
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment else None
