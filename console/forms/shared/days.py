"""Days in forms, and the moments at which they begin."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from datetime import date


class Day(forms.DateField):
    """An optional day. Years near the first and the last date are refused: in some time zones they overflow."""

    YEARS = range(2000, 9000)

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("widget", forms.DateInput({"type": "date"}, format="%Y-%m-%d"))
        super().__init__(required=False, **kwargs)

    def validate(self, value: date | None) -> None:
        """Refuse years outside YEARS."""
        super().validate(value)
        if value is not None and value.year not in self.YEARS:
            words = _("A year from %(first)s to %(last)s.")
            raise forms.ValidationError(words % {"first": self.YEARS[0], "last": self.YEARS[-1]})


def moment(day: date | None, *, after: int = 0) -> datetime | None:
    """The beginning of the day, or of the day ``after`` days later, in the person's time zone. None for no day."""
    if not day:
        return None
    return datetime.combine(day + timedelta(days=after), time.min, tzinfo=timezone.get_current_timezone())
