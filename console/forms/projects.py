"""Forms about projects."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from django import forms
from django.core import signing
from django.utils.translation import gettext_lazy

from console.forms.shared.form import Form
from registry import projects

if TYPE_CHECKING:
    from accounts.models import Project


class NewProject(Form):
    """A new project. Its ID cannot be changed later."""

    name = forms.CharField(
        label=gettext_lazy("Project ID"),
        max_length=40,
        help_text=gettext_lazy(
            "3 to 40 lower-case letters, digits and -, a letter first. Part of every image's address; never changed."
        ),
        widget=forms.TextInput({"autofocus": True, "autocapitalize": "none", "spellcheck": "false"}),
    )
    display_name = forms.CharField(label=gettext_lazy("Name"), max_length=100, required=False)
    description = forms.CharField(label=gettext_lazy("Description"), max_length=200, required=False)
    field_of: ClassVar = {"Refusal": "name", "NameInvalid": "name"}


class ProjectSettings(Form):
    """The settings of a project."""

    display_name = forms.CharField(label=gettext_lazy("Name"), max_length=100, required=False)
    description = forms.CharField(label=gettext_lazy("Description"), max_length=200, required=False)
    seen = forms.CharField(widget=forms.HiddenInput, required=False)

    @classmethod
    def of(cls, project: Project) -> ProjectSettings:
        """The form with the present settings."""
        current = projects.settings_of(project)
        return cls(initial=current | {"seen": signing.dumps(current)})

    def wanted(self) -> dict[str, str]:
        """The settings that were typed."""
        return {name: self.cleaned_data[name] for name in ("display_name", "description")}
