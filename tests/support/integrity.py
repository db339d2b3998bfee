"""Invariants of a data directory, which hold after every kill, truncation and refusal."""

from __future__ import annotations

import hashlib
import sqlite3
import uuid
from contextlib import closing
from typing import TYPE_CHECKING

from registry.oci import documents

if TYPE_CHECKING:
    from pathlib import Path


def violations(data: Path) -> list[str]:
    """Return the invariants that the database and the files of an embedded installation violate."""
    storage = data / "storage"
    with closing(sqlite3.connect(data / "kcr.sqlite3")) as database:
        return [
            *(f"foreign key: {row}" for row in database.execute("PRAGMA foreign_key_check")),
            *_blobs(database, storage),
            *_files(database, storage),
            *_references(database),
            *_tags(database),
        ]


def assert_integrity(data: Path) -> None:
    """Fail with the list of violations."""
    found = violations(data)
    assert not found, "\n".join(found)


def _blobs(database: sqlite3.Connection, storage: Path) -> list[str]:
    broken = []
    for digest, size, key in database.execute("SELECT digest, size, storage_key FROM registry_blob"):
        path = storage / key
        if not path.exists() or path.stat().st_size != size:
            broken.append(f"{digest}: its bytes are not whole at {key}")
        elif size < 32 * 1024 * 1024 and not _is(digest, path.read_bytes()):
            broken.append(f"{digest}: its bytes are others")
    return broken


def _is(digest: str, content: bytes) -> bool:
    algorithm, _, encoded = digest.partition(":")
    return hashlib.new(algorithm, content).hexdigest() == encoded


def _files(database: sqlite3.Connection, storage: Path) -> list[str]:
    sessions = {uuid.UUID(row[0]) for row in database.execute("SELECT id FROM registry_uploadsession")}
    owned = {row[0] for row in database.execute("SELECT storage_key FROM registry_blob")}
    trash = {row[0] for row in database.execute("SELECT storage_key FROM registry_objecttrash")}
    owned |= trash | {f"blobs/{session.hex[:2]}/{session}" for session in sessions}
    keys = [str(path.relative_to(storage)) for path in (storage / "blobs").glob("*/*")]
    broken = [f"no row owns {key}" for key in keys if key not in owned]
    uploads = {str(session) for session in sessions} | {key.rpartition("/")[2] for key in trash}
    staged = (storage / "staging").glob("*")
    return broken + [f"no upload owns {path.name}" for path in staged if path.name not in uploads]


def _references(database: sqlite3.Connection) -> list[str]:
    broken = []
    for pk, digest, media_type, content in database.execute(
        "SELECT id, digest, media_type, content FROM registry_manifest"
    ):
        document = documents.parse(bytes(content), media_type)
        blobs = database.execute(
            "SELECT digest FROM registry_manifestblob r JOIN registry_blob b ON b.id = r.blob_id WHERE manifest_id = ?",
            [pk],
        )
        children = database.execute(
            "SELECT digest FROM registry_manifestchild r JOIN registry_manifest m ON m.id = r.child_id"
            " WHERE parent_id = ?",
            [pk],
        )
        if {row[0] for row in blobs} != {part.digest for part in document.blobs}:
            broken.append(f"{digest}: its rows name other blobs than it does")
        if {row[0] for row in children} != {part.digest for part in document.children}:
            broken.append(f"{digest}: its rows name other children than it does")
    return broken


def _tags(database: sqlite3.Connection) -> list[str]:
    doubled = database.execute(
        "SELECT image_id, name FROM registry_tag WHERE ended_at IS NULL GROUP BY image_id, name HAVING COUNT(*) > 1"
    )
    dead = database.execute(
        "SELECT name FROM registry_tag t JOIN registry_manifest m ON m.id = t.manifest_id"
        " WHERE t.ended_at IS NULL AND m.deletion_id IS NOT NULL"
    )
    return [f"two live meanings: {row}" for row in doubled] + [
        f"a live tag of a deleted manifest: {row}" for row in dead
    ]
