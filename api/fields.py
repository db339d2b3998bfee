"""Fields and base classes of what the API takes and gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from registry.models import Image, Repository, Severity
from registry.oci.names import ImageName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.undo import Step

MAX_ID = 2**63 - 1
SEVERITIES = [each.name.lower() for each in Severity]
KEY_STATES = ("alive", "revoked", "expired", "inactive")
DELETED = ("tag", "manifest", "image", "repository")


class Wanted(serializers.Serializer[Any]):
    """What a request says. A field that it does not have is refused: a typing error must not be ignored."""

    def to_internal_value(self, data: Any) -> Any:
        """The values. Raises ValidationError for unknown fields."""
        if isinstance(data, dict) and (unknown := sorted(set(map(str, data)) - set(self.fields))):
            raise serializers.ValidationError({key: ["there is no such field"] for key in unknown})
        return super().to_internal_value(data)


class Text(serializers.CharField):
    """A text. Numbers are none."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**{"trim_whitespace": False, **more})

    def to_internal_value(self, data: Any) -> str:
        """The text. Raises ValidationError."""
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


class SeverityField(serializers.ChoiceField):
    """A severity in a word: "none" to "critical"."""

    def __init__(self, **more: Any) -> None:
        super().__init__(choices=SEVERITIES, **more)

    def to_internal_value(self, data: Any) -> Any:
        """The number that the database has."""
        return Severity[str(super().to_internal_value(data)).upper()]

    def to_representation(self, value: Any) -> str:
        """The word."""
        return Severity(value).name.lower()


class Whole(serializers.IntegerField):
    """A number in JSON, not in a text."""

    def to_internal_value(self, data: Any) -> int:
        """The number. Raises ValidationError."""
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return super().to_internal_value(data)


class Switch(serializers.BooleanField):
    """true or false."""

    def to_internal_value(self, data: Any) -> bool:
        """The value. Raises ValidationError."""
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class DeletionJson(serializers.Serializer[Any]):
    """What was deleted, and until when it can be restored."""

    id = serializers.IntegerField()
    kind = serializers.ChoiceField(choices=DELETED)
    path = serializers.CharField()
    requested = serializers.ListField(child=serializers.CharField(), help_text="the tags and digests that were named")
    tags = serializers.IntegerField(help_text="how many tags it took")
    actor = serializers.CharField()
    deleted_at = serializers.DateTimeField()
    recoverable_until = serializers.DateTimeField()
    hold = serializers.BooleanField(help_text="true: it stays recoverable until the hold ends")


def deletion_json(deletion: Any) -> dict[str, Any]:
    """A deletion as DeletionJson has it."""
    return {
        "id": deletion.pk,
        "kind": deletion.kind,
        "path": deletion.path,
        "requested": deletion.requested,
        "tags": deletion.summary.get("tags", 0),
        "actor": deletion.actor,
        "deleted_at": deletion.at,
        "recoverable_until": deletion.purge_after,
        "hold": deletion.hold,
    }


class StepJson(serializers.Serializer[Any]):
    """A step of an undo."""

    words = serializers.CharField()
    path = serializers.CharField()
    problem = serializers.CharField(help_text="why it is not done; empty if it is")
    events = serializers.ListField(child=serializers.IntegerField(), help_text="the ids of the events that it undoes")


class UndoneJson(serializers.Serializer[Any]):
    """The steps that were, or would be, done, and those that cannot be done."""

    done = StepJson(many=True)
    skipped = StepJson(many=True)


def undone_json(done: Iterable[Step], skipped: Iterable[Step]) -> dict[str, Any]:
    """Steps as UndoneJson has them."""
    return {"done": [_step(each) for each in done], "skipped": [_step(each) for each in skipped]}


def _step(step: Step) -> dict[str, Any]:
    return {"words": step.words, "path": step.path, "problem": step.problem, "events": list(step.events)}


def attributes(row: Any, kind: type[serializers.Serializer[Any]]) -> dict[str, Any]:
    """The attributes of a row that have the names of the serializer's fields; ``id`` is its key."""
    fields: Any = kind().fields
    return {name: getattr(row, "pk" if name == "id" else name) for name in fields}


class ScansJson(serializers.Serializer[Any]):
    """The scans that were asked for."""

    scans = serializers.ListField(child=serializers.IntegerField(), help_text="the ids of the open scans")


def image_name(repository: Repository, image: Image) -> ImageName:
    """The name by which functions of the domain know the image."""
    return ImageName(repository.project.name, repository.name, image.name)
