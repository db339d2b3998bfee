"""Forms about tags."""

from __future__ import annotations

from typing import ClassVar

from django import forms
from django.utils.translation import gettext_lazy

from console.forms.shared.form import Form

_ONCE = {"autocapitalize": "none", "spellcheck": "false", "autocomplete": "off"}


class AddTag(Form):
    """A tag for a digest. ``seen``: the digest that the tag pointed to when the page was made, "" for none."""

    tag = forms.CharField(label=gettext_lazy("Tag"), max_length=128, widget=forms.TextInput(_ONCE))
    digest = forms.CharField(
        label=gettext_lazy("Digest"), max_length=135, widget=forms.TextInput({"list": "digests", **_ONCE})
    )
    seen = forms.CharField(widget=forms.HiddenInput, required=False)
    field_of: ClassVar = {"ManifestUnknown": "digest", "DigestInvalid": "digest", "Denied": "tag", "Changed": "tag"}
