"""Manifests: list, get, delete; their vulnerabilities, packages (SBOM) and scans."""

from __future__ import annotations

import json
from typing import Any

from django.db.models import Exists, OuterRef
from django.utils import timezone
from rest_framework import serializers

from registry import trash
from registry.access import Action
from registry.models import Manifest, Severity, Tag
from scanning import sboms, scans, tasks
from scanning.models import Finding, Report, Scan

from . import problems
from .base import Answer, ApiView, Page, operation
from .fields import SEVERITIES, DeletionJson, ScansJson, SeverityField, attributes, deletion_json, image_name


class ReportJson(serializers.Serializer[Any]):
    """What the last scan found. Accepted findings are not in the counts."""

    state = serializers.ChoiceField(choices=Report.State.values)
    problem = serializers.CharField(help_text="why a later scan failed; empty if none did")
    critical = serializers.IntegerField()
    high = serializers.IntegerField()
    medium = serializers.IntegerField()
    low = serializers.IntegerField()
    unknown = serializers.IntegerField()
    fixable = serializers.IntegerField()
    accepted = serializers.IntegerField()
    packages = serializers.IntegerField()
    system = serializers.CharField()
    is_end_of_life = serializers.BooleanField()
    database_at = serializers.DateTimeField(allow_null=True)
    scanned_at = serializers.DateTimeField(allow_null=True)


class ManifestJson(serializers.Serializer[Any]):
    """A manifest or index."""

    digest = serializers.CharField()
    media_type = serializers.CharField()
    artifact_type = serializers.CharField()
    subject = serializers.CharField(help_text="the digest that it refers to; empty if it refers to none")
    platforms = serializers.ListField(child=serializers.CharField())
    size = serializers.IntegerField(help_text="bytes with config and layers")
    tags = serializers.ListField(child=serializers.CharField())
    pushed_at = serializers.DateTimeField()
    last_pushed_at = serializers.DateTimeField()
    report = ReportJson(allow_null=True, help_text="null: it was not scanned")


class ManifestsQuery(serializers.Serializer[Any]):
    """Which manifests."""

    untagged = serializers.BooleanField(required=False, help_text="true: those without a tag; false: those with one")


class FindingJson(serializers.Serializer[Any]):
    """A vulnerability in a package."""

    id = serializers.IntegerField()
    vulnerability = serializers.CharField()
    severity = SeverityField()
    score = serializers.FloatField(allow_null=True, help_text="CVSS")
    title = serializers.CharField()
    url = serializers.CharField()
    package = serializers.CharField()
    type = serializers.CharField()
    installed = serializers.CharField()
    fixed_in = serializers.CharField(help_text="empty: there is no fixed version")
    status = serializers.CharField()
    layer = serializers.CharField()
    path = serializers.CharField()
    digest = serializers.CharField(help_text="the manifest; in an index, that of a platform")
    acceptance = serializers.IntegerField(allow_null=True, help_text="the id of the acceptance that covers it")


class FindingsQuery(serializers.Serializer[Any]):
    """Which findings."""

    severity = serializers.ChoiceField(choices=SEVERITIES, required=False, help_text="this one and worse ones")
    fixable = serializers.BooleanField(required=False, help_text="true: only those that have a fixed version")


class SbomAnswer(serializers.Serializer[Any]):
    """A CycloneDX document."""

    def to_representation(self, instance: Any) -> Any:
        """The document as it is."""
        return instance


def _in_json(manifest: Any, tags: list[str]) -> dict[str, Any]:
    report = getattr(manifest, "report", None)
    shown = None if report is None else attributes(report, ReportJson)
    return {
        "digest": manifest.digest,
        "media_type": manifest.media_type,
        "artifact_type": manifest.artifact_type,
        "subject": manifest.subject,
        "platforms": manifest.platforms.split(),
        "size": manifest.total_size,
        "tags": tags,
        "pushed_at": manifest.pushed_at,
        "last_pushed_at": manifest.last_pushed_at,
        "report": shown,
    }


def _tags_of(manifests: list[int]) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    live = Tag.objects.live().filter(manifest__in=manifests).order_by("name")
    for manifest, name in live.values_list("manifest", "name"):
        found.setdefault(manifest, []).append(name)
    return found


