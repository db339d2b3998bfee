"""The form of a notice: one for each channel, since each asks for other things."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _

from console.forms.shared.form import Form
from registry.models import Severity
from scanning.models import Subscription
from scanning.notifications.outbound_http import MAX_URL, host_of

if TYPE_CHECKING:
    from collections.abc import Mapping

Channel, Frequency = Subscription.Channel, Subscription.Frequency


class Notice(Form):
    """Where it goes, what about, and when. ``current``: what is there already; its address is not shown again."""

    recipients = forms.CharField(
        label=gettext_lazy("Recipients"),
        max_length=5_500,
        widget=forms.Textarea({"rows": 3, "spellcheck": "false", "autocapitalize": "none"}),
        help_text=gettext_lazy(
            "E-mail addresses, one a line. Each mail has a link to unsubscribe. Addresses outside the organization are "
            "asked first whether they agree."
        ),
    )
    url = forms.CharField(
        label=gettext_lazy("URL"),
        max_length=MAX_URL,
        widget=forms.URLInput({"spellcheck": "false", "autocomplete": "off", "placeholder": "https://"}),
    )
    min_severity = forms.TypedChoiceField(
        label=gettext_lazy("Severity"),
        coerce=int,
        initial=Severity.HIGH,
        choices=[
            (Severity.CRITICAL, gettext_lazy("Critical only")),
            (Severity.HIGH, gettext_lazy("High and above")),
            (Severity.MEDIUM, gettext_lazy("Medium and above")),
            (Severity.LOW, gettext_lazy("Low and above")),
            (Severity.UNKNOWN, gettext_lazy("All, those without a severity included")),
        ],
    )
    frequency = forms.ChoiceField(
        label=gettext_lazy("When it is sent"),
        widget=forms.RadioSelect,
        initial=Frequency.NEW,
        choices=[
            (
                Frequency.NEW,
                gettext_lazy("Only when something new was found: not in the image that the tag named before"),
            ),
            (Frequency.EACH, gettext_lazy("After each scan that found something")),
            (Frequency.DAILY, gettext_lazy("Once a day, at 00:00 UTC, when something was found")),
        ],
    )
    language = forms.ChoiceField(label=gettext_lazy("Language"), choices=settings.LANGUAGES)

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        *,
        channel: Subscription.Channel,
        current: Subscription | None = None,
    ) -> None:
        initial: dict[str, Any] = {"language": get_language()}
        if current:
            names = ("min_severity", "frequency", "language")
            initial = {name: getattr(current, name) for name in names} | {"recipients": "\n".join(current.recipients)}
        super().__init__(data, initial=initial)
        self.target = "recipients" if channel == Channel.MAIL else "url"
        self.field_of = {"WrongAddress": self.target, "Refused": self.target}  # type: ignore[misc]
        del self.fields["url" if channel == Channel.MAIL else "recipients"]
        if channel == Channel.KAKAO_WORK:
            self.fields["url"].help_text = _("The address of an Incoming Webhook, made in Kakao Work for a chat room.")
        if channel == Channel.WEBHOOK:
            self.fields["url"].help_text = _("Gets JSON by POST, signed with a secret that is shown to you once.")
            del self.fields["language"]
        if current and channel != Channel.MAIL:
            self.fields["url"].required = False
            words = _("Leave it empty to go on sending to %(host)s.") % {"host": host_of(current.url)}
            self.fields["url"].help_text = words

    def wanted(self) -> dict[str, Any]:
        """What was typed, as ``subscriptions.create`` and ``update`` take it."""
        wanted = dict(self.cleaned_data)
        if "recipients" in wanted:
            wanted["recipients"] = wanted["recipients"].replace(",", "\n").replace(";", "\n").split("\n")
        return wanted
