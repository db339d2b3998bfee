"""Forms about tags."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from django import forms
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from console.forms.shared.days import Day, moment
from console.forms.shared.form import Form
from console.queries import manifests
from console.templatetags.digests import named_digest
from registry import tag_rules

if TYPE_CHECKING:
    from datetime import datetime

    from accounts.actors import Actor
    from console.queries.tags import Move
    from registry.models import Image, Manifest

_ONCE = {"autocapitalize": "none", "spellcheck": "false", "autocomplete": "off"}


class AddTag(Form):
    """A tag, and the manifest that it is to point to.

    ``seen``: the digest of the tag on the page that the person submitted; "" if the page showed none.
    """

    tag = forms.CharField(label=gettext_lazy("Tag"), max_length=128, widget=forms.TextInput(_ONCE))
    digest = forms.CharField(
        label=gettext_lazy("Points to"),
        help_text=gettext_lazy("A tag, a digest, or the first 12 characters of a digest."),
        max_length=500,
        widget=forms.TextInput({"list": "digests", **_ONCE}),
    )
    seen = forms.CharField(widget=forms.HiddenInput, required=False)
    field_of: ClassVar = {
        "ManifestUnknown": "digest",
        "ManifestInvalid": "tag",
        "DigestInvalid": "digest",
        "Denied": "tag",
        "Changed": "tag",
        "Unsupported": "tag",
    }

    def __init__(self, image: Image, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.image = image

    def clean(self) -> dict[str, Any]:
        """Find the manifest: ``cleaned_data["manifest"]``."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "digest" in cleaned:
            found: Manifest | None = self.attempt(manifests.resolve, self.image, cleaned["digest"])
            if found is not None:
                cleaned["manifest"] = found
        return cleaned

    def may_point(self, actor: Actor, move: Move) -> bool:
        """Whether the actor may point the tag there; if not, the form says why."""
        if not move.is_needed:
            words = _("%(tag)s already points to %(digest)s.")
            self.add_error("tag", words % {"tag": move.tag, "digest": named_digest(move.after.digest, move.tags_after)})
        elif move.before:
            self.attempt(tag_rules.check_point, actor, self.image, move.tag, move.after, move.before)
        return self.is_valid()

    def has_seen(self, move: Move) -> bool:
        """Whether the person saw where the tag points. If it moved after they looked, the form says so."""
        seen: str = self.cleaned_data["seen"]
        if seen and seen != move.seen:
            words = _("%(tag)s was moved after you opened this page. It points to %(digest)s now.")
            self.add_error("tag", words % {"tag": move.tag, "digest": named_digest(move.seen, move.tags_before)})
        return seen == move.seen


class HistoryFilter(Form):
    """Which versions of tags are shown. A field with a bad value does not filter."""

    tag = forms.CharField(required=False, max_length=128)
    at = Day(label=gettext_lazy("As of"))

    def wanted(self) -> tuple[str, datetime | None]:
        """The tag ("" for all), and the last minute of the day, or now if the day has not ended; None for no day."""
        self.is_valid()
        end = moment(self.cleaned_data.get("at"), after=1)
        last = min(end - timedelta(minutes=1), timezone.now().replace(second=0, microsecond=0)) if end else None
        return self.cleaned_data.get("tag", ""), last
