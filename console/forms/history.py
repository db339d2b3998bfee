"""Forms that choose from the history."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy

from accounts.models import AccessKey
from registry.audit import Wanted
from registry.models import Event

from .parts import Day, Form, moment

if TYPE_CHECKING:
    from accounts.models import Project
    from registry.models import Image, Repository

Action = Event.Action
_DELETED = (Action.TAG_DELETE, Action.IMAGE_DELETE, Action.REPOSITORY_DELETE, Action.DELETION_PURGE)
_RECOVERED = (Action.TAG_RECOVER, Action.IMAGE_RECOVER, Action.REPOSITORY_RECOVER, Action.DELETION_HOLD)
_CHANGED = (
    *(Action.PROJECT_CREATE, Action.PROJECT_UPDATE, Action.REPOSITORY_CREATE, Action.REPOSITORY_UPDATE),
    *(Action.IMAGE_UPDATE, Action.EXPIRY_CHANGE, Action.CLEANUP_POLICY),
)
_TAGGED = (Action.TAG_ADD, Action.TAG_MOVE, Action.TAG_DELETE, Action.TAG_RECOVER)
_ACCEPTED = (Action.VULNERABILITY_ACCEPT, Action.VULNERABILITY_WITHDRAW)
GROUPS: dict[str, tuple[Any, tuple[Event.Action, ...]]] = {
    "push": (gettext_lazy("Image pushed"), (Action.IMAGE_PUSH,)),
    "tag": (gettext_lazy("Tag added, moved, deleted, recovered"), _TAGGED),
    "delete": (gettext_lazy("Deleted"), _DELETED),
    "recover": (gettext_lazy("Recovered"), _RECOVERED),
    "update": (gettext_lazy("Settings changed"), _CHANGED),
    "role": (gettext_lazy("Roles changed"), (Action.ROLE_CHANGE, Action.MEMBER_CHANGE)),
    "collection": (gettext_lazy("Collection"), (Action.COLLECTION_RUN, Action.COLLECTION_DONE)),
    "scan": (gettext_lazy("Scanned"), (Action.SCAN_DONE,)),
    "accept": (gettext_lazy("Vulnerability accepted, withdrawn"), _ACCEPTED),
    "cleanup": (gettext_lazy("Cleanup"), (Action.CLEANUP_RUN,)),
    "notice": (gettext_lazy("Notices changed"), (Action.NOTICE_CHANGE,)),
}


class HistoryFilter(Form):
    """Which events are shown; what makes no sense is left out."""

    action = forms.ChoiceField(
        label=gettext_lazy("Action"),
        required=False,
        widget=forms.Select({"aria-label": gettext_lazy("Action")}),
        choices=[("", gettext_lazy("All actions")), *((name, words) for name, (words, _) in GROUPS.items())],
    )
    who = forms.CharField(label=gettext_lazy("Who"), required=False, max_length=254)
    tag = forms.CharField(label=gettext_lazy("Tag"), required=False, max_length=128)
    key = forms.CharField(label=gettext_lazy("Access key ID"), required=False, max_length=32, widget=forms.HiddenInput)
    since = Day(label=gettext_lazy("From"))
    until = Day(label=gettext_lazy("Until"))

    def wanted(self, project: Project, repository: Repository | None, image: Image | None) -> Wanted:
        """The events that were asked for, of this place."""
        self.is_valid()
        chosen = self.cleaned_data
        key = AccessKey.objects.filter(identifier=chosen["key"]).first() if chosen.get("key") else None
        return Wanted(
            project,
            repository=repository,
            image=image,
            actions=GROUPS[chosen["action"]][1] if chosen.get("action") else (),
            key=key,
            actor=chosen.get("who") or "",
            tag=chosen.get("tag") or "",
            since=moment(chosen.get("since")),
            until=moment(chosen.get("until"), after=1),
        )


class UndoChoice(Form):
    """Whose acts are to be undone, since when. ``who``: an access key's ID, or an e-mail address."""

    who = forms.CharField(
        label=gettext_lazy("Access key ID or e-mail"),
        max_length=254,
        widget=forms.TextInput({"list": "who", "autocomplete": "off"}),
    )
    hours = forms.TypedChoiceField(
        label=gettext_lazy("Everything since"),
        coerce=int,
        choices=[
            ("1", gettext_lazy("1 hour")),
            ("6", gettext_lazy("6 hours")),
            ("24", gettext_lazy("1 day")),
            ("72", gettext_lazy("3 days")),
            ("168", gettext_lazy("7 days")),
            ("336", gettext_lazy("14 days")),
        ],
    )

    def since(self) -> datetime:
        """The moment that was chosen."""
        return timezone.now() - timedelta(hours=self.cleaned_data["hours"])
