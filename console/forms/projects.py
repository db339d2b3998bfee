"""Forms about projects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.core import signing
from django.utils.translation import gettext_lazy

from console.forms.shared import repository_fields
from console.forms.shared.form import Form
from console.forms.shared.repository_fields import PRIVATE, PUBLIC
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
    """The settings of a project, among them those of repositories that a push creates."""

    display_name = forms.CharField(label=gettext_lazy("Name"), max_length=100, required=False)
    description = forms.CharField(label=gettext_lazy("Description"), max_length=200, required=False)
    create = forms.ChoiceField(
        label=gettext_lazy("Push to a repository that does not exist"),
        widget=forms.RadioSelect,
        choices=[
            ("no", gettext_lazy("Refused: people create repositories in the console")),
            ("yes", gettext_lazy("Creates it: if the user may create repositories in this project")),
        ],
    )
    visibility = repository_fields.visibility()
    overwrite = repository_fields.overwrite()
    scan = repository_fields.scan()
    seen = forms.CharField(widget=forms.HiddenInput, required=False)

    @classmethod
    def of(cls, project: Project) -> ProjectSettings:
        """The form with the present settings."""
        current = projects.settings_of(project)
        chosen = {
            "create": "yes" if project.create_on_push else "no",
            "visibility": PUBLIC if project.new_is_public else PRIVATE,
            "overwrite": "yes" if project.new_tag_overwrite else "no",
            "scan": "auto" if project.new_auto_scan else "manual",
        }
        return cls(initial=current | chosen | {"seen": signing.dumps(current)})

    def wanted(self) -> dict[str, Any]:
        """The settings that were typed."""
        given = self.cleaned_data
        return {
            "display_name": given["display_name"],
            "description": given["description"],
            "create_on_push": given["create"] == "yes",
            "new_is_public": given["visibility"] == PUBLIC,
            "new_tag_overwrite": given["overwrite"] == "yes",
            "new_auto_scan": given["scan"] == "auto",
        }
