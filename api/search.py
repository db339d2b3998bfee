"""Search in all that the holder of the key may see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from registry import access
from registry.access import Action
from registry.models import Repository
from scanning import search

from .base import ApiView, operation
from .fields import SeverityField, Text

if TYPE_CHECKING:
    from scanning.search import Place, Whereabouts


class SearchQuery(serializers.Serializer[Any]):
    """What to look for."""

    q = Text(
        min_length=search.LEAST,
        max_length=500,
        help_text="a part of a name, a whole tag, a reference such as docker takes, a digest or its beginning, an image"
        " ID, a CVE, a package, or package@version",
    )
    project = Text(max_length=40, required=False, help_text="only in this project")


class FoundTagJson(serializers.Serializer[Any]):
    """A tag that was found."""

    image = serializers.CharField()
    tag = serializers.CharField()
    digest = serializers.CharField()


class FoundManifestJson(serializers.Serializer[Any]):
    """A digest that was found."""

    image = serializers.CharField()
    digest = serializers.CharField()


class PackageVersionJson(serializers.Serializer[Any]):
    """A version of a package."""

    name = serializers.CharField()
    version = serializers.CharField()


class PlaceJson(serializers.Serializer[Any]):
    """A digest that has the package or vulnerability."""

    image = serializers.CharField()
    digest = serializers.CharField()
    tags = serializers.ListField(child=serializers.CharField())
    packages = PackageVersionJson(many=True)
    severity = SeverityField(allow_null=True, help_text="of the worst vulnerability in these packages; null: none")
    fixed_versions = serializers.ListField(child=serializers.CharField())
    vulnerabilities = serializers.IntegerField(help_text="findings in these packages")
    accepted = serializers.IntegerField(help_text="those of them whose risk is accepted")


class WhereaboutsJson(serializers.Serializer[Any]):
    """Where a package or vulnerability is."""

    name = serializers.CharField()
    total = serializers.IntegerField(help_text="digests that have it")
    images = serializers.IntegerField()
    places = PlaceJson(many=True, help_text="the first 50 digests, those that a tag names first")


class FoundJson(serializers.Serializer[Any]):
    """What was found, at most 25 of each kind. A whole name of a CVE finds nothing else."""

    repositories = serializers.ListField(child=serializers.CharField(), help_text="project/repository")
    images = serializers.ListField(child=serializers.CharField(), help_text="project/repository/image")
    tags = FoundTagJson(many=True)
    manifests = FoundManifestJson(many=True)
    vulnerability = WhereaboutsJson(allow_null=True)
    package = WhereaboutsJson(allow_null=True)


class SearchView(ApiView):
    """/api/v1/search"""

    noun = "search"

    @operation(None, FoundJson, query=SearchQuery)
    def get(self) -> dict[str, Any]:
        """Search for names, tags, digests, image IDs, vulnerabilities and packages."""
        seen = access.permitted(Repository.objects.all(), self.actor, Action.VIEW)
        found = search.search(seen, self.query["q"].strip(), self.query.get("project", ""))
        if "project" in self.query:
            seen = seen.filter(project__name=self.query["project"])
        cve = search.whereabouts(found.cve, seen) if found.cve else None
        return {
            "repositories": [str(each) for each in found.repositories],
            "images": [each.path for each in found.images],
            "tags": [
                {"image": each.image.path, "tag": each.name, "digest": each.manifest.digest} for each in found.tags
            ],
            "manifests": [{"image": each.image.path, "digest": each.digest} for each in found.manifests],
            "vulnerability": _whereabouts(found.cve, cve) if cve else None,
            "package": _whereabouts(found.package.package, found.package) if found.package else None,
        }


def _whereabouts(name: str, found: Whereabouts) -> dict[str, Any]:
    places = [_place(each) for each in found.places]
    return {"name": name, "total": found.total, "images": found.images, "places": places}


def _place(place: Place) -> dict[str, Any]:
    tags: list[str] = place.manifest.tag_names  # type: ignore[attr-defined]  # of reach.name_tags
    return {
        "image": place.manifest.image.path,
        "digest": place.manifest.digest,
        "tags": tags,
        "packages": [{"name": each.name, "version": each.version} for each in place.packages],
        "severity": place.worst,
        "fixed_versions": place.fixed_versions,
        "vulnerabilities": place.findings,
        "accepted": place.accepted,
    }
