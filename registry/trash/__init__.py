"""Deleted content: how it gets here (deleting), comes back (restoring), and ends (purging)."""

from .deleting import Consequences, consequences, delete_images, delete_references, delete_repository
from .purging import hold, purge, purge_now, sweep_images
from .restoring import Restored, SkippedTag, listed, restore

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
    "sweep_images",
]
