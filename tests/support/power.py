"""Simulated power cuts after every step: possible contents of the disk, compared with the database.

``Disk`` watches the calls of ``os`` that change files below a folder, and keeps two states of each file and directory:
as it is, and as of its last ``fsync``. After each call, and after each commit, it checks what would remain if the
power were cut now. POSIX guarantees nothing about unsynced changes, so four disks are checked: names and contents
may each be those of now or those of the last sync, independently of each other.

Commits count as durable (tests/registry/test_durable_commits.py), apart from those that may be lost: until the next
durable one, a power cut leaves the rows of any commit since the last. Deletions are not synced: a blob's file that
reappears without a row is an orphan, which ``verifystorage`` reports.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import connection

from registry.models import Blob, ObjectTrash, UploadSession
from tests.support.images import sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

WRITES = ("INSERT", "UPDATE", "DELETE", "RELEASE")


@dataclass(eq=False)
class File:
    """Bytes as they are, and as of the last sync."""

    content: bytes = b""
    synced: bytes = b""

    def sync(self) -> None:
        self.synced = self.content


@dataclass(eq=False)
class Directory:
    """Names as they are, and as of the last sync."""

    names: dict[str, File | Directory] = field(default_factory=dict)
    synced: dict[str, File | Directory] = field(default_factory=dict)

    def sync(self) -> None:
        self.synced = dict(self.names)


@dataclass
class Committed:
    """The committed rows about bytes."""

    blobs: dict[str, str] = field(default_factory=dict)
    """Digests by storage key."""
    uploads: dict[str, int] = field(default_factory=dict)
    """Offsets of open uploads by id."""
    sessions: set[str] = field(default_factory=set)
    """Ids of uploads, open or finished: the sweep deletes what is staged for them."""
    trash: set[str] = field(default_factory=set)
    """Ids of uploads whose bytes are to be deleted."""

    @classmethod
    def read(cls) -> Committed:
        open_ = UploadSession.objects.filter(state=UploadSession.State.OPEN)
        return cls(
            dict(Blob.objects.values_list("storage_key", "digest")),
            {str(pk): offset for pk, offset in open_.values_list("pk", "offset")},
            {str(pk) for pk in UploadSession.objects.values_list("pk", flat=True)},
            {key.rpartition("/")[2] for key in ObjectTrash.objects.values_list("pk", flat=True)},
        )


class Disk:
    """Watches ``folder``, which is durable itself. ``broken`` lists the damage of a power cut after each step."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, Directory()
        self.open: dict[int, File | Directory] = {}
        self.places: dict[int, int] = {}
        self.committed = [Committed()]
        """What a power cut may leave: the rows of the last durable commit, and of each one after it."""
        self.answered: set[str] = set()
        self.steps: list[str] = []
        self.broken: list[str] = []

    def answer(self, digest: str) -> None:
        """Record that a client got the answer that the blob is stored."""
        self.answered.add(digest)
        self._step(f"201 {digest[:15]}")

    # ── After a power cut ────────────────────────────────────────────────────────────────────────────────────────
    def _step(self, name: str) -> None:
        self.steps.append(name)
        before = set(self.broken)
        for synced_names, synced_contents in product((True, False), repeat=2):
            left = dict(_left(self.root, "", synced_names=synced_names, synced_contents=synced_contents))
            for committed in self.committed:
                for problem in self._problems(committed, left):
                    said = f"after step {len(self.steps)}, {name}: {problem}"
                    if said not in before:
                        before.add(said)
                        self.broken.append(said)

    def _problems(self, committed: Committed, left: dict[str, bytes]) -> Iterator[str]:
        now = dict(_left(self.root, ""))
        for key, digest in committed.blobs.items():
            if key not in left:
                yield f"{digest[:15]} has a row and no file"
            elif sha256(left[key]) != digest:
                yield f"{digest[:15]} has a row and other bytes"
        for digest in self.answered - set(committed.blobs.values()):
            yield f"{digest[:15]} was answered with 201 and has no row"
        for upload, offset in committed.uploads.items():
            names = (f"staging/{upload}", f"blobs/{upload.replace('-', '')[:2]}/{upload}")
            whole = next((now[name] for name in names if name in now), b"")
            found = next((left[name] for name in names if name in left), b"")
            if len(found) < offset or found[:offset] != whole[:offset]:
                yield f"an upload stands at {offset} and has {len(found)} bytes"
        for name in left:
            folder, _, upload = name.partition("/")
            if folder == "staging" and upload not in committed.sessions | committed.trash:
                yield "a staged file has no upload, and nothing will ever delete it"

    # ── Watched calls ────────────────────────────────────────────────────────────────────────────────────────────
    @contextmanager
    def watching(self, patch: pytest.MonkeyPatch) -> Iterator[Disk]:
        """Watch the calls of ``os`` and the commits of this thread's connection."""
        for name in ("open", "close", "write", "lseek", "ftruncate", "fsync", "fdatasync"):
            patch.setattr(os, name, self._watched(getattr(os, name), getattr(self, f"_{name}")))
        for name in ("mkdir", "rename", "replace", "link", "unlink", "remove", "rmdir"):
            patch.setattr(os, name, self._watched(getattr(os, name), getattr(self, f"_{name}")))
        depth = 0

        def execute(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
            nonlocal depth
            result = execute(sql, params, many, context)
            word = sql.split(None, 1)[0].upper()
            depth += {"SAVEPOINT": 1, "RELEASE": -1}.get(word, 0)
            if depth == 0 and word in WRITES:
                now = Committed.read()
                if now != self.committed[-1]:
                    may_be_lost = getattr(connection, "may_be_lost", False)  # PostgreSQL's has no such attribute
                    self.committed = [*self.committed, now] if may_be_lost else [now]
                    self._step("commit")
            return result

        # The test runs in a transaction, so that the release of a savepoint counts as a commit.
        with connection.execute_wrapper(execute):
            yield self

    def _watched(self, original: Any, note: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            result = original(*arguments, **more)
            if note(result, *arguments):
                self._step(f"{original.__name__} {' '.join(str(each)[-20:] for each in arguments if each is not None)}")
            return result

        return call

    def _find(self, path: Any) -> tuple[Directory, str] | None:
        """Return the directory and the name in it, None for a path outside the folder."""
        place = Path(os.path.abspath(path))  # noqa: PTH100  (links are not resolved here)
        if self.folder not in place.parents:
            return None
        directory = self.root
        for part in place.relative_to(self.folder).parent.parts:
            found = directory.names[part]
            assert isinstance(found, Directory)
            directory = found
        return directory, place.name

    def _open(self, descriptor: int, path: Any, flags: int, *rest: Any) -> bool:
        if Path(path) == self.folder:
            self.open[descriptor] = self.root
            return False
        if (found := self._find(path)) is None:
            return False
        directory, name = found
        is_new = name not in directory.names
        if is_new:
            assert flags & os.O_CREAT, f"{path} was made behind the disk's back"
            directory.names[name] = File()
        self.open[descriptor], self.places[descriptor] = directory.names[name], 0
        return is_new

    def _close(self, _: None, descriptor: int) -> bool:
        self.open.pop(descriptor, None)
        return False

    def _lseek(self, place: int, descriptor: int, *rest: Any) -> bool:
        self.places[descriptor] = place
        return False

    def _write(self, number: int, descriptor: int, data: bytes) -> bool:
        file = self.open.get(descriptor)
        if not isinstance(file, File):
            return False
        start = self.places[descriptor]
        end = self.places[descriptor] = start + number
        file.content = file.content[:start].ljust(start, b"\0") + bytes(data[:number]) + file.content[end:]
        return True

    def _ftruncate(self, _: None, descriptor: int, size: int) -> bool:
        file = self.open.get(descriptor)
        if isinstance(file, File):
            file.content = file.content[:size].ljust(size, b"\0")
        return file is not None

    def _fsync(self, _: None, descriptor: int) -> bool:
        if descriptor in self.open:
            self.open[descriptor].sync()
        return descriptor in self.open

    _fdatasync = _fsync

    def _mkdir(self, _: None, path: Any, *rest: Any) -> bool:
        if found := self._find(path):
            found[0].names[found[1]] = Directory()
        return found is not None

    def _rename(self, _: None, source: Any, target: Any) -> bool:
        old, new = self._find(source), self._find(target)
        if old and new:
            new[0].names[new[1]] = old[0].names.pop(old[1])
        return bool(old or new)

    _replace = _rename

    def _link(self, _: None, source: Any, target: Any, **rest: Any) -> bool:
        old, new = self._find(source), self._find(target)
        if old and new:
            new[0].names[new[1]] = old[0].names[old[1]]
        return new is not None

    def _unlink(self, _: None, path: Any) -> bool:
        if found := self._find(path):
            found[0].names.pop(found[1])
        return found is not None

    _remove = _rmdir = _unlink


def _left(
    directory: Directory, prefix: str, *, synced_names: bool = False, synced_contents: bool = False
) -> Iterator[tuple[str, bytes]]:
    """Return every remaining file below the directory with its bytes."""
    for name, found in (directory.synced if synced_names else directory.names).items():
        if isinstance(found, File):
            yield prefix + name, found.synced if synced_contents else found.content
        else:
            more = {"synced_names": synced_names, "synced_contents": synced_contents}
            yield from _left(found, f"{prefix}{name}/", **more)
