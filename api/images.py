"""Images: list, settings (description, expiry), delete."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from registry import hosts, images, trash
from registry.access import Action
from registry.models import Image

from .base import Answer, ApiView, Page, etag_of, operation
from .fields import DeletionJson, Text, Wanted, deletion_json


class ImageJson(serializers.Serializer[Any]):
    """An image."""

    name = serializers.CharField()
    path = serializers.CharField(help_text="project/repository/image")
    uri = serializers.CharField(help_text="what docker takes, before the tag")
    description = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True, help_text="when push and pull end; null: never")
    pushed_at = serializers.DateTimeField()
    pulled_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()


class ImageWanted(Wanted):
    """The settings of an image."""

    description = Text(max_length=images.MAX_DESCRIPTION, default="", allow_blank=True)
    expires_at = serializers.DateTimeField(allow_null=True, default=None)


def in_json(image: Image) -> dict[str, Any]:
    """An image as ImageJson has it."""
    host = hosts.BARE if hosts.of_service(hosts.BARE.service) else hosts.Host(image.path.partition("/")[0])
    return {
        "name": image.name,
        "path": image.path,
        "uri": host.uri(image.path),
        "description": image.description,
        "expires_at": image.expires_at,
        "pushed_at": image.pushed_at,
        "pulled_at": image.pulled_at,
        "created_at": image.created_at,
    }


class ImagesView(ApiView):
    """/api/v1/projects/{project}/repositories/{repository}/images"""

    noun = "images"

    @operation(Action.VIEW, ImageJson, is_list=True)
    def get(self) -> Page:
        """List the images of a repository that have content, by name."""
        return self.page(Image.objects.with_contents().filter(repository=self.repository), "path", in_json)


class ImageView(ApiView):
    """/api/v1/projects/{project}/repositories/{repository}/images/{image}"""

    noun = "images"

    @operation(Action.VIEW, ImageJson)
    def get(self) -> Answer:
        """Get an image."""
        return Answer(in_json(self.image), etag=etag_of(self._seen()))

    @operation(Action.MANAGE, ImageJson, body=ImageWanted, is_conditional=True)
    def put(self) -> Answer:
        """Set description and expiry of an image. An image is made by a push."""
        return self._update()

    @operation(Action.MANAGE, ImageJson, body=ImageWanted, is_conditional=True)
    def patch(self) -> Answer:
        """Change description or expiry of an image. What is left out stays."""
        return self._update()

    @operation(Action.MANAGE, DeletionJson, is_conditional=True)
    def delete(self) -> dict[str, Any]:
        """Delete an image with all its tags and digests. The answer says until when it can be restored."""
        self.check(etag_of(self._seen()))
        (deletion,) = trash.delete_images(self.actor, self.repository, [self.image.name])
        return deletion_json(deletion)

    def _update(self) -> Answer:
        now = self._seen()
        self.check(etag_of(now))
        images.update(self.actor, self.image, seen=now if self.has_precondition else None, **self.body)
        return Answer(in_json(self.image), etag=etag_of(self._seen()))

    def _seen(self) -> dict[str, Any]:
        return {name: getattr(self.image, name) for name in images.SETTINGS}
