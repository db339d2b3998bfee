"""What was deleted: how it comes back (restore), and how it ends (purge)."""

from .restore import Left, Restored, hold, listed, purge, purge_now, restore

__all__ = ["Left", "Restored", "hold", "listed", "purge", "purge_now", "restore"]
