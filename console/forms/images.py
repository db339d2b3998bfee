"""Forms about images."""

from __future__ import annotations

from datetime import datetime, time
from typing import TYPE_CHECKING, Any

from django import forms
from django.core import signing
from django.utils import timezone
from django.utils.translation import gettext_lazy

from console.forms.shared.days import Day
from console.forms.shared.form import Form
from console.forms.shared.seen import seen

if TYPE_CHECKING:
    from registry.models import Image


class ImageSettings(Form):
    """Description and expiry of an image."""

    description = forms.CharField(label=gettext_lazy("Description"), max_length=100, required=False)
    expires_on = Day(
        label=gettext_lazy("Expires on"),
        help_text=gettext_lazy(
            "From the beginning of this day on, push and pull are refused, with the reason. Nothing is deleted."
        ),
    )
    seen = forms.CharField(widget=forms.HiddenInput, required=False)
    sure = forms.CharField(widget=forms.HiddenInput, required=False)

    @classmethod
    def of(cls, image: Image) -> ImageSettings:
        """The form with the present settings of the image."""
        ends = timezone.localtime(image.expires_at).date() if image.expires_at else None
        return cls(
            initial={"description": image.description, "expires_on": ends, "seen": signing.dumps(_in_json(image))}
        )

    def seen_settings(self) -> dict[str, Any] | None:
        """The values that the person saw, as ``images.update`` takes them."""
        found = seen(self)
        return found and found | {"expires_at": found["expires_at"] and datetime.fromisoformat(found["expires_at"])}

    def expires_at(self) -> datetime | None:
        """When the image expires; None for never. The old time is kept if the day was not changed."""
        chosen = self.cleaned_data["expires_on"]
        was: datetime | None = (self.seen_settings() or {}).get("expires_at")
        if was and timezone.localtime(was).date() == chosen:
            return was
        return datetime.combine(chosen, time.min, tzinfo=timezone.get_current_timezone()) if chosen else None

    def is_sure(self, image: Image) -> bool:
        """Whether the person confirmed the day, or need not: it ends nothing, or is the day that the image has."""
        ends = self.expires_at()
        return ends in {None, image.expires_at} or self.cleaned_data["sure"] == str(ends)


def _in_json(image: Image) -> dict[str, Any]:
    return {
        "description": image.description,
        "expires_at": image.expires_at.isoformat() if image.expires_at else None,
    }
