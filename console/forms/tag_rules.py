"""Forms about rules of tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.core import signing
from django.utils.translation import gettext_lazy

from console.forms.shared.form import Form
from registry.tag_rules import Mode, rules_of

if TYPE_CHECKING:
    from accounts.models import Project
    from registry.models import Repository

_LINES = {"rows": 3, "spellcheck": "false", "autocapitalize": "none"}


class EditRule(Form):
    """A rule. ``seen``: the list of rules that the person saw."""

    patterns = forms.CharField(
        label=gettext_lazy("Tags"),
        widget=forms.Textarea(_LINES),
        help_text=gettext_lazy("One pattern a line, such as v* or release-?. Upper and lower case differ."),
    )
    mode = forms.ChoiceField(
        label=gettext_lazy("May these tags change?"),
        widget=forms.RadioSelect,
        initial=Mode.IMMUTABLE,
        choices=[
            (Mode.MOVABLE, gettext_lazy("Movable: a tag may be pushed again with another image")),
            (Mode.IMMUTABLE, gettext_lazy("Immutable: a tag points to one image until it is deleted")),
            (Mode.WRITE_ONCE, gettext_lazy("Write-once: a tag never points to another image, even after a deletion")),
        ],
    )
    keep = forms.BooleanField(
        label=gettext_lazy("Keep these tags"),
        required=False,
        help_text=gettext_lazy("They cannot be deleted, and cleanup policies leave them."),
    )
    pushers = forms.CharField(
        label=gettext_lazy("Only these may push"),
        required=False,
        widget=forms.Textarea(_LINES),
        help_text=gettext_lazy(
            "One e-mail address a line; “admins” stands for the admins of the project. Empty: all who may push."
        ),
    )
    locked = forms.BooleanField(
        label=gettext_lazy("Locked"),
        required=False,
        help_text=gettext_lazy("This rule comes before the rules of repositories, so they cannot loosen it."),
    )
    seen = forms.CharField(widget=forms.HiddenInput, required=False)
    field_of: ClassVar = {"RequestInvalid": "patterns"}

    def __init__(self, *args: Any, of_project: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not of_project:
            del self.fields["locked"]

    @classmethod
    def of(cls, thing: Repository | Project, number: int, *, of_project: bool) -> EditRule:
        """The form of the rule of this number, from 1; of a new one for 0."""
        initial: dict[str, Any] = {"seen": sign(thing)}
        if number:
            rule = rules_of(thing)[number - 1]
            initial |= {
                "patterns": "\n".join(rule.patterns),
                "mode": rule.mode,
                "keep": rule.keep,
                "pushers": "\n".join(rule.pushers),
                "locked": rule.is_locked,
            }
        return cls(initial=initial, of_project=of_project)

    def rule(self) -> dict[str, Any]:
        """The rule that was typed, as ``repositories.update`` takes it."""
        return {
            "patterns": self.cleaned_data["patterns"].split(),
            "mode": self.cleaned_data["mode"],
            "keep": self.cleaned_data["keep"],
            "pushers": self.cleaned_data["pushers"].split(),
            "locked": self.cleaned_data.get("locked", False),
        }


class ChangeRules(Form):
    """A change of the list of rules, or of the last rule. ``seen``: the list and the last rule that the person saw."""

    act = forms.ChoiceField(choices=[(name, name) for name in ("up", "down", "remove", "movable", "immutable")])
    number = forms.IntegerField(required=False, min_value=1)
    seen = forms.CharField()


def sign(thing: Repository | Project) -> str:
    """What the person sees of the rules of a repository or project, for the field ``seen``."""
    shown = {"tag_rules": thing.tag_rules}
    if hasattr(thing, "tag_overwrite"):
        shown["tag_overwrite"] = thing.tag_overwrite
    return signing.dumps(shown)
