"""The form that chooses which changes are undone."""

from __future__ import annotations

from datetime import datetime, timedelta

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy

from console.forms.shared.form import Form


class UndoChoice(Form):
    """Whose changes to undo, and since when. ``who``: an access key's ID or an e-mail address."""

    who = forms.CharField(
        label=gettext_lazy("Access key ID or e-mail"),
        max_length=254,
        widget=forms.TextInput({"list": "who", "autocomplete": "off"}),
    )
    hours = forms.TypedChoiceField(
        label=gettext_lazy("Everything since"),
        coerce=int,
        choices=[
            ("1", gettext_lazy("1 hour")),
            ("6", gettext_lazy("6 hours")),
            ("24", gettext_lazy("1 day")),
            ("72", gettext_lazy("3 days")),
            ("168", gettext_lazy("7 days")),
            ("336", gettext_lazy("14 days")),
        ],
    )

    def since(self) -> datetime:
        """The time since when changes are undone."""
        return timezone.now() - timedelta(hours=self.cleaned_data["hours"])