class ManifestsView(ApiView):
    """…/images/{image}/-/manifests"""

    noun = "manifests"

    @operation(Action.VIEW, ManifestJson, query=ManifestsQuery, is_list=True)
    def get(self) -> Page:
        """List the manifests of an image, the newest first."""
        live = Manifest.objects.live().without_content().filter(image=self.image).select_related("report")
        named = Exists(Tag.objects.live().filter(manifest=OuterRef("pk")))
        if "untagged" in self.query:
            live = live.filter(~named if self.query["untagged"] else named)
        page = self.page(live, "-pk", lambda manifest: {"manifest": manifest})
        tags = _tags_of([each["manifest"].pk for each in page.items])
        page.items = [_in_json(each["manifest"], tags.get(each["manifest"].pk, [])) for each in page.items]
        return page


class DigestView(ApiView):
    """What views of one digest share."""

    noun = "manifests"

    def found(self, digest: str) -> Manifest:
        """The live manifest of the image. Raises NotFound."""
        live = Manifest.objects.live().without_content().select_related("report")
        manifest = live.filter(image=self.image, digest=digest).first()
        if manifest is None:
            raise problems.NotFound(f"{self.image.path} has no digest {digest}")
        manifest.image = self.image
        return manifest


class ManifestView(DigestView):
    """…/images/{image}/-/manifests/{digest}"""

    @operation(Action.VIEW, ManifestJson)
    def get(self, digest: str) -> dict[str, Any]:
        """Get a manifest by its digest."""
        manifest = self.found(digest)
        return _in_json(manifest, _tags_of([manifest.pk]).get(manifest.pk, []))

    @operation(Action.MANAGE, DeletionJson)
    def delete(self, digest: str) -> dict[str, Any]:
        """Delete a digest with all its tags, and what only it holds. The answer says until when it can be restored."""
        name = image_name(self.repository, self.image)
        return deletion_json(trash.delete_references(self.actor, self.repository, name, [self.found(digest).digest]))


class VulnerabilitiesView(DigestView):
    """…/manifests/{digest}/vulnerabilities"""

    @operation(Action.VIEW, FindingJson, query=FindingsQuery, is_list=True)
    def get(self, digest: str) -> Page:
        """List what the last scan found in a digest; in an index, in all its platforms."""
        manifest = self.found(digest)
        scanned = Manifest.objects.live().filter(parent_references__parent=manifest)
        digests = {manifest.pk: manifest.digest} | dict(scanned.values_list("pk", "digest"))
        found = Finding.objects.current().filter(manifest__in=digests).select_related("vulnerability", "package")
        if "severity" in self.query:
            found = found.filter(severity__gte=Severity[self.query["severity"].upper()])
        if "fixable" in self.query:
            found = found.exclude(fixed_version="") if self.query["fixable"] else found.filter(fixed_version="")
        with_acceptance = found.with_acceptance(timezone.now())
        return self.page(with_acceptance, "-pk", lambda finding: _finding(finding, digests[finding.manifest_id]))


def _finding(finding: Any, digest: str) -> dict[str, Any]:
    return {
        "id": finding.pk,
        "vulnerability": finding.vulnerability.name,
        "severity": finding.severity,
        "score": finding.vulnerability.score,
        "title": finding.vulnerability.title,
        "url": finding.vulnerability.url,
        "package": finding.package.name,
        "type": finding.package.kind,
        "installed": finding.package.version,
        "fixed_in": finding.fixed_version,
        "status": finding.status,
        "layer": finding.layer,
        "path": finding.path,
        "digest": digest,
        "acceptance": finding.acceptance,
    }


class SbomView(DigestView):
    """…/manifests/{digest}/sbom"""

    @operation(Action.VIEW, SbomAnswer)
    def get(self, digest: str) -> Any:
        """Get the packages of a digest as CycloneDX."""
        content = sboms.download(self.found(digest))
        if content is None:
            raise problems.NotFound("there is no SBOM of this digest: it has not been scanned")
        return json.loads(content)


class ManifestScansView(DigestView):
    """…/manifests/{digest}/scans"""

    @operation(Action.MANAGE, ScansJson, statuses=(202,))
    def post(self, digest: str) -> Answer:
        """Scan a digest; of an index, its platforms."""
        made = scans.request([self.found(digest).pk], Scan.Trigger.MANUAL, self.actor.label)
        tasks.start(made)
        return Answer({"scans": made})
