"""The form that accepts the risk of a vulnerability."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.forms.shared.days import Day
from console.forms.shared.form import Form
from console.templatetags.scans import justification_words
from scanning.acceptances import MAX_REASON
from scanning.models import Acceptance

if TYPE_CHECKING:
    from datetime import date

DAYS = 90


class Accept(Form):
    """A risk acceptance: its scope, its reason and its end."""

    scope = forms.ChoiceField(
        label=gettext_lazy("Where"),
        widget=forms.RadioSelect,
        initial="repository",
    )
    packages = forms.ChoiceField(
        label=gettext_lazy("In which package"),
        widget=forms.RadioSelect,
        initial="this",
    )
    justification = forms.ChoiceField(label=gettext_lazy("Justification"), required=False)
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=MAX_REASON,
        widget=forms.Textarea({"rows": 3}),
        help_text=gettext_lazy("Shown beside the finding."),
    )
    ends_on = Day(
        label=gettext_lazy("Until"),
        help_text=gettext_lazy("The last day on which it holds. Left empty, it has no end."),
    )

    def __init__(self, *args: Any, package: str, repository: str, **kwargs: Any) -> None:
        kwargs["initial"] = {"ends_on": timezone.localdate() + timedelta(days=DAYS)}
        super().__init__(*args, **kwargs)
        offered = ["", *Acceptance.Justification.values]
        self.fields["justification"].choices = [(each, justification_words(each)) for each in offered]  # type: ignore[attr-defined]
        self.fields["scope"].choices = [  # type: ignore[attr-defined]
            ("repository", _("In %(repository)s only") % {"repository": repository}),
            ("project", _("In the whole project")),
        ]
        self.fields["packages"].choices = [  # type: ignore[attr-defined]
            ("this", _("In %(package)s only") % {"package": package}),
            ("every", _("In every package")),
        ]

    def clean_reason(self) -> str:
        """Refuse a reason of spaces."""
        reason: str = self.cleaned_data["reason"].strip()
        if not reason:
            raise forms.ValidationError(_("Say why."))
        return reason

    def clean_ends_on(self) -> date | None:
        """Refuse a day in the past."""
        chosen: date | None = self.cleaned_data["ends_on"]
        if chosen is not None and chosen < timezone.localdate():
            raise forms.ValidationError(_("This day is over."))
        return chosen

    def expires_at(self) -> datetime | None:
        """The end of the day that was chosen; None for no end."""
        chosen = self.cleaned_data["ends_on"]
        zone = timezone.get_current_timezone()
        return datetime.combine(chosen, time(23, 59, 59), tzinfo=zone) if chosen else None
