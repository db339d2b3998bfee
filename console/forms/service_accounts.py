"""Forms about service accounts and their keys."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

from accounts.limits import Limits
from accounts.models import ProjectRole
from console.forms.accounts import Key
from console.forms.shared.form import Form
from registry.service_accounts import MAX_DESCRIPTION

DEFAULT_FORMER = "24"
FORMERS = (  # hours
    ("0", gettext_lazy("It ends at once")),
    ("1", gettext_lazy("For one hour")),
    (DEFAULT_FORMER, gettext_lazy("For 24 hours")),
    ("168", gettext_lazy("For 7 days")),
    ("720", gettext_lazy("For 30 days")),
)


class ServiceAccount(Form):
    """What a service account is for, and who hears of it."""

    description = forms.CharField(
        label=gettext_lazy("Description"),
        max_length=MAX_DESCRIPTION,
        required=False,
        help_text=gettext_lazy("What it is for, such as “builds the images of the shop”."),
    )
    contacts = forms.CharField(
        label=gettext_lazy("Contacts"),
        required=False,
        help_text=gettext_lazy(
            "E-mail addresses of members of the organization, one a line. They get a mail before a key expires. Without"
            " contacts the admins of the project or the owners of the organization do."
        ),
        widget=forms.Textarea({"rows": 3, "autocapitalize": "none", "spellcheck": "false"}),
    )

    def addresses(self) -> list[str]:
        """The addresses of the contacts."""
        text: str = self.cleaned_data["contacts"]
        return text.replace(",", " ").split()


class NewServiceAccount(ServiceAccount):
    """A service account of a project or an organization. Only one of a project gets a role with it."""

    field_order = ("name", "description", "role", "contacts")
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=40,
        help_text=gettext_lazy("Lower-case letters, digits and -. It cannot be changed."),
        widget=forms.TextInput({"autofocus": True, "autocapitalize": "none", "spellcheck": "false"}),
    )
    role = forms.ChoiceField(
        label=gettext_lazy("Role in the project"),
        required=False,
        choices=[
            (ProjectRole.MEMBER, gettext_lazy("Member: pushes, manages repositories")),
            (ProjectRole.READER, gettext_lazy("Reader: views and pulls")),
            (ProjectRole.ADMIN, gettext_lazy("Admin: the same as Member, and the people of the project")),
            ("", gettext_lazy("None: give it roles on single repositories, on their pages of permissions")),
        ],
        initial=ProjectRole.MEMBER,
    )

    def __init__(self, *args: Any, of_project: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not of_project:
            del self.fields["role"]

    def role_given(self) -> ProjectRole | None:
        """The role in the project; None for none."""
        chosen = self.cleaned_data.get("role")
        return ProjectRole(chosen) if chosen else None


class NewServiceKey(Key):
    """An access key of a service account, and its limits."""

    field_order = ("form_id", "name", "expires", "expires_on", "pull", "push", "delete", "repositories", "networks")
    pull = forms.BooleanField(label=gettext_lazy("Pull"), required=False)
    push = forms.BooleanField(label=gettext_lazy("Push"), required=False)
    delete = forms.BooleanField(label=gettext_lazy("Delete"), required=False)
    repositories = forms.CharField(
        label=gettext_lazy("Only these repositories"),
        required=False,
        widget=forms.Textarea({"rows": 3, "autocapitalize": "none", "spellcheck": "false"}),
    )
    networks = forms.CharField(
        label=gettext_lazy("Only from these networks"),
        required=False,
        help_text=gettext_lazy("Addresses or networks such as 10.0.0.0/8, one a line. Empty: from everywhere."),
        widget=forms.Textarea({"rows": 3, "autocapitalize": "none", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, of_project: bool, **kwargs: Any) -> None:
        kwargs.setdefault(
            "initial", {"form_id": uuid.uuid4(), "expires": "90", "pull": True, "push": True, "delete": False}
        )
        super().__init__(*args, **kwargs)
        in_project = gettext_lazy(
            "Names or patterns such as web and team-*, one a line. Empty: all that its roles allow."
        )
        anywhere = gettext_lazy(
            "Names or patterns such as shop/web and shop/team-*, one a line. Empty: all that its roles allow."
        )
        self.fields["repositories"].help_text = in_project if of_project else anywhere
        self.fields["management"].help_text = gettext_lazy(
            "For scripts and Terraform: with the key a program can change all that the roles of the account allow. It"
            " needs all three actions."
        )

    def limits(self) -> Limits:
        """The limits that were chosen."""
        chosen = self.cleaned_data
        actions = [action for action in ("pull", "push", "delete") if chosen[action]]
        return Limits(actions, chosen["repositories"], chosen["networks"])


class Rotation(Form):
    """A new secret: how long the present one works beside it."""

    hours = forms.ChoiceField(
        label=gettext_lazy("How long does the present secret go on?"),
        choices=FORMERS,
        initial=DEFAULT_FORMER,
        widget=forms.RadioSelect,
    )

    def former_ends_in(self) -> timedelta:
        """How long the present secret works beside the new one."""
        return timedelta(hours=int(self.cleaned_data["hours"]))
