"""The form with which an invited person joins."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy

from console.forms.accounts import NewPassword


class Join(NewPassword):
    """An invited person who cannot sign in yet: a name and a password."""

    field_order = ("name", "new_password1", "new_password2")
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=100,
        required=False,
        widget=forms.TextInput({"autocomplete": "name", "autofocus": True}),
    )
