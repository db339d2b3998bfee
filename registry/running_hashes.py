"""Hashes of uploads that this process has written to: the next request of such an upload goes on hashing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash
    from uuid import UUID


class RunningHashes:
    """The hashes of the ``most`` uploads that were written to last. The hash of another upload is forgotten."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._hashes: OrderedDict[UUID, _Hash] = OrderedDict()

    def of(self, upload: UUID, digest: str) -> _Hash | None:
        """A copy of the upload's hash; None unless it is the hash of exactly the bytes that have this digest.

        The caller takes the digest from the upload's row: another process may have written to the upload meanwhile.
        """
        with self._lock:
            kept = self._hashes.get(upload)
        return kept.copy() if kept is not None and f"{kept.name}:{kept.hexdigest()}" == digest else None

    def keep(self, upload: UUID, running: _Hash) -> None:
        """Keep the hash of all bytes of the upload. The caller does not change it afterwards."""
        with self._lock:
            self._hashes[upload] = running
            self._hashes.move_to_end(upload)
            if len(self._hashes) > self._most:
                self._hashes.popitem(last=False)

    def forget(self, upload: UUID) -> None:
        """Forget the hash of an upload that has ended."""
        with self._lock:
            self._hashes.pop(upload, None)
