"""Events: each event of the audit log as a CloudEvent, signed as Standard Webhooks 1.0.0 says."""

from __future__ import annotations

import base64
import hmac
import secrets
import time
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import limits
from accounts.errors import Refusal, sentence
from scanning.notifications import cloud_events

from .base import WrongAddress
from .sealing import seal, unseal
from .web import WebChannel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scanning.models import Delivery, Subscription

SECRET_PREFIX = "whsec_"  # noqa: S105  a prefix, not a secret
SECRET_BYTES = 32
PROJECT = "project"  # any: accounts.limits reads names of repositories with a project


class Events(WebChannel):
    """A URL of the receiver's own program, for each change in a project."""

    kind = "events"
    label = gettext_lazy("Event webhook")
    icon = "zap"
    help_text = gettext_lazy(
        "Gets each event of the audit log as a CloudEvent, signed with a secret shown to you once."
    )
    has_language = False
    has_secret = True
    keeps_former_secret = True
    is_about_events = True
    is_told_of_quotas = False
    secret_help = gettext_lazy(
        "Each message carries webhook-id, webhook-timestamp and webhook-signature as Standard Webhooks describes them: "
        "give this secret to one of its libraries."
    )

    def message(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """The CloudEvent as it is."""
        return content

    def headers(self, delivery: Delivery, body: bytes) -> dict[str, str]:
        """The id of the event, the time, and a signature with each secret that is valid now."""
        subscription, timestamp = delivery.subscription, str(int(time.time()))
        stored = [subscription.secret]
        if subscription.former_signs:
            stored.append(subscription.former_secret)
        name = str(delivery.content["id"])
        return {
            "Content-Type": cloud_events.CONTENT_TYPE,
            "webhook-id": name,
            "webhook-timestamp": timestamp,
            "webhook-signature": " ".join(signature(unseal(each), name, timestamp, body) for each in stored),
        }

    def give_secret(self, subscription: Subscription) -> str:
        """Set a new secret, encrypted with KCR_SECRET_KEY."""
        secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
        subscription.secret = seal(secret)
        return secret

    def fields(self, current: Subscription | None) -> dict[str, forms.Field]:
        """The URL, the types of events, and the repositories."""
        return super().fields(current) | {
            "types": forms.MultipleChoiceField(
                label=gettext_lazy("Events"),
                choices=[(each, each) for each in cloud_events.TYPES.values()],
                required=False,
                initial=current.types if current else [],
                widget=forms.CheckboxSelectMultiple,
                help_text=gettext_lazy("Choose none to get all of them."),
            ),
            "repositories": forms.CharField(
                label=gettext_lazy("Repositories"),
                required=False,
                initial=current.repositories if current else "",
                validators=[_validate],
                widget=forms.TextInput({"spellcheck": "false", "autocapitalize": "none", "autocomplete": "off"}),
                help_text=gettext_lazy("Names such as web or team-*. Leave it empty to get all events of the project."),
            ),
        }

    def columns(self, typed: Mapping[str, Any], current: Subscription | None = None) -> dict[str, Any]:
        """URL, types and repositories. Those that are not typed stay. Raises WrongAddress."""
        found = super().columns(typed, current)
        if "types" in typed:
            found["types"] = [each for each in cloud_events.TYPES.values() if each in typed["types"]]
        if "repositories" in typed:
            found["repositories"] = _read(typed["repositories"])
        return found

    def audited(self, subscription: Subscription) -> dict[str, Any]:
        """Host, types and repositories."""
        return super().audited(subscription) | {"types": subscription.types, "repositories": subscription.repositories}


def signature(secret: str, name: str, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over id, timestamp and body, in base64. Receivers compute the same."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    signed = hmac.new(key, f"{name}.{timestamp}.".encode() + body, "sha256").digest()
    return f"v1,{base64.b64encode(signed).decode()}"


def _read(text: str) -> str:
    """Patterns of names of repositories, separated by spaces. Raises WrongAddress."""
    if "/" in text:
        raise WrongAddress(_("write the names of repositories without the project: web, team-*"))
    try:
        found = limits.read_repositories(text, PROJECT)
    except Refusal as error:
        raise WrongAddress(str(error)) from error
    return found.replace(f"{PROJECT}/", "")


def _validate(text: str) -> None:
    try:
        _read(text)
    except WrongAddress as error:
        raise forms.ValidationError(sentence(str(error))) from error
