"""Forms about keyless CI: issuers, trust rules, and a token to try."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

from accounts.id_tokens import MAX_TOKEN
from accounts.issuers import MAX_DOCUMENT, MAX_URL
from accounts.limits import Limits
from accounts.models import IssuerKind
from accounts.trust_rules import DEFAULT_EVENTS, MAX_VALUE
from console.forms.shared.form import Form

PLAIN = {"autocapitalize": "none", "spellcheck": "false"}
LIFETIMES = (  # minutes
    ("15", gettext_lazy("15 minutes")),
    ("60", gettext_lazy("One hour")),
    ("240", gettext_lazy("4 hours")),
    ("720", gettext_lazy("12 hours")),
)
KINDS = (
    (IssuerKind.GITHUB, "GitHub Actions"),
    (IssuerKind.GITLAB, "GitLab CI"),
    (IssuerKind.KUBERNETES, "Kubernetes"),
    (IssuerKind.GENERIC, gettext_lazy("Another OpenID Connect issuer")),
)
PATTERN = gettext_lazy("* stands for any characters but / and :, and /** at the end for everything below.")


def _text(label: Any, help_text: Any = "", *, required: bool = False, initial: str = "") -> forms.CharField:
    return forms.CharField(
        label=label,
        help_text=help_text,
        required=required,
        initial=initial,
        max_length=MAX_VALUE,
        widget=forms.TextInput(PLAIN),
    )


def _keys() -> forms.CharField:
    return forms.CharField(
        label=gettext_lazy("Public keys (JWKS)"),
        required=False,
        max_length=MAX_DOCUMENT,
        help_text=gettext_lazy("The JSON of the issuer's keys, for a cluster that this registry cannot reach."),
        widget=forms.Textarea({"rows": 6, **PLAIN}),
    )


class NewIssuer(Form):
    """An issuer of ID tokens."""

    kind = forms.ChoiceField(label=gettext_lazy("Kind"), choices=KINDS, initial=IssuerKind.GITHUB)
    url = forms.CharField(
        label=gettext_lazy("Address"),
        max_length=MAX_URL,
        initial="https://token.actions.githubusercontent.com",
        help_text=gettext_lazy(
            "Exactly the claim iss of its tokens. GitHub: https://token.actions.githubusercontent.com, GitLab:"
            " https://gitlab.com."
        ),
        widget=forms.TextInput(PLAIN),
    )
    audience = forms.CharField(
        label=gettext_lazy("Audience"),
        required=False,
        max_length=MAX_URL,
        help_text=gettext_lazy(
            "The claim aud of its tokens. Empty: the address of this registry. Jobs of GitHub and GitLab always ask for"
            " that."
        ),
        widget=forms.TextInput(PLAIN),
    )
    keys = _keys()


class IssuerKeys(Form):
    """New keys of an issuer."""

    keys = _keys()


class Rule(Form):
    """A trust rule of an issuer of one kind, with the fields of that kind."""

    form_id = forms.UUIDField(widget=forms.HiddenInput)
    name = forms.CharField(label=gettext_lazy("Name of the rule"), max_length=64)
    pull = forms.BooleanField(label=gettext_lazy("Pull"), required=False)
    push = forms.BooleanField(label=gettext_lazy("Push"), required=False)
    delete = forms.BooleanField(label=gettext_lazy("Delete"), required=False)
    repositories = forms.CharField(
        label=gettext_lazy("Only these repositories"),
        required=False,
        help_text=gettext_lazy(
            "Names or patterns such as web and team-*, one a line. Empty: all that its roles allow."
        ),
        widget=forms.Textarea({"rows": 3, **PLAIN}),
    )
    networks = forms.CharField(
        label=gettext_lazy("Only from these networks"),
        required=False,
        help_text=gettext_lazy("Addresses or networks such as 10.0.0.0/8, one a line. Empty: from everywhere."),
        widget=forms.Textarea({"rows": 3, **PLAIN}),
    )
    lifetime = forms.ChoiceField(
        label=gettext_lazy("A session lives for"), choices=LIFETIMES, help_text=gettext_lazy("A push must fit in.")
    )

    def __init__(self, *args: Any, kind: str, **kwargs: Any) -> None:
        defaults = {"form_id": uuid.uuid4(), "pull": True, "push": True, "delete": False, "lifetime": "60"}
        kwargs.setdefault("initial", defaults)
        super().__init__(*args, **kwargs)
        self.claim_names = [f"claim_{name}" for name in _FIELDS[kind]]
        for name, field in _FIELDS[kind].items():
            self.fields[f"claim_{name}"] = field()

    def claims(self) -> dict[str, str]:
        """What was typed for each claim."""
        return {name.removeprefix("claim_"): self.cleaned_data[name] for name in self.claim_names}

    def claim_fields(self) -> list[forms.BoundField]:
        """The fields of the issuer's kind."""
        return [self[name] for name in self.claim_names]

    def limits(self) -> Limits:
        """The limits that were chosen."""
        chosen = self.cleaned_data
        actions = [action for action in ("pull", "push", "delete") if chosen[action]]
        return Limits(actions, chosen["repositories"], chosen["networks"])

    def session_lifetime(self) -> timedelta:
        """How long a session lives."""
        return timedelta(minutes=int(self.cleaned_data["lifetime"]))


