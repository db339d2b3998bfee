"""Undo of recorded changes: what it would change (plan), and the change itself (apply)."""

from .apply import Undone, acts, preview, undo

__all__ = ["Undone", "acts", "preview", "undo"]
