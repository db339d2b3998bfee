"""What other parts of the house may want to hear from the registry: its only voice upward.

Sent after the transaction has been committed. Receivers take the sender's keyword arguments and must bear being
called twice.
"""

from django.dispatch import Signal

manifest_pushed = Signal()  # manifest_id, tags (names that name it since this push), actor
manifests_recovered = Signal()  # manifest_ids, actor
pull_refused = Signal()  # manifest_id; a receiver answers with words that say more of why, or None
