"""Signals of the registry for apps above it.

Sent after the commit of the transaction, if nothing else is said. Receivers take the keyword arguments, and must
tolerate repeated calls.
"""

from django.dispatch import Signal

manifest_pushed = Signal()  # manifest_id, tags (the names of the tags that the push pointed at it), actor
manifests_recovered = Signal()  # manifest_ids, actor
quota_reached = (
    Signal()
)  # fill (quota_warnings.Fill); in the transaction that stores the level, so a receiver adds rows
