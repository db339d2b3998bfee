"""Notifications in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from console.templatetags.digests import short
from console.templatetags.numbers import count
from registry.models import Severity
from scanning.models import Subscription
from scanning.notifications import channels, cloud_events, words

if TYPE_CHECKING:
    from scanning.models import Delivery
    from scanning.notifications.channels import Channel

register = template.Library()


@register.filter
def least_words(least: int) -> str:
    """From which severity on."""
    return str(Severity(least).and_above)


@register.filter
def channel(subscription: Subscription) -> Channel:
    """The channel of a subscription."""
    return channels.of(subscription)


@register.inclusion_tag("console/notifications/_target.html")
def target(subscription: Subscription) -> dict[str, Any]:
    """Icon and words of where a subscription sends to."""
    found = channels.of(subscription)
    return {"icon_name": found.icon, "words": found.target(subscription)}


@register.filter
def frequency_words(frequency: str) -> str:
    """When it goes out."""
    words = {
        Subscription.Frequency.EACH: _("after each scan"),
        Subscription.Frequency.NEW: _("when something is new"),
        Subscription.Frequency.DAILY: _("once a day"),
    }
    return words.get(Subscription.Frequency(frequency), frequency)


@register.simple_tag
def delivery_words(delivery: Delivery) -> str:
    """What a message is about, in words."""
    if delivery.is_test:
        return _("Test")
    if "specversion" in delivery.content:
        path, at, digest = delivery.content["subject"].partition("@")
        return f"{delivery.content['type'].removeprefix(cloud_events.PREFIX)} · {path}{at}{short(digest)}"
    if "quota" in delivery.content:
        return words.quota(delivery.content)
    totals = delivery.content.get("totals", {})
    images, new = totals.get("images", 0), totals.get("new", 0)
    said = ngettext("%(count)s image", "%(count)s images", images) % {"count": count(images)}
    return said + ", " + _("%(count)s new") % {"count": count(new)} if new else said
