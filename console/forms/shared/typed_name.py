"""A name that is typed to confirm a deletion."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.forms.shared.form import Form

_ONCE = {"autocapitalize": "none", "spellcheck": "false", "autocomplete": "off"}


class TypedName(Form):
    """The name of the thing to delete, typed to confirm the deletion."""

    typed = forms.CharField(label=gettext_lazy("Name"), max_length=200, widget=forms.TextInput(_ONCE))

    def __init__(self, *args: Any, name: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name = name
        self.fields["typed"].label = _("Type %(name)s to confirm") % {"name": name}

    def clean_typed(self) -> str:
        """Refuse any other name."""
        typed: str = self.cleaned_data["typed"].strip()
        if typed != self.name:
            raise forms.ValidationError(_("This is not “%(name)s”.") % {"name": self.name})
        return typed
