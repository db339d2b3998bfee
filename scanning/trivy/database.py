"""The vulnerability database: folders that never change, and a link to the newest one.

    <scans>/vulnerability-db/<when it was made>/db/{trivy.db, metadata.json}    a cache folder of Trivy's
                                              /java-db/…
    <scans>/vulnerability-db/current -> <when it was made>

A scan resolves "current" once and keeps that folder, so it never reads a mix of two databases. A new database becomes
current after Trivy has read it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
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
from scanning.trivy import coverage, program
from scanning.trivy.program import ScanFailed, Workplace

if TYPE_CHECKING:
    from collections.abc import Iterator

logger = logging.getLogger(__name__)

KEPT = 2  # running scans may still read the former one
FILES = ("trivy.db", "metadata.json")
MAX_BYTES = 8 * 1024**3
BLOCK = 1024**2
LAYER_TYPE = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip"
_NO_PACKAGES = json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": []}).encode()


@dataclass(frozen=True, slots=True)
class Database:
    """A usable database. ``updated_at``: when it was built; ``next_at``: when its publisher promises the next."""

    folder: Path
    updated_at: datetime
    next_at: datetime | None

    @property
    def sources(self) -> frozenset[str]:
        """Whose advisories it has, such as "debian 12". Raises ScanFailed."""
        try:
            return coverage.sources(self.folder / "db" / "trivy.db")
        except (coverage.Damaged, OSError) as error:
            raise ScanFailed(Problem.DATABASE_BROKEN, str(error)) from error

    @property
    def is_stale(self) -> bool:
        """Whether it is older than DatabaseRefresh.STALE."""
        return timezone.now() - self.updated_at > DatabaseRefresh.STALE


class Refused(ValueError):
    """Not a usable vulnerability database. The message says why."""


def current() -> Database | None:
    """The database that scans use, or None."""
    try:
        folder = (_root() / "current").resolve(strict=True)
        return _read(folder)
    except (OSError, Refused):
        return None


def refresh(*, only_if_due: bool = False) -> Database | None:
    """Fetch a newer database from KCR_TRIVY_DB_REPOSITORY. Returns it; None if there is no newer one or it failed.

    Each attempt creates a DatabaseRefresh with its problem. ``only_if_due``: do nothing before the ``next_at`` of the
    current database.
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
        logger.warning("the vulnerability database could not be fetched: %s", text or problem)
        _note(source, before, text or str(problem))
        return None
    _note(source, made or before)
    return made


def install(archive: IO[bytes], source: str) -> Database:
    """Make the database in an archive (``db.tar.gz``, the layer of its OCI artifact) current, even if it is older.

    Raises Refused, and keeps the current one.
    """
    with workplace() as place:
        made = _publish(_extract(archive, place.folder / "offered"), place)
    _note(source, made)
    return made


@contextmanager
def workplace() -> Iterator[Workplace]:
    """A temporary folder on the file system of the data."""
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


# ── Fetch ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _fetch(source: str, place: Workplace) -> Path:
    """Fetch the newest database of the source. Returns the folder with its files."""
    host, _, path = source.partition("/")
    ours = hosts.of_service(host)
    if ours is None:
        return program.download_database(source, place)
    wire_name, reference = _split(path)
    try:
        # A repository of this registry: read its bytes directly.
        return _extract(_open_layer(ours.parse(wire_name), reference), place.folder / "offered")
    except errors.RegistryError as error:
        raise Refused(f"{source}: {error}") from error


def _split(path: str) -> tuple[str, str]:
    """The name, and the digest (NAME:TAG@DIGEST, NAME@DIGEST), or else the tag, or else Trivy's default tag 2."""
    named, _, digest = path.partition("@")
    name, colon, tag = named.rpartition(":")
    return (name, digest or tag) if colon else (named, digest or "2")


def _open_layer(name: names.ImageName, reference: str) -> IO[bytes]:
    """The archive in the manifest of a tag or digest. Verifies the digests of the manifest and the layer."""
    found = manifests.permitted_manifest(SYSTEM, name, reference)
    if str(digests.of(found.content, digests.parse(found.digest).algorithm)) != found.digest:
        raise Refused(f"{name}@{found.digest} has been changed")
    document = documents.parse(found.content, found.media_type)
    layer = next((layer for layer in document.layers if layer.media_type == LAYER_TYPE), None)
    if layer is None:
        raise Refused(f"{name}:{reference} is not a vulnerability database of Trivy's")
    file = blobs.open_bytes(blobs.permitted_blob(SYSTEM, name, layer.digest))
    hashed = digests.new_hash(digests.parse(layer.digest).algorithm)
    while block := file.read(BLOCK):
        hashed.update(block)
    if hashed.hexdigest() != digests.parse(layer.digest).encoded:
        file.close()
        raise Refused(f"the bytes of {layer.digest} are damaged")
    file.seek(0)
    return file


def _extract(archive: IO[bytes], folder: Path) -> Path:
    """Extract FILES, and nothing else, from a tar archive, compressed or not. Raises Refused."""
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


# ── Publish ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _publish(fetched: Path, place: Workplace) -> Database:
    """Test the database with Trivy, and make it current. Raises Refused."""
    _read_metadata(fetched)
    _check_sources(fetched / "trivy.db")
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
    folder.chmod(0o755)  # it holds no secrets, and Trivy may run as another user
    for part in list(tried.iterdir()):
        shutil.move(part, folder / part.name)  # the folder may be on another file system
    pointer = folder / "pointer"
    pointer.symlink_to(folder.name)
    os.replace(pointer, root / "current")  # noqa: PTH105  the one atomic step
    _forget_old(root)
    return _read(folder)


def _check_sources(path: Path) -> None:
    """Raises Refused if the file is not whole, or holds no advisories.

    Trivy notices a missing page only if it reads that page, and does not notice missing advisories: every image would
    be clean. Trivy has no command that checks a database, and its digest proves only what was downloaded, not what was
    published.
    """
    try:
        found = coverage.sources(path)
    except coverage.Damaged as error:
        raise Refused(f"trivy.db cannot be used: {error}") from error
    if not found:
        raise Refused("trivy.db holds no advisories")


def _forget_old(root: Path) -> None:
    # Sort by the time of the files, because Trivy changes the time of folders that it reads.
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
    """When it was built, and when the next is promised. Raises Refused."""
    try:
        metadata: Any = json.loads((folder / "metadata.json").read_bytes())
    except (OSError, ValueError) as error:
        raise Refused("its metadata.json cannot be read") from error
    if not isinstance(metadata, dict) or metadata.get("Version") != 2:
        raise Refused("its schema version is not 2, which this Trivy reads")
    updated_at = _moment(metadata.get("UpdatedAt"))
    if updated_at is None:
        raise Refused("its metadata.json has no UpdatedAt")
    return updated_at, _moment(metadata.get("NextUpdate"))


def _moment(text: Any) -> datetime | None:
    try:
        moment = parse_datetime(text[:19] + "Z") if isinstance(text, str) else None
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment else None
