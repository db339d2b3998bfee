"""Garbage collection: the collector deletes unreferenced blobs, the reaper their bytes."""

from .collector import Preview, preview, reconcile, request, request_all, run, stop, unfinished
from .reaper import reap

__all__ = ["Preview", "preview", "reap", "reconcile", "request", "request_all", "run", "stop", "unfinished"]
