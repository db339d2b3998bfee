"""Blobs as files. The order of writes, syncs and renames makes a crash harmless (docs/design/storage.md, "Upload")."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from django.core.files.storage import FileSystemStorage

from registry.failpoints import failpoint
from registry.server.threads import about_to_wait

from .contract import Busy, Chunks, Full, Missing, Saved, TooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

BLOCK = 1024 * 1024
LOOK_EVERY = 1024 * 1024  # bytes of one upload between two checks of the free space
RESERVE_BYTES = 1024**3
RESERVE_SHARE = 0.02


class FileSystemBlobStorage(FileSystemStorage):
    """Files below one directory. staging/ and blobs/ must be on one file system: publish() renames between them."""

    locks = True
    _is_set_up = False

    @contextmanager
    def writing(self, upload: UUID, key: str) -> Iterator[_FileWriter]:
        """See contract.BlobStorage.writing. Raises Busy also if the other block has published the bytes already."""
        self._set_up()
        descriptor = os.open(self._staging(upload), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_new = os.fstat(descriptor).st_size == 0  # os.open may have created it
            if is_new and self._is_locked(key):
                self.discard(upload)
                raise Busy
            yield _FileWriter(self, descriptor, self._staging(upload), key, is_new=is_new)
        except BlockingIOError as error:
            raise Busy from error
        finally:
            os.close(descriptor)

    def _is_locked(self, key: str) -> bool:
        """Whether a writer has published its file under this key and still holds the lock on it."""
        try:
            descriptor = os.open(self.path(key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def discard(self, upload: UUID, *, keep: str = "") -> None:
        """See contract.BlobStorage.discard. A published file is deleted by its key, through ObjectTrash."""
        self._staging(upload).unlink(missing_ok=True)

    def unfinished(self, *, older_than: datetime) -> Iterator[UUID]:
        """See contract.BlobStorage.unfinished."""
        for folder, _, names in os.walk(self._staging_directory):
            for name in names:
                with suppress(FileNotFoundError, ValueError):  # it has ended meanwhile, or is no upload
                    if Path(folder, name).lstat().st_mtime < older_than.timestamp():
                        yield UUID(name)

    def address(self, key: str, size: int) -> str:
        """See contract.BlobStorage.address."""
        return ""

    def place(self, key: str, path: Path, *, copied: bool = False) -> None:
        """See contract.BlobStorage.place."""
        if not copied:
            try:
                path.hardlink_to(self.path(key))
                return
            except OSError as error:  # another file system, or one without links
                if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP}:
                    raise
        shutil.copyfile(self.path(key), path)

    def delete(self, name: str) -> None:
        """See contract.BlobStorage.delete."""
        super().delete(name)
        (self._staging_directory / Path(name).name).unlink(missing_ok=True)

    def holds(self, key: str, size: int) -> bool:
        """See contract.BlobStorage.holds."""
        try:
            return Path(self.path(key)).stat().st_size == size
        except FileNotFoundError:
            return False

    def keys(self, *, older_than: datetime) -> Iterator[str]:
        """See contract.BlobStorage.keys."""
        root = Path(self.location)
        for folder, folders, names in os.walk(root / "blobs"):
            folders.sort()
            for path in (Path(folder, name) for name in names):
                with suppress(FileNotFoundError):  # the reaper may delete it meanwhile
                    if path.lstat().st_mtime < older_than.timestamp():
                        yield str(path.relative_to(root))

    def adopt(self, key: str, chunks: Chunks) -> None:
        """See contract.BlobStorage.adopt."""
        upload = uuid4()
        try:
            with self.writing(upload, key) as writer:
                writer.append(Saved(), chunks, sys.maxsize, len)
                writer.publish()
        finally:
            self.discard(upload)

    def check(self) -> None:
        """See contract.BlobStorage.check."""
        self.check_room()

    def check_room(self, size: int = 0) -> None:
        """See contract.BlobStorage.check_room."""
        self._set_up()
        room = os.statvfs(self._staging_directory)
        free, total = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
        if free - size < min(RESERVE_BYTES, total * RESERVE_SHARE):
            raise Full(f"{free} bytes are left in {self.location}")

    def _set_up(self) -> None:
        """Make staging/ and all folders of blobs/, so that pushes need not sync a new one each. Raises Full.

        Once a process, whether they are there or not: another process may have made them, and not synced them yet.
        """
        if self._is_set_up and self._staging_directory.is_dir():
            return
        root = Path(self.location)
        with _full_disk():
            for directory in (self._staging_directory, root / "blobs"):
                _make_directories(directory)
            for number in range(256):
                (root / "blobs" / f"{number:02x}").mkdir(mode=0o700, exist_ok=True)
            _sync_directory(root / "blobs")
            _sync_directory(root)
        self._is_set_up = True

    @property
    def _staging_directory(self) -> Path:
        return Path(self.location) / "staging"

    def _staging(self, upload: UUID) -> Path:
        return self._staging_directory / str(upload)


class _FileWriter:
    """See contract.Writer. ``save`` and ``publish`` sync the file, and the directory that has its name."""

    def __init__(
        self, storage: FileSystemBlobStorage, descriptor: int, staged: Path, key: str, *, is_new: bool
    ) -> None:
        self._storage, self._descriptor, self._staged, self._key = storage, descriptor, staged, key
        self._is_new, self._is_synced = is_new, False
        self._size = 0

    def append(self, saved: Saved, chunks: Chunks, limit: int, seen: Callable[[bytes], object]) -> int:
        """See contract.Writer.append."""
        descriptor, offset = self._descriptor, saved.size
        with _full_disk():
            stored = os.fstat(descriptor).st_size
            if stored < offset:
                raise Missing(f"the upload is shorter than its offset {offset}")
            os.ftruncate(descriptor, offset)  # drops bytes of a cut request
            os.lseek(descriptor, offset, os.SEEK_SET)
            try:
                blocks = _while_there_is_room(chunks, self._storage.check_room)
                self._size = _write_all(descriptor, offset, blocks, limit, seen)
            except BaseException:
                with suppress(OSError):
                    os.ftruncate(descriptor, offset)  # free the space now: the disk may be full
                raise
        self._is_synced = stored == offset == self._size
        return self._size

    def save(self) -> Saved:
        """See contract.Writer.save."""
        with _full_disk():
            self._sync()
            if self._is_new and self._size:
                # After the file: one commit of the file system's journal then has both.
                _sync_directory(self._staged.parent)
        failpoint("append.synced")
        return Saved(self._size)

    def _sync(self) -> None:
        if not self._is_synced:
            about_to_wait()
            os.fsync(self._descriptor)  # durable before the row or a response says that these bytes are here
            self._is_synced = True

    def seal(self) -> bool:
        """See contract.Writer.seal."""
        return True

    def read(self) -> Iterator[bytes]:
        """See contract.Writer.read."""
        try:
            file = self._staged.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise Missing("the upload has no bytes") from error
        with file:
            left = self._size
            while left:
                block = file.read(min(BLOCK, left))
                if not block:
                    raise Missing(f"the upload is shorter than {self._size} bytes")
                left -= len(block)
                yield block

    def publish(self) -> str:
        """See contract.Writer.publish."""
        source, target = self._staged, Path(self._storage.path(self._key))
        with _full_disk():
            _make_directories(target.parent)
            try:
                if source.stat().st_size != self._size:
                    raise Missing(f"the upload does not have {self._size} bytes")
                source.rename(target)
            except FileNotFoundError as error:
                if not target.exists() or target.stat().st_size != self._size:
                    raise Missing("the upload has no bytes") from error
            failpoint("publish.renamed")
            # The old name may come back after a power cut: uploads.sweep deletes it.
            self._sync()
            _sync_directory(target.parent)
        failpoint("publish.synced")
        return self._key


def _while_there_is_room(chunks: Chunks, check_room: Callable[[int], None]) -> Iterator[bytes]:
    """Yield the chunks; check the free space every LOOK_EVERY bytes. Raises Full."""
    since = LOOK_EVERY
    for chunk in chunks:
        since += len(chunk)
        if since > LOOK_EVERY:
            check_room(max(LOOK_EVERY, len(chunk)))
            since = len(chunk)
        yield chunk


def _write_all(descriptor: int, end: int, chunks: Chunks, limit: int, seen: Callable[[bytes], object]) -> int:
    for chunk in chunks:
        end += len(chunk)
        if end > limit:
            raise TooLarge
        seen(chunk)
        _write(descriptor, chunk)
        failpoint("append.written")
    return end


@contextmanager
def _full_disk() -> Iterator[None]:
    """Raise Full for ENOSPC and EDQUOT."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise Full(str(error)) from error
        raise


def _write(descriptor: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(descriptor, view) :]


def _make_directories(directory: Path) -> None:
    """Create the directory and its parents; sync each parent."""
    if directory.is_dir():
        return
    _make_directories(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    _sync_directory(directory.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        about_to_wait()
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
