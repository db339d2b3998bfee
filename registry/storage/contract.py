"""The interface of blob storages, beyond Django's storage API. The same tests run on every implementation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

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
    """The disk has no space left beyond the reserve."""


class Missing(Exception):
    """The bytes are missing or fewer than expected."""


class TooLarge(Exception):
    """The upload exceeds the limit."""


class Append(Protocol):
    """A function that writes to one upload."""

    def __call__(self, offset: int, chunks: Chunks, limit: int, seen: Callable[[bytes], object]) -> int:
        """Truncate the upload to ``offset`` bytes, append the chunks, and return the new offset in bytes.

        The bytes are durable on return. Calls ``seen`` with every chunk in order. An exception of the iterator passes
        through, and the upload keeps ``offset`` bytes.
        Raises Full, TooLarge (the upload would exceed ``limit`` bytes), Missing (it has fewer than ``offset`` bytes).
        """


class BlobStorage(Protocol):
    """A storage of blobs. Sizes and offsets are in bytes; memory use does not depend on them."""

    def writing(self, upload: UUID, key: str = "") -> AbstractContextManager[Append]:
        """Lock the upload for the block and yield its Append.

        Raises Busy if another block holds the lock, also if it has already published the bytes under ``key``.
        """

    def staged(self, upload: UUID, offset: int) -> Chunks:
        """Iterate over the upload's first ``offset`` bytes. Raises Missing."""

    def publish(self, upload: UUID, offset: int, key: str) -> None:
        """Move the upload's ``offset`` bytes to ``key``, durably. A repeated call changes nothing.

        Raises Missing if neither the upload nor the key has that many bytes.
        """

    def discard(self, upload: UUID) -> None:
        """Delete the staged bytes of an upload, if there are any."""

    def open(self, name: str, mode: str = "rb") -> File[bytes]:
        """Open a blob for reading. Raises FileNotFoundError."""

    def place(self, key: str, path: Path, *, copied: bool = False) -> None:
        """Link (where possible) or copy a blob to ``path``, for programs that read files. ``copied``: always copy.

        The caller must not write to a link. Raises FileNotFoundError.
        """

    def holds(self, key: str, size: int) -> bool:
        """Whether the blob exists and has exactly ``size`` bytes."""

    def delete(self, name: str) -> None:
        """Delete the blob of this key, and the staged bytes of its upload (the last part of the key), if they exist."""

    def exists(self, name: str) -> bool:
        """Whether the key exists, with any size."""

    def keys(self, *, older_than: datetime) -> Iterable[str]:
        """Iterate over all keys that were stored before that time, in any order."""

    def check_room(self, size: int = 0) -> None:
        """Raises Full if ``size`` more bytes would use the reserve, which is kept for the database and logs."""
