"""Where blobs' bytes are: one contract (``contract.BlobStorage``), one class for each kind of place.

    <location>/staging/<upload id>          bytes on their way in, as far as the session row says (and perhaps further)
    <location>/blobs/<id[:2]>/<upload id>   a whole blob, verified, under a key that is written once and never again

Rows say which key is which blob; nothing here knows digests' owners, repositories or the database.
"""

from typing import cast

from django.core.files.storage import storages

from .contract import Append, BlobStorage, Busy, Chunks, Full, Missing, TooLarge

__all__ = ["Append", "BlobStorage", "Busy", "Chunks", "Full", "Missing", "TooLarge", "blob_storage"]


def blob_storage() -> BlobStorage:
    """The storage of this installation (``STORAGES["blobs"]``)."""
    return cast("BlobStorage", storages["blobs"])
