"""Signals with which the registry tells the parts above it what has happened.

They are sent after the transaction has been committed. Receivers take the sender's keyword arguments; a receiver may be
called twice for one event.
"""

from django.dispatch import Signal

manifest_pushed = Signal()  # manifest_id, tags (the names of the tags that the push pointed at it), actor
manifests_recovered = Signal()  # manifest_ids, actor
