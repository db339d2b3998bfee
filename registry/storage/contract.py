"""The interface of blob storages, beyond Django's storage API. The same tests run on every implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path
    from uuid import UUID

    from django.core.files import File

Chunks = Iterable[bytes]


class Busy(Exception):
    """Another request is writing to this upload."""


class Full(Exception):
    """The storage has no space left; for files: beyond the reserve."""


class Missing(Exception):
    """The bytes are missing or fewer than expected."""


class Unanswered(OSError):
    """A storage on another machine does not answer, or refuses what it is asked."""


class TooLarge(Exception):
    """The upload exceeds the limit."""


class Saved(NamedTuple):
    """The first ``size`` bytes of an upload. ``name``: where the storage finds them; "" if it needs no name."""

    size: int = 0
    name: str = ""


class Writer(Protocol):
    """One upload while a request writes to it. Call ``append`` once, then ``save``, or ``seal`` and ``publish``."""

    def append(self, saved: Saved, chunks: Chunks, limit: int, seen: Callable[[bytes], object]) -> int:
        """Continue after ``saved`` (later bytes are dropped), append the chunks, and return the new size in bytes.

        Calls ``seen`` with every chunk in order. An exception of the iterator passes through, and ``saved`` is still
        valid. Raises Full, TooLarge (the upload would exceed ``limit`` bytes), Missing (``saved`` is not there).
        """

    def save(self) -> Saved:
        """Make the bytes durable, so that another process or machine can continue after them."""

    def seal(self) -> bool:
        """Make the bytes durable and final. A repeated call changes nothing. Raises Missing.

        Returns False if another writer might have written bytes of its own: compare the digest of ``read``.
        """

    def read(self) -> Chunks:
        """Iterate over the sealed bytes. Raises Missing."""

    def publish(self) -> str:
        """Move the sealed bytes to their storage key, durably, and return it. A repeated call changes nothing.

        Raises Missing if neither the upload nor the key has that many bytes.
        """


class BlobStorage(Protocol):
    """A storage of blobs. Sizes are in bytes; memory use does not depend on them.

    Every method raises OSError if a disk fails, and Unanswered if another machine does.
    """

    locks: bool
    """Whether ``writing`` locks the upload. If not, the caller holds a lock, and a writer that has lost it does no
    harm: its bytes have names of their own."""

    def writing(self, upload: UUID, key: str) -> AbstractContextManager[Writer]:
        """Yield the Writer of the upload. Raises Busy if the storage locks, and another block has the lock.

        ``key``: the storage key of the UploadSession. The key of the blob is the same or begins with it.
        The caller saves the new state of the upload inside the block. After the block, ``saved`` of ``append`` is not
        valid any more, unless the block ends with an exception.
        """

    def discard(self, upload: UUID, *, keep: str = "") -> None:
        """Delete all unpublished bytes of an upload, and all published ones that no row can name, except ``keep``."""

    def unfinished(self, *, older_than: datetime) -> Iterable[UUID]:
        """Iterate over uploads with unpublished bytes that were stored before that time, in any order."""

    def open(self, name: str, mode: str = "rb") -> File[bytes]:
        """Open a blob for reading. Raises FileNotFoundError, at the latest in the first ``read``."""

    def address(self, key: str, size: int) -> str:
        """Return a URL where a client without credentials can read the blob for some minutes; "" if there is none."""

    def place(self, key: str, path: Path, *, copied: bool = False) -> None:
        """Link (where possible) or copy a blob to ``path``, for programs that read files. ``copied``: always copy.

        The caller must not write to a link. Raises FileNotFoundError.
        """

    def holds(self, key: str, size: int) -> bool:
        """Whether the blob exists and has exactly ``size`` bytes."""

    def delete(self, name: str) -> None:
        """Delete the blob of this key if it exists. The key of an UploadSession stands for all bytes of the upload."""

    def exists(self, name: str) -> bool:
        """Whether the key exists, with any size."""

    def keys(self, *, older_than: datetime) -> Iterable[str]:
        """Iterate over all keys that were stored before that time, in any order."""

    def adopt(self, key: str, chunks: Chunks) -> None:
        """Store a blob of another storage under the key that it has there, durably. It appears when it is whole.

        An exception of the iterator passes through, and nothing is stored. Raises Full, Missing.
        """

    def check(self) -> None:
        """Raises OSError, Unanswered or Full if blobs cannot be stored at the moment."""

    def check_room(self, size: int = 0) -> None:
        """Raises Full if ``size`` more bytes would use the reserve, which is kept for the database and logs."""
