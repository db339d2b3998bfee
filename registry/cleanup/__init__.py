"""Cleanup policies: their settings (policies), what the rules say (rules), and nightly runs (runs)."""

from .runs import approve, dismiss, due, run

__all__ = ["approve", "dismiss", "due", "run"]
