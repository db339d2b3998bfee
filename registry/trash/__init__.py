"""What was deleted: how it gets here (delete), how it comes back (restore), and how it ends (purge)."""

from .delete import Consequences, consequences, delete_images, delete_references, delete_repository
from .purge import hold, purge, purge_now
from .restore import Restored, SkippedTag, listed, restore

__all__ = [
    "Consequences",
    "Restored",
    "SkippedTag",
    "consequences",
    "delete_images",
    "delete_references",
    "delete_repository",
    "hold",
    "listed",
    "purge",
    "purge_now",
    "restore",
]
