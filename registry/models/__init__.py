"""The registry's tables.

    Project ──< Repository ──< Image ──< Manifest ──< ManifestBlob >── Blob ──< BlobReview
                    │            │          └──< ManifestChild (parent, child) │            └──< Tag (a version: from
                    when until when a name named a manifest) ├──< BlobLease >── Blob        a manifest of the repository
                    may name the blob until the lease expires ├──< UploadSession             an upload, open or finished
                    ├─── CleanupPolicy             rules of automatic deletion ├──< CleanupRun ──< CleanupLine  verdict
                    of a run on each tag └──< permission rows (guardian)
    Deletion  one act of deleting: everything it took points to it, until it is restored or purged
    Event     the history: append-only
    TagDay, ProjectDay, RepositoryUsage, ProjectUsage  statistics for the console
    QuotaWarning  up to which level the people of a nearly full quota were told
    Readme    the long description of a repository
    PurgedTag  what a write-once tag named whose row is purged
    ObjectTrash  keys of stored bytes to be deleted
    DoctorRun    the last runs of the connection doctor

Reads are QuerySet methods; writes are the functions of the modules beside this package. A storage key is never used
twice, so deleting the bytes of a key cannot affect a later push of the same digest.
"""

from .audit import Deletion, Event
from .blobs import Blob, BlobLease, BlobReview, Collection, ObjectTrash, UploadSession
from .cleanup import CleanupLine, CleanupPolicy, CleanupRun
from .doctor import DoctorRun
from .manifests import Manifest, ManifestBlob, ManifestChild, PurgedTag, Tag
from .repositories import Image, Readme, Repository, RepositoryGroupPermission, RepositoryUserPermission, Severity
from .statistics import ProjectDay, ProjectUsage, QuotaWarning, RepositoryUsage, TagDay

__all__ = [
    "Blob",
    "BlobLease",
    "BlobReview",
    "CleanupLine",
    "CleanupPolicy",
    "CleanupRun",
    "Collection",
    "Deletion",
    "DoctorRun",
    "Event",
    "Image",
    "Manifest",
    "ManifestBlob",
    "ManifestChild",
    "ObjectTrash",
    "ProjectDay",
    "ProjectUsage",
    "PurgedTag",
    "QuotaWarning",
    "Readme",
    "Repository",
    "RepositoryGroupPermission",
    "RepositoryUsage",
    "RepositoryUserPermission",
    "Severity",
    "Tag",
    "TagDay",
    "UploadSession",
]
