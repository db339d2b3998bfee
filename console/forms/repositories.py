"""Forms about repositories."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.core import signing
from django.core.validators import MaxLengthValidator
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from accounts.models import RepositoryRole
from console.forms.shared import repository_fields
from console.forms.shared.form import Form
from console.forms.shared.repository_fields import PRIVATE, PUBLIC
from console.templatetags.numbers import count
from registry.models import Severity
from registry.repositories import MAX_DESCRIPTION, MAX_README, fingerprint

_ONCE = {"autocapitalize": "none", "spellcheck": "false", "autocomplete": "off"}


class ReadmeField(forms.CharField):
    """Markdown of at most MAX_README characters. The browser does not cut it off: it would not say so."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.Textarea({"rows": 10, "data-counted": True})
        super().__init__(required=False, widget=widget, validators=[MaxLengthValidator(MAX_README)], **kwargs)

    def to_python(self, value: Any) -> str:
        """The text with LF as line end, as scripts and the database count it; browsers send CR LF."""
        return (super().to_python(value) or "").replace("\r\n", "\n")


class RepositorySettings(Form):
    """The settings of a repository. ``seen``: the settings that the person saw, to notice a concurrent change."""

    description = forms.CharField(
        label=gettext_lazy("Description"), max_length=MAX_DESCRIPTION, required=False, widget=forms.TextInput
    )
    readme = ReadmeField(label=gettext_lazy("Readme"))
    visibility = repository_fields.visibility()
    scan = repository_fields.scan()
    block_severity = forms.TypedChoiceField(
        label=gettext_lazy("Pull policy"),
        coerce=int,
        initial=Severity.NONE,
        help_text=gettext_lazy(
            "Images with these vulnerabilities cannot be pulled until they are fixed or accepted. Users who may push "
            "can still pull them."
        ),
        choices=[
            (Severity.NONE, gettext_lazy("Off")),
            (Severity.CRITICAL, Severity.CRITICAL.and_above),
            (Severity.HIGH, Severity.HIGH.and_above),
            (Severity.MEDIUM, Severity.MEDIUM.and_above),
        ],
    )
    unscanned_grace_hours = forms.TypedChoiceField(
        label=gettext_lazy("Images without a scan result may be pulled"),
        coerce=int,
        required=False,
        empty_value=None,
        choices=[
            ("", gettext_lazy("always")),
            (1, gettext_lazy("for an hour after the push")),
            (24, gettext_lazy("for a day after the push")),
            (72, gettext_lazy("for three days after the push")),
            (0, pgettext_lazy("images without a result pass", "never")),
        ],
    )
    seen = forms.CharField(widget=forms.HiddenInput, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "readme" in self.fields:
            readme = self["readme"]
            words = _(
                "Markdown, shown on the page of the repository. Pictures are not loaded. {used} of {limit} characters."
            )
            used = format_html("<span data-count>{}</span>", count(len(ReadmeField().to_python(readme.value()))))
            readme.help_text = format_html(words, used=used, limit=count(MAX_README))

    @classmethod
    def of(cls, settings: dict[str, Any], readme: str) -> RepositorySettings:
        """The form with the present settings (``repositories.settings_of``) and readme."""
        return cls(
            initial={
                "description": settings["description"],
                "readme": readme,
                "visibility": PUBLIC if settings["is_public"] else PRIVATE,
                "scan": "auto" if settings["auto_scan"] else "manual",
                "block_severity": settings["block_severity"],
                "unscanned_grace_hours": settings["unscanned_grace_hours"],
                "seen": signing.dumps(settings | {"readme": fingerprint(readme)}),
            }
        )

    def wanted(self) -> dict[str, Any]:
        """The settings that were typed."""
        optional = ("readme", "block_severity", "unscanned_grace_hours")
        given = {name: self.cleaned_data[name] for name in optional if name in self.fields}
        return given | {
            "description": self.cleaned_data["description"],
            "is_public": self.cleaned_data["visibility"] == PUBLIC,
            "auto_scan": self.cleaned_data["scan"] == "auto",
        }


class NewRepository(RepositorySettings):
    """A new repository. Its name cannot be changed later."""

    field_order = ("name", "description", "visibility", "overwrite", "scan")
    field_of: ClassVar = {"NameInvalid": "name"}
    readme = block_severity = unscanned_grace_hours = None  # type: ignore[assignment]  # a new repository has none
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=64,
        help_text=gettext_lazy(
            "2 to 64 lower-case letters and digits, separated by single . _ or -. Cannot be changed later."
        ),
        widget=forms.TextInput({"autofocus": True, **_ONCE}),
    )
    overwrite = repository_fields.overwrite()

    def wanted(self) -> dict[str, Any]:
        """The settings that were typed."""
        return super().wanted() | {"tag_overwrite": self.cleaned_data["overwrite"] == "yes"}


class Grant(Form):
    """A role on one repository, for a member of the organization who is not in the project."""

    email = forms.EmailField(
        label=gettext_lazy("E-mail"),
        max_length=254,
        widget=forms.EmailInput({"list": "candidates", "autocomplete": "off", "autofocus": True}),
    )
    role = forms.ChoiceField(
        label=gettext_lazy("Role"),
        choices=[
            (RepositoryRole.VIEWER, gettext_lazy("Repository Viewer: pulls")),
            (RepositoryRole.MEMBER, gettext_lazy("Repository Member: pushes and pulls")),
        ],
    )
    field_of: ClassVar = {"Refusal": "email", "Denied": "email"}