_FIELDS: dict[str, dict[str, Any]] = {
    IssuerKind.GITHUB: {
        "repository": lambda: _text(gettext_lazy("Repository"), gettext_lazy("Such as acme/web."), required=True),
        "ref": lambda: _text(gettext_lazy("Branch or tag"), gettext_lazy("Such as refs/heads/main. %s") % PATTERN),
        "workflow": lambda: _text(
            gettext_lazy("Workflow file"), gettext_lazy("Such as build.yml, in .github/workflows of the repository.")
        ),
        "environment": lambda: _text(gettext_lazy("Environment")),
        "events": lambda: _text(
            gettext_lazy("Events"),
            gettext_lazy("pull_request only for a rule that may only pull; pull_request_target never."),
            initial=DEFAULT_EVENTS,
        ),
    },
    IssuerKind.GITLAB: {
        "project_path": lambda: _text(gettext_lazy("Project"), gettext_lazy("Such as acme/tools/web."), required=True),
        "ref": lambda: _text(gettext_lazy("Branch or tag"), gettext_lazy("Such as main. %s") % PATTERN),
        "ref_type": lambda: _text(gettext_lazy("Type of the ref"), gettext_lazy("branch or tag.")),
        "ref_protected": lambda: _text(
            gettext_lazy("Protected ref"), gettext_lazy("true: only protected branches and tags."), initial="true"
        ),
        "environment": lambda: _text(gettext_lazy("Environment")),
    },
    IssuerKind.KUBERNETES: {
        "namespace": lambda: _text(gettext_lazy("Namespace"), PATTERN, required=True),
        "service_account": lambda: _text(gettext_lazy("Service account of the cluster"), PATTERN, required=True),
    },
    IssuerKind.GENERIC: {
        "sub": lambda: _text(gettext_lazy("Subject"), PATTERN, required=True),
        "claims": lambda: forms.CharField(
            label=gettext_lazy("Further claims"),
            required=False,
            help_text=gettext_lazy("One a line, such as branch = main."),
            widget=forms.Textarea({"rows": 4, **PLAIN}),
        ),
    },
}


class TryToken(Form):
    """An ID token that a person pasted."""

    token = forms.CharField(
        label=gettext_lazy("ID token"),
        max_length=MAX_TOKEN,
        help_text=gettext_lazy("It is verified and compared with the rules. No session is started, nothing is kept."),
        widget=forms.Textarea({"rows": 4, "autocomplete": "off", **PLAIN}),
    )
