"""What all forms share: fields that say what is wrong with them to a screen reader, and refusals from the house."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from django import forms
from django.core import signing
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.keys import KeyRefused
from accounts.organizations import Refused
from registry.errors import RegistryError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

Result = TypeVar("Result")


class Form(forms.Form):
    """A form whose purpose is one call of the house.

    ``field_of``: where to show what the house refuses, by the name of the exception's class; the top of the form
    otherwise.
    """

    use_required_attribute = True
    field_of: ClassVar[dict[str, str]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("label_suffix", "")
        super().__init__(*args, **kwargs)

    def attempt(self, call: Callable[..., Result], *args: Any, **kwargs: Any) -> Result | None:
        """Call the house; None, and an error on the form, when it refuses."""
        try:
            return call(*args, **kwargs)
        except (RegistryError, Refused, KeyRefused) as error:
            self.add_error(self.field_of.get(type(error).__name__), str(error))
            return None


class Day(forms.DateField):
    """A day that somebody may choose or leave out; near the first and the last date some zones have no such moment."""

    YEARS = range(2000, 9000)

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("widget", forms.DateInput({"type": "date"}, format="%Y-%m-%d"))
        super().__init__(required=False, **kwargs)

    def validate(self, value: date | None) -> None:
        """Refuse what no calendar needs."""
        super().validate(value)
        if value is not None and value.year not in self.YEARS:
            words = _("A year from %(first)s to %(last)s.")
            raise forms.ValidationError(words % {"first": self.YEARS[0], "last": self.YEARS[-1]})


def moment(day: date | None, *, after: int = 0) -> datetime | None:
    """When the day, or the one so many days after it, begins where the person is."""
    if not day:
        return None
    return datetime.combine(day + timedelta(days=after), time.min, tzinfo=timezone.get_current_timezone())


def seen(form: Form) -> dict[str, Any] | None:
    """What the person was looking at; None when the form does not say, or was tampered with."""
    try:
        found: dict[str, Any] = signing.loads(form.cleaned_data["seen"])
    except signing.BadSignature:
        return None
    return found
