"""What a place for blobs must do, beyond Django's storage API. The same tests run over every kind of place."""

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
    """Somebody else is writing to this upload at this moment."""


class Full(Exception):
    """No room is left, or less than the reserve."""


class Missing(Exception):
    """The bytes are not there, or fewer than there should be."""


class TooLarge(Exception):
    """More bytes came than were allowed."""


class Append(Protocol):
    """Writes to one upload."""

    def __call__(self, offset: int, chunks: Chunks, limit: int, seen: Callable[[bytes], object]) -> int:
        """Write the chunks at ``offset``, dropping whatever a cut request left behind it; return the new offset.

        The bytes are durable when this returns. ``seen`` is called with every chunk, in order. Whatever the chunks'
        iterator raises passes through and leaves the upload at ``offset``.
        Raises Full (also when the reserve would be taken), TooLarge (the upload would exceed ``limit``), Missing (fewer
        than ``offset`` bytes are there).
        """


class BlobStorage(Protocol):
    """A place for blobs. Sizes and offsets are in bytes; memory use does not depend on them."""

    def writing(self, upload: UUID, key: str = "") -> AbstractContextManager[Append]:
        """Be the only writer of an upload until the block ends.

        Raises Busy when another writer is there, also one that has published the bytes under ``key`` in its block.
        """

    def staged(self, upload: UUID, offset: int) -> Chunks:
        """The upload's first ``offset`` bytes. Raises Missing."""

    def publish(self, upload: UUID, offset: int, key: str) -> None:
        """Make the upload's first ``offset`` bytes durable under ``key``; doing it again changes nothing.

        Raises Missing when they are under neither name.
        """

    def discard(self, upload: UUID) -> None:
        """Forget an upload's bytes; nothing happens when there are none."""

    def open(self, name: str, mode: str = "rb") -> File[bytes]:
        """Open a blob for reading. Raises FileNotFoundError."""

    def place(self, key: str, path: Path, *, copied: bool = False) -> None:
        """Let a blob's bytes be at ``path`` as well, for programs that read files: a link where that is possible.

        The caller must not write there, unless they are ``copied``. Raises FileNotFoundError.
        """

    def holds(self, key: str, size: int) -> bool:
        """Whether the blob's bytes are there, all of them."""

    def delete(self, name: str) -> None:
        """Delete what an upload brought, published under this key or not yet; nothing happens when there is nothing.

        The last part of a key is the upload's id.
        """

    def exists(self, name: str) -> bool:
        """Whether there is a blob of this name, whole or not."""

    def keys(self, *, older_than: datetime) -> Iterable[str]:
        """The names of all blobs that were stored before that time, in no order."""

    def check_room(self, size: int = 0) -> None:
        """Raises Full when ``size`` more bytes would take of the reserve, which is for everything but blobs."""
