"""Storage of the bytes of blobs: ``contract.BlobStorage``, and one class for each kind of storage.

    <location>/staging/<upload id>          an upload: bytes beyond the offset of its UploadSession are ignored
    <location>/blobs/<id[:2]>/<upload id>   a whole, verified blob; a key is never written twice

The row of a Blob has its key. This package knows no repositories and no database.
"""

from typing import cast

from django.core.files.storage import storages

from .contract import Append, BlobStorage, Busy, Chunks, Full, Missing, TooLarge

__all__ = ["Append", "BlobStorage", "Busy", "Chunks", "Full", "Missing", "TooLarge", "blob_storage"]


def blob_storage() -> BlobStorage:
    """The storage of this installation (``STORAGES["blobs"]``)."""
    return cast("BlobStorage", storages["blobs"])
