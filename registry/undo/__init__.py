"""Undo of recorded changes: what it would change (plan), and the change itself (apply, organization)."""

from .apply import Undone, acts, preview, undo
from .organization import (
    ORGANIZATION_ACTIONS,
    restore_service_account,
    undo_organization_role,
    undoable_event,
)
from .plan import Kind, Step, way_back

__all__ = [
    "ORGANIZATION_ACTIONS",
    "Kind",
    "Step",
    "Undone",
    "acts",
    "preview",
    "restore_service_account",
    "undo",
    "undo_organization_role",
    "undoable_event",
    "way_back",
]
