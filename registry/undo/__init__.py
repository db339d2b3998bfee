"""Undo of recorded changes: what it would change (plan), and the change itself (apply)."""

from .apply import Undone, acts, preview, undo
from .plan import Kind, Step

__all__ = ["Kind", "Step", "Undone", "acts", "preview", "undo"]
