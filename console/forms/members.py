"""Forms about the members of a project."""

from __future__ import annotations

from typing import ClassVar

from django import forms
from django.utils.translation import gettext_lazy

from accounts.models import ProjectRole
from console.forms.shared.form import Form


class ProjectMember(Form):
    """A person's role in a project."""

    email = forms.EmailField(
        label=gettext_lazy("E-mail"),
        max_length=254,
        widget=forms.EmailInput({"list": "candidates", "autocomplete": "off", "autofocus": True}),
    )
    role = forms.ChoiceField(
        label=gettext_lazy("Role"),
        choices=[
            (ProjectRole.MEMBER, gettext_lazy("Member: pushes, manages repositories")),
            (ProjectRole.ADMIN, gettext_lazy("Admin: the same, and the people of the project")),
            (ProjectRole.READER, gettext_lazy("Reader: views and pulls")),
        ],
        initial=ProjectRole.MEMBER,
    )
    field_of: ClassVar = {"Refusal": "email"}
