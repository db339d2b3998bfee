"""Search for names in all that the holder of the key may see."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from registry import access
from registry.access import Action
from registry.models import Image, Repository, Tag

from .base import ApiView, operation
from .fields import Text

SHOWN = 25  # of each kind


class SearchQuery(serializers.Serializer[Any]):
    """What to look for."""

    q = Text(min_length=2, max_length=200, help_text="a part of a name; of a tag, its beginning")


class FoundTagJson(serializers.Serializer[Any]):
    """A tag that was found."""

    image = serializers.CharField()
    tag = serializers.CharField()
    digest = serializers.CharField()


class FoundJson(serializers.Serializer[Any]):
    """What was found, at most 25 of each kind."""

    repositories = serializers.ListField(child=serializers.CharField(), help_text="project/repository")
    images = serializers.ListField(child=serializers.CharField(), help_text="project/repository/image")
    tags = FoundTagJson(many=True)


class SearchView(ApiView):
    """/api/v1/search"""

    noun = "search"

    @operation(None, FoundJson, query=SearchQuery)
    def get(self) -> dict[str, Any]:
        """Search for repositories, images and tags by name."""
        words, seen = self.query["q"], access.permitted_projects(self.actor, Action.VIEW)
        here = Repository.objects.live().filter(project__in=seen.values("pk"))
        repositories = here.filter(name__icontains=words).select_related("project").order_by("project__name", "name")
        live = Image.objects.with_contents().filter(repository__in=here.values("pk"))
        images = live.filter(path__icontains=words).order_by("path")
        tags = Tag.objects.live().with_manifests().select_related("manifest", "image")
        tags = tags.filter(image__in=live.values("pk"), name__startswith=words).order_by("image__path", "name")
        return {
            "repositories": [str(each) for each in repositories[:SHOWN]],
            "images": list(images.values_list("path", flat=True)[:SHOWN]),
            "tags": [
                {"image": each.image.path, "tag": each.name, "digest": each.manifest.digest} for each in tags[:SHOWN]
            ],
        }
