"""Fields about the settings of a repository, for the forms of a repository and of repositories that a push creates."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy

PRIVATE, PUBLIC = "private", "public"


def visibility() -> forms.ChoiceField:
    """Who may pull."""
    return forms.ChoiceField(
        label=gettext_lazy("Visibility"),
        widget=forms.RadioSelect,
        initial=PRIVATE,
        choices=[
            (PRIVATE, gettext_lazy("Private: people of the project, and those who are given a role on it")),
            (PUBLIC, gettext_lazy("Public: everybody may pull, without logging in")),
        ],
    )


def scan() -> forms.ChoiceField:
    """Whether pushed images are scanned."""
    return forms.ChoiceField(
        label=gettext_lazy("Image scan"),
        widget=forms.RadioSelect,
        initial="auto",
        choices=[
            ("auto", gettext_lazy("Automatic: each pushed image is scanned for vulnerabilities")),
            ("manual", gettext_lazy("Manual: on request")),
        ],
    )


def overwrite() -> forms.ChoiceField:
    """The last tag rule."""
    return forms.ChoiceField(
        label=gettext_lazy("Tag overwrite"),
        widget=forms.RadioSelect,
        initial="yes",
        choices=[
            ("yes", gettext_lazy("Enabled: a tag may be pushed again with another image")),
            ("no", gettext_lazy("Disabled: a tag always points to the same image")),
        ],
    )
