"""Webhook: the content of the delivery as JSON, signed with a secret of the subscription."""

from __future__ import annotations

import hmac
import time
from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext_lazy

from accounts.keys import new_secret

from .sealing import seal, unseal
from .web import WebChannel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scanning.models import Delivery, Subscription

SECRET_PREFIX = "kcrw_"  # noqa: S105  a prefix, not a secret


class Webhook(WebChannel):
    """A URL of the receiver's own program."""

    kind = "webhook"
    label = gettext_lazy("Webhook")
    icon = "webhook"
    help_text = gettext_lazy("Gets JSON by POST, signed with a secret that is shown to you once.")
    has_language = False
    has_secret = True
    secret_help = gettext_lazy(
        "Each message carries X-KCR-Timestamp and X-KCR-Signature. The signature is sha256= and the HMAC-SHA256, in "
        "hexadecimal, with this secret, of the timestamp, a dot, and the body as received. Compare it, and refuse old "
        "timestamps."
    )

    def message(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """The content as it is."""
        return content

    def headers(self, delivery: Delivery, body: bytes) -> dict[str, str]:
        """Event, number of the delivery, time, and the signature over time and body."""
        secret = secret_of(delivery.subscription)
        timestamp = str(int(time.time()))
        return {
            "X-KCR-Event": str(delivery.content.get("event", "")),
            "X-KCR-Delivery": str(delivery.pk),
            "X-KCR-Timestamp": timestamp,
            "X-KCR-Signature": f"sha256={signature(secret, timestamp, body)}",
        }

    def give_secret(self, subscription: Subscription) -> str:
        """Set a new secret, encrypted with KCR_SECRET_KEY."""
        secret = new_secret(SECRET_PREFIX)
        subscription.secret = seal(secret)
        return secret


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 with the secret over timestamp, dot and body, in hexadecimal. Receivers compute the same."""
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, "sha256").hexdigest()


def secret_of(subscription: Subscription) -> str:
    """The secret in the clear. Raises Refusal if KCR_SECRET_KEY has changed since it was stored."""
    return unseal(subscription.secret)
