"""The form of a cleanup policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.core import signing
from django.utils.translation import gettext_lazy

from console.forms.shared.form import Form
from registry.cleanup import policies
from registry.models import CleanupPolicy

if TYPE_CHECKING:
    from registry.models import Repository


def _number(words: Any, help_text: Any = "") -> forms.IntegerField:
    return forms.IntegerField(
        label=words, required=False, min_value=1, max_value=policies.MAX_NUMBER, help_text=help_text
    )


class Policy(Form):
    """The rules of a cleanup policy. An empty field sets no rule."""

    is_active = forms.BooleanField(label=gettext_lazy("Run every night"), required=False)
    keep_last = _number(
        gettext_lazy("Keep the newest … tags of each image"),
        gettext_lazy("These are never deleted, whatever the other rules say."),
    )
    keep_patterns = forms.CharField(
        label=gettext_lazy("Keep tags that match"),
        required=False,
        widget=forms.Textarea({"rows": 3, "spellcheck": "false", "autocapitalize": "none"}),
        help_text=gettext_lazy("One pattern a line, such as release-* or v?.?"),
    )
    tag_days = _number(
        gettext_lazy("Delete tags older than … days"),
        gettext_lazy("Counted from when the tag was last pushed or moved."),
    )
    unpulled_days = _number(gettext_lazy("Delete tags not pulled for … days"))
    untagged_days = _number(
        gettext_lazy("Delete digests without a tag after … days"),
        gettext_lazy("Manifests of an index, and referrers of a digest, are never deleted by this rule."),
    )
    most_percent = forms.IntegerField(
        label=gettext_lazy("Wait for approval when more than … percent of all tags would be deleted"),
        min_value=0,
        max_value=100,
        initial=50,
    )

    seen = forms.CharField(widget=forms.HiddenInput, required=False)

    @classmethod
    def of(cls, policy: CleanupPolicy) -> Policy:
        """The form with the present rules of the policy."""
        rules = policies.rules_of(policy)
        patterns = "\n".join(policy.keep_patterns)
        return cls(initial=rules | {"keep_patterns": patterns, "seen": signing.dumps(rules if policy.pk else {})})

    def rules(self) -> dict[str, Any]:
        """The rules as ``policies.set_policy`` takes them."""
        patterns = [line.strip() for line in self.cleaned_data["keep_patterns"].splitlines() if line.strip()]
        typed = {name: value for name, value in self.cleaned_data.items() if name != "seen"}
        return typed | {"keep_patterns": patterns}

    def policy(self, repository: Repository) -> CleanupPolicy:
        """An unsaved policy with the rules that were typed."""
        return CleanupPolicy(repository=repository, **self.rules())
