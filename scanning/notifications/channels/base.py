"""What a channel is: its words and fields for the console, its checks, and one attempt to send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from accounts.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta

    from django import forms
    from django.utils.functional import Promise

    from scanning.models import Delivery, Subscription

LOGGED_REQUEST = 16 * 1024  # characters of a request that the log keeps


class WrongAddress(Refusal):
    """The channel cannot send to this target. The message says why, in the active language."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one attempt, in English for the log.

    ``is_final``: another attempt would fail, too. ``retry_after``: how long the other side asks to wait. ``request``,
    ``response``: what went over the wire, without secrets. ``status``: the HTTP status. ``left``: the recipients who
    have not got the message yet; None leaves the delivery's list as it is.
    """

    is_sent: bool = False
    is_final: bool = False
    problem: str = ""
    retry_after: timedelta | None = None
    request: str = ""
    status: int | None = None
    response: str = ""
    left: Sequence[str] | None = None


class Channel:
    """One way to send notifications. There is one instance of each channel, without state.

    ``kind`` is stored in ``Subscription.channel`` (at most 20 characters). ``label`` and ``icon`` are for the console.
    ``has_recipients``: sends to ``Subscription.recipients``. ``has_language``: the message holds words.
    ``has_secret``: signs with ``Subscription.secret``; ``secret_help`` tells the person who sees it how to check.
    ``keeps_former_secret``: signs with the former secret, too, for a day after a new one was made.
    ``is_about_events``: sends events of a project (``scanning.notifications.events``), and nothing about scans else.
    ``is_told_of_quotas``: a subscription to a whole project gets warnings of its quotas, too.
    """

    kind: str
    label: str | Promise
    icon: str = "bell"
    has_recipients = False
    has_language = True
    has_secret = False
    secret_help: str | Promise = ""
    keeps_former_secret = False
    is_about_events = False
    is_told_of_quotas = False

    def fields(self, current: Subscription | None) -> dict[str, forms.Field]:
        """Form fields for the target. ``current``: the subscription to change, None to create one."""
        raise NotImplementedError

    def columns(self, typed: Mapping[str, Any], current: Subscription | None = None) -> dict[str, Any]:
        """The columns of Subscription that these field values set. Raises WrongAddress."""
        raise NotImplementedError

    def is_ready(self, subscription: Subscription) -> bool:
        """Whether there is a target to send to."""
        raise NotImplementedError

    def target(self, subscription: Subscription) -> str:
        """The target in a few words for every reader of the project: nothing secret."""
        raise NotImplementedError

    def audited(self, subscription: Subscription) -> dict[str, Any]:
        """The target as the audit log keeps it: nothing secret."""
        raise NotImplementedError

    def give_secret(self, subscription: Subscription) -> str:
        """Set a new ``subscription.secret`` and return it in the clear; "" if the channel signs nothing."""
        return ""

    def send(self, delivery: Delivery) -> Iterator[Outcome]:
        """Send once, in the active language. The last outcome is the result.

        Outcomes before the last tell ``left`` while the channel goes on; the caller stores it, and closes the iterator
        to stop.
        """
        raise NotImplementedError


class Unknown(Channel):
    """A channel that another version of KCR stored and this one does not have."""

    def __init__(self, kind: str) -> None:
        self.kind = self.label = kind

    def fields(self, current: Subscription | None) -> dict[str, forms.Field]:
        """None."""
        return {}

    def columns(self, typed: Mapping[str, Any], current: Subscription | None = None) -> dict[str, Any]:
        """Nothing can be changed."""
        raise WrongAddress(f"this version of KCR has no channel “{self.kind}”")

    def is_ready(self, subscription: Subscription) -> bool:
        """Never."""
        return False

    def target(self, subscription: Subscription) -> str:
        """The kind: the columns may hold secrets."""
        return self.kind

    def audited(self, subscription: Subscription) -> dict[str, Any]:
        """The kind says all."""
        return {}

    def send(self, delivery: Delivery) -> Iterator[Outcome]:
        """Fail for good."""
        yield Outcome(is_final=True, problem=f"this version of KCR has no channel “{self.kind}”")
