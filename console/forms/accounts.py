"""Forms about one's own account: signing in, passwords, profile, access keys."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.conf import settings
from django.contrib.auth.forms import SetPasswordMixin
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import zones
from accounts.models import Theme
from console.forms.shared.days import Day
from console.forms.shared.form import Form

if TYPE_CHECKING:
    from accounts.models import Project, User


EXPIRIES = (7, 30, 90, 365)


class SignIn(Form):
    """E-mail address and password."""

    email = forms.EmailField(
        label=gettext_lazy("E-mail"),
        max_length=254,
        widget=forms.EmailInput({"autocomplete": "username", "autofocus": True}),
    )
    password = forms.CharField(
        label=gettext_lazy("Password"), strip=False, widget=forms.PasswordInput({"autocomplete": "current-password"})
    )


class Forgotten(Form):
    """The address that gets the link for a new password."""

    email = forms.EmailField(
        label=gettext_lazy("E-mail"),
        max_length=254,
        widget=forms.EmailInput({"autocomplete": "email", "autofocus": True}),
    )


class NewPassword(SetPasswordMixin, Form):  # type: ignore[type-arg]  # Django's class takes none at run time
    """A new password, typed twice and checked by the validators of the settings."""

    new_password1, new_password2 = SetPasswordMixin.create_password_fields(
        label1=gettext_lazy("New password"), label2=gettext_lazy("New password, again")
    )

    def __init__(self, user: User, *args: Any, **kwargs: Any) -> None:
        self.user = user
        super().__init__(*args, **kwargs)

    def clean(self) -> dict[str, Any]:
        """Check that both are the same and good enough."""
        self.validate_passwords("new_password1", "new_password2")
        self.validate_password_for_user(self.user, "new_password2")
        return super().clean() or {}


class ChangePassword(NewPassword):
    """The same, for a user who gives the current password (`accounts.passwords.change` compares)."""

    field_order = ("old_password", "new_password1", "new_password2")
    old_password = forms.CharField(
        label=gettext_lazy("Current password"),
        strip=False,
        widget=forms.PasswordInput({"autocomplete": "current-password"}),
    )


class Profile(Form):
    """Name, language, theme, time zone."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=100, required=False)
    language = forms.ChoiceField(label=gettext_lazy("Language"), required=False)
    theme = forms.ChoiceField(
        label=gettext_lazy("Theme"),
        required=False,
        choices=[
            ("", gettext_lazy("As the system")),
            (Theme.LIGHT, gettext_lazy("Light")),
            (Theme.DARK, gettext_lazy("Dark")),
        ],
    )
    time_zone = forms.CharField(
        label=gettext_lazy("Time zone"),
        max_length=64,
        required=False,
        help_text=gettext_lazy("Type a place, such as Seoul. Empty: the time zone of your browser."),
        widget=forms.TextInput(
            {
                "list": "zones",
                "autocapitalize": "none",
                "spellcheck": "false",
                "placeholder": gettext_lazy("Browser’s time zone"),
            }
        ),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        languages: Any = self.fields["language"]
        languages.choices = [("", _("As the browser asks")), *settings.LANGUAGES]

    def clean_time_zone(self) -> str:
        """The IANA name of the zone; "" for the browser's."""
        typed: str = self.cleaned_data["time_zone"]
        found = zones.find(typed) if typed else ""
        if found is None:
            words = _("There is no time zone “%(typed)s”. Type a name such as Asia/Seoul, or a place such as Seoul.")
            raise forms.ValidationError(words % {"typed": typed})
        return found


class Key(Form):
    """An access key: its name, when it expires, and whether its pulls count."""

    form_id = forms.UUIDField(widget=forms.HiddenInput)
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=64,
        help_text=gettext_lazy("What it is for, such as “laptop” or “CI of the shop”."),
        widget=forms.TextInput({"autofocus": True}),
    )
    expires = forms.ChoiceField(label=gettext_lazy("Expires"), required=False)
    expires_on = Day(
        label=gettext_lazy("… or on this day"),
    )
    uncounted = forms.BooleanField(
        label=gettext_lazy("Do not count pulls"),
        required=False,
        help_text=gettext_lazy(
            "For scanners, mirrors and monitoring. A pull with this key is not a use of the image: cleanup policies and"
            " the pages of vulnerabilities ignore it."
        ),
    )
    management = forms.BooleanField(
        label=gettext_lazy("May use the management API"),
        required=False,
        help_text=gettext_lazy(
            "For scripts and Terraform: with the key a program can change all that you can change in the console."
        ),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("initial", {"form_id": uuid.uuid4(), "expires": "90"})
        super().__init__(*args, **kwargs)
        expires: Any = self.fields["expires"]
        expires.choices = [
            *((str(days), _("in %(days)s days") % {"days": days}) for days in EXPIRIES),
            ("", _("never")),
        ]

    def expires_at(self) -> datetime | None:
        """When the key expires; None for never. A day counts until its end, in the person's time zone."""
        chosen: date | None = self.cleaned_data["expires_on"]
        if chosen:
            return datetime.combine(chosen, time.max, tzinfo=timezone.get_current_timezone()).astimezone(UTC)
        days = self.cleaned_data["expires"]
        return timezone.now() + timedelta(days=int(days)) if days else None


class NewKey(Key):
    """An access key of a person, and its limits."""

    project: forms.ModelChoiceField[Project] = forms.ModelChoiceField(
        label=gettext_lazy("Project"),
        queryset=None,
        required=False,
        empty_label=gettext_lazy("All projects that I can reach"),
        to_field_name="name",
    )
    pull_only = forms.BooleanField(label=gettext_lazy("May only pull"), required=False)

    def __init__(self, *args: Any, projects: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        project: Any = self.fields["project"]
        project.queryset = projects
