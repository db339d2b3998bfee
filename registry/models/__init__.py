"""The registry's tables.

    Project ──< Repository ──< Image ──< Manifest ──< ManifestBlob >── Blob ──< BlobReview
                    │            │          └──< ManifestChild (parent, child)
                    │            └──< Tag (a version: from when until when a name named a manifest)
                    ├──< BlobLease >── Blob        a pusher may name this blob in a manifest until then
                    ├──< UploadSession             bytes on their way in
                    ├─── CleanupPolicy             what may go by itself
                    ├──< CleanupRun ──< CleanupLine  what a run of it decided about each tag
                    └──< permission rows (guardian)
    Deletion  one act of deleting: everything it took points to it, until it is restored or purged
    Event     the history: append-only
    TagDay, ProjectDay, RepositoryUsage, ProjectUsage  what is counted and measured for people to look at
    ObjectTrash  keys of stored bytes that no row names any more

Reads are QuerySet methods; writes are the functions of the modules beside this package. An object key is written once
and never used again, so bytes may be deleted without asking who might be pushing them anew.
"""

from .audit import Deletion, Event
from .blobs import Blob, BlobLease, BlobReview, Collection, ObjectTrash, UploadSession
from .cleanup import CleanupLine, CleanupPolicy, CleanupRun
from .manifests import Manifest, ManifestBlob, ManifestChild, Tag
from .repositories import Image, Repository, RepositoryGroupPermission, RepositoryUserPermission, Severity
from .statistics import ProjectDay, ProjectUsage, RepositoryUsage, TagDay

__all__ = [
    "Blob",
    "BlobLease",
    "BlobReview",
    "CleanupLine",
    "CleanupPolicy",
    "CleanupRun",
    "Collection",
    "Deletion",
    "Event",
    "Image",
    "Manifest",
    "ManifestBlob",
    "ManifestChild",
    "ObjectTrash",
    "ProjectDay",
    "ProjectUsage",
    "Repository",
    "RepositoryGroupPermission",
    "RepositoryUsage",
    "RepositoryUserPermission",
    "Severity",
    "Tag",
    "TagDay",
    "UploadSession",
]
