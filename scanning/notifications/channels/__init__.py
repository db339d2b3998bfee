"""The ways to send a notification, one module each.

To add a channel, copy ``kakaowork.py``, give the class its own ``kind``, and add it to CHANNELS below. The console's
form and pages, the checks, the audit log and the sending take everything from the class; no table changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Channel, Outcome, Unknown, WrongAddress
from .discord import Discord
from .events import Events
from .kakaowork import KakaoWork
from .mail import Mail
from .slack import Slack
from .teams import Teams
from .webhook import Webhook

if TYPE_CHECKING:
    from scanning.models import Subscription

__all__ = ["CHANNELS", "Channel", "Outcome", "WrongAddress", "of"]

# In the order in which the console offers them; the first is the default.
CHANNELS: dict[str, Channel] = {
    each.kind: each for each in (Mail(), KakaoWork(), Slack(), Teams(), Discord(), Webhook(), Events())
}


def of(subscription: Subscription) -> Channel:
    """The channel of a subscription."""
    return CHANNELS.get(subscription.channel) or Unknown(subscription.channel)
