"""Tags: list, get, point to a digest, delete; and what they pointed to before."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from registry import manifests, trash
from registry.access import Action
from registry.models import Tag

from . import problems
from .base import Answer, ApiView, Page, operation
from .fields import DeletionJson, Text, Wanted, deletion_json, image_name


class TagJson(serializers.Serializer[Any]):
    """A tag. Its ETag is its digest."""

    name = serializers.CharField()
    digest = serializers.CharField()
    media_type = serializers.CharField()
    size = serializers.IntegerField(help_text="bytes of the manifest with its config and layers")
    platforms = serializers.ListField(child=serializers.CharField(), help_text="os/architecture")
    since = serializers.DateTimeField(help_text="when it was pointed to this digest")
    pushed_at = serializers.DateTimeField()


class TagWanted(Wanted):
    """Where a tag is to point."""

    digest = Text(max_length=200, help_text="of a manifest of the same image")


class TagVersionJson(serializers.Serializer[Any]):
    """A time during which a tag pointed to a digest."""

    id = serializers.IntegerField()
    name = serializers.CharField()
    digest = serializers.CharField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField(allow_null=True, help_text="null: it still points there")
    actor = serializers.CharField(help_text="who pointed it there; empty if the audit log does not reach back so far")


def in_json(tag: Tag) -> dict[str, Any]:
    """A tag as TagJson has it."""
    return {
        "name": tag.name,
        "digest": tag.manifest.digest,
        "media_type": tag.manifest.media_type,
        "size": tag.manifest.total_size,
        "platforms": tag.manifest.platforms.split(),
        "since": tag.started_at,
        "pushed_at": tag.pushed_at,
    }


class TagsView(ApiView):
    """…/images/{image}/-/tags"""

    noun = "tags"

    @operation(Action.VIEW, TagJson, is_list=True)
    def get(self) -> Page:
        """List the tags of an image, by name."""
        return self.page(Tag.objects.live().with_manifests().filter(image=self.image), "name", in_json)


class TagView(ApiView):
    """…/images/{image}/-/tags/{tag}"""

    noun = "tags"

    @operation(Action.VIEW, TagJson)
    def get(self, tag: str) -> Answer:
        """Get a tag."""
        return _answer(self._found(tag))

    @operation(Action.MANAGE, TagJson, body=TagWanted, statuses=(200, 201), is_conditional=True)
    def put(self, tag: str) -> Answer:
        """Point a tag to a digest of the image. Moving a tag takes If-Match with the ETag that you saw."""
        current, digest = self._current(tag), self.body["digest"]
        seen = current.manifest.digest if current else ""
        self.check(f'"{seen}"' if seen else "")
        if seen not in {"", digest} and not self.has_precondition:
            raise problems.PreconditionRequired(f"{tag} points to {seen}: send If-Match with that ETag to move it")
        name = image_name(self.repository, self.image)
        is_changed = manifests.point_tag(self.actor, self.repository, name, tag, digest, seen=seen)
        answer = _answer(self._found(tag))
        answer.status = 201 if is_changed and not seen else 200
        answer.location = self.request.path if answer.status == 201 else ""
        return answer

    @operation(Action.MANAGE, DeletionJson, is_conditional=True)
    def delete(self, tag: str) -> dict[str, Any]:
        """Delete a tag. Its digest stays. The answer says until when the tag can be restored."""
        self.check(f'"{self._found(tag).manifest.digest}"')
        name = image_name(self.repository, self.image)
        return deletion_json(trash.delete_references(self.actor, self.repository, name, [tag]))

    def _current(self, tag: str) -> Tag | None:
        return Tag.objects.live().with_manifests().filter(image=self.image, name=tag).first()

    def _found(self, tag: str) -> Tag:
        found = self._current(tag)
        if found is None:
            raise problems.NotFound(f"{self.image.path} has no tag {tag}")
        return found


def _answer(tag: Tag) -> Answer:
    return Answer(in_json(tag), etag=f'"{tag.manifest.digest}"')


class TagHistoryView(ApiView):
    """…/images/{image}/-/tags/{tag}/history"""

    noun = "tags"

    @operation(Action.VIEW, TagVersionJson, is_list=True)
    def get(self, tag: str) -> Page:
        """List what a tag pointed to, the newest first. A deleted tag keeps its history."""
        found = Tag.objects.filter(image=self.image, name=tag).with_manifests().select_related("opened_by")
        return self.page(found, "-pk", _version)


def _version(tag: Tag) -> dict[str, Any]:
    return {
        "id": tag.pk,
        "name": tag.name,
        "digest": tag.manifest.digest,
        "since": tag.started_at,
        "until": tag.ended_at,
        "actor": tag.opened_by.actor if tag.opened_by else "",
    }
