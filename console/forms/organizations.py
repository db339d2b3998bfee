"""Forms about the people of an organization."""

from __future__ import annotations

from typing import ClassVar

from django import forms
from django.utils.translation import gettext_lazy

from accounts.models import OrganizationRole
from console.forms.shared.form import Form


class NewInvitation(Form):
    """An invitation to the organization."""

    field_of: ClassVar = {"Refusal": "email"}
    email = forms.EmailField(label=gettext_lazy("E-mail"), max_length=254, widget=forms.EmailInput({"autofocus": True}))
    role = forms.ChoiceField(
        label=gettext_lazy("Role"),
        choices=[
            (OrganizationRole.MEMBER, gettext_lazy("Member: may be given roles in projects and repositories")),
            (OrganizationRole.OWNER, gettext_lazy("Owner: everything in all projects, people, new projects")),
        ],
        initial=OrganizationRole.MEMBER,
    )
