"""The base class of all forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from django import forms

from accounts.errors import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable


Result = TypeVar("Result")


class Form(forms.Form):
    """A form whose purpose is one call of a function outside the console.

    ``field_of``: the field that shows a refusal, by the name of the exception's class. Other refusals are shown at the
    top of the form.
    """

    use_required_attribute = True
    field_of: ClassVar[dict[str, str]] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("label_suffix", "")
        super().__init__(*args, **kwargs)

    def attempt(self, call: Callable[..., Result], *args: Any, **kwargs: Any) -> Result | None:
        """Call the function and return its result. If it refuses, add an error to the form and return None."""
        try:
            return call(*args, **kwargs)
        except Refusal as error:
            self.add_error(self.field_of.get(type(error).__name__), error.sentence)
            return None
