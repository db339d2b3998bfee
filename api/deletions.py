"""Recovery: deletions that can be restored, held or purged."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from registry import trash
from registry.access import Action
from registry.models import Deletion

from . import problems
from .base import ApiView, Page, operation
from .fields import DeletionJson, Switch, Text, Wanted, deletion_json


class DeletionsQuery(serializers.Serializer[Any]):
    """Which deletions."""

    kind = serializers.ChoiceField(choices=Deletion.Kind.values, required=False)
    path = Text(max_length=200, required=False, help_text="project/repository, or project/repository/image")


class DeletionChanges(Wanted):
    """The hold."""

    hold = Switch(help_text="true: it stays recoverable until the hold ends")


class RestoreWanted(Wanted):
    """How to restore."""

    replace_tags = Switch(default=False, help_text="true: a tag that names another digest now is moved back")


class SkippedJson(serializers.Serializer[Any]):
    """A tag that was not restored, because its name is in use."""

    path = serializers.CharField()
    tag = serializers.CharField()
    digest = serializers.CharField(help_text="what it names now")


class RestoredJson(serializers.Serializer[Any]):
    """What came back."""

    restored = DeletionJson(many=True)
    tags = serializers.IntegerField()
    skipped = SkippedJson(many=True)


class DeletionsView(ApiView):
    """/api/v1/projects/{project}/deletions"""

    noun = "deletions"

    @operation(Action.VIEW, DeletionJson, query=DeletionsQuery, is_list=True)
    def get(self) -> Page:
        """List what can be restored in a project, the newest first."""
        return self.page(trash.listed(self.project).filter(**self.filters("kind", "path")), "-pk", deletion_json)


class _DeletionView(ApiView):
    noun = "deletions"

    def found(self, pk: int) -> Deletion:
        """The restorable deletion. Raises NotFound."""
        found = trash.listed(self.project).filter(pk=pk).first()
        if found is None:
            raise problems.NotFound("it was restored already, or is gone for good")
        return found


class DeletionView(_DeletionView):
    """/api/v1/projects/{project}/deletions/{deletion}"""

    @operation(Action.VIEW, DeletionJson)
    def get(self, deletion: int) -> dict[str, Any]:
        """Get a deletion that can be restored."""
        return deletion_json(self.found(deletion))

    @operation(Action.MANAGE, DeletionJson, body=DeletionChanges)
    def patch(self, deletion: int) -> dict[str, Any]:
        """Hold a deletion, so that it is not purged, or end the hold."""
        if "hold" in self.body:
            trash.hold(self.actor, self.found(deletion), on=self.body["hold"])
        return deletion_json(self.found(deletion))

    @operation(Action.ADMINISTER)
    def delete(self, deletion: int) -> None:
        """Purge what was deleted: it is gone for good."""
        trash.purge_now(self.actor, self.found(deletion))


class RestoreView(_DeletionView):
    """/api/v1/projects/{project}/deletions/{deletion}/restore"""

    @operation(Action.MANAGE, RestoredJson, body=RestoreWanted)
    def post(self, deletion: int) -> dict[str, Any]:
        """Restore what was deleted."""
        found = self.found(deletion)
        done = trash.restore(self.actor, [found.pk], replace_tags=self.body["replace_tags"])
        return {
            "restored": [deletion_json(found) for _each in done.deletions],
            "tags": done.tags,
            "skipped": [{"path": each.path, "tag": each.tag, "digest": each.digest} for each in done.skipped],
        }
