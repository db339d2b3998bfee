"""Storage of the bytes of blobs: ``contract.BlobStorage``, and one class for each kind of storage.

Files (``filesystem``):

    <location>/staging/<upload id>                 an upload: bytes beyond the offset of its UploadSession are ignored
    <location>/blobs/<id[:2]>/<upload id>          a whole, verified blob

Objects of S3 (``s3``):

    <prefix>/staging/<upload id>/<name>            the state of an upload: its parts, and the bytes after the last one
    <prefix>/blobs/<id[:2]>/<upload id>/<name>     a whole blob, or one that was not verified and has no row

A key is never written twice. The row of a Blob has its key. This package knows no repositories and no database.
"""

from typing import cast
from uuid import UUID

from django.core.files.storage import storages

from registry import env

from .contract import BlobStorage, Busy, Chunks, Full, Missing, Saved, TooLarge, Unanswered, Writer

__all__ = [
    "BlobStorage",
    "Busy",
    "Chunks",
    "Full",
    "Missing",
    "Saved",
    "TooLarge",
    "Unanswered",
    "Writer",
    "blob_storage",
    "storage_at",
    "upload_of",
]


def blob_storage() -> BlobStorage:
    """The storage of this installation (``STORAGES["blobs"]``)."""
    return cast("BlobStorage", storages["blobs"])


def storage_at(url: str) -> BlobStorage:
    """The storage of a value of KCR_STORAGE_URL. Raises ValueError."""
    return cast("BlobStorage", storages.create_storage(env.storage_at(url)))


def upload_of(key: str) -> UUID:
    """Return the id of the upload that brought the bytes of this key. Raises ValueError for a key of another form."""
    _, _, upload, *_ = [*key.split("/"), "", ""]
    return UUID(upload)
