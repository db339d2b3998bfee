"""The form of a subscription. The channel gives the fields of its target; the rest is the same for all channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.utils.translation import get_language, gettext_lazy

from console.forms.shared.form import Form
from registry.models import Severity
from scanning.models import Subscription

if TYPE_CHECKING:
    from collections.abc import Mapping

    from scanning.notifications.channels import Channel

Frequency = Subscription.Frequency


class NotificationForm(Form):
    """Target, severity, frequency and language. ``current``: the subscription to change."""

    min_severity = forms.TypedChoiceField(
        label=gettext_lazy("Severity"),
        coerce=int,
        initial=Severity.HIGH,
        choices=[(each, each.and_above) for each in sorted(Severity, reverse=True) if each],
    )
    frequency = forms.ChoiceField(
        label=gettext_lazy("When it is sent"),
        widget=forms.RadioSelect,
        initial=Frequency.NEW,
        choices=[
            (
                Frequency.NEW,
                gettext_lazy("Only when something new was found: not in the image that the tag pointed to before"),
            ),
            (Frequency.EACH, gettext_lazy("After each scan that found something")),
            (Frequency.DAILY, gettext_lazy("Once a day, at 00:00 UTC, when something was found")),
        ],
    )
    language = forms.ChoiceField(label=gettext_lazy("Language"), choices=settings.LANGUAGES)

    def __init__(
        self, data: Mapping[str, Any] | None = None, *, channel: Channel, current: Subscription | None = None
    ) -> None:
        initial: dict[str, Any] = {"language": get_language()}
        if current:
            initial = {name: getattr(current, name) for name in ("min_severity", "frequency", "language")}
        super().__init__(data, initial=initial)
        target = channel.fields(current)
        self.target_names = tuple(target)
        self.fields = target | self.fields
        where = next(iter(target), "language")
        self.field_of = {"WrongAddress": where, "Refusal": where}  # type: ignore[misc]
        if not channel.has_language:
            del self.fields["language"]
        if channel.is_about_events:
            del self.fields["min_severity"], self.fields["frequency"]

    def target(self) -> dict[str, Any]:
        """What was typed into the channel's own fields."""
        return {name: self.cleaned_data[name] for name in self.target_names}

    def options(self) -> dict[str, Any]:
        """The other fields, as ``subscriptions.create`` and ``update`` take them."""
        return {name: value for name, value in self.cleaned_data.items() if name not in self.target_names}
