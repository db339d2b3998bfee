"""Scans of a project: list, ask for, stop."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from registry.access import Action
from registry.models import Repository
from scanning import scans, tasks
from scanning.models import Report, Scan

from . import problems
from .base import Answer, ApiView, Page, operation
from .fields import ScansJson, Wanted

TRIGGERS = {Scan.Trigger.MANUAL: "request", Scan.Trigger.PUSH: "push", Scan.Trigger.DAILY: "daily"}


class ScanJson(serializers.Serializer[Any]):
    """A scan of a manifest."""

    id = serializers.IntegerField()
    state = serializers.ChoiceField(choices=Scan.State.values)
    image = serializers.CharField(help_text="project/repository/image")
    digest = serializers.CharField()
    trigger = serializers.ChoiceField(choices=list(TRIGGERS.values()))
    requested_by = serializers.CharField()
    requested_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    problem = serializers.CharField(help_text="why it failed; empty if it did not")
    new = serializers.IntegerField(help_text="findings that the scan before did not have")
    fixed = serializers.IntegerField(help_text="findings of the scan before that are gone")


class ScansQuery(serializers.Serializer[Any]):
    """Which scans."""

    state = serializers.ChoiceField(choices=Scan.State.values, required=False)


class ScansWanted(Wanted):
    """What to scan."""

    what = serializers.ChoiceField(
        choices=["tagged", "failed"], default="tagged", help_text="all that has a tag, or what could not be scanned"
    )


class StoppedJson(serializers.Serializer[Any]):
    """How many scans were taken out of the queue."""

    stopped = serializers.IntegerField()


def in_json(scan: Scan) -> dict[str, Any]:
    """A scan as ScanJson has it."""
    names = ("state", "requested_by", "requested_at", "finished_at", "problem", "new", "fixed")
    shown = {name: getattr(scan, name) for name in names}
    return {
        "id": scan.pk,
        "image": scan.manifest.image.path,
        "digest": scan.manifest.digest,
        "trigger": TRIGGERS[Scan.Trigger(scan.trigger)],
        **shown,
    }


def _with_manifests(found: Any) -> Any:
    return found.select_related("manifest__image").defer("manifest__content", "manifest__annotations")


class ScansView(ApiView):
    """/api/v1/projects/{project}/scans"""

    noun = "scans"

    @operation(Action.VIEW, ScanJson, query=ScansQuery, is_list=True)
    def get(self) -> Page:
        """List the scans of a project, the newest first."""
        found = Scan.objects.filter(project=self.project, **self.filters("state"))
        return self.page(_with_manifests(found), "-pk", in_json)

    @operation(Action.MANAGE, ScansJson, body=ScansWanted, statuses=(202,))
    def post(self) -> Answer:
        """Scan all that has a tag in the project, or again what could not be scanned."""
        if self.body["what"] == "failed":
            failed = Report.objects.in_project(self.project).exclude(problem="").values_list("pk", flat=True)
            made = scans.request(failed, Scan.Trigger.MANUAL, self.actor.label)
        else:
            made = scans.request_for_tagged(self.actor, Repository.objects.live().filter(project=self.project))
        tasks.start(made)
        return Answer({"scans": made})

    @operation(Action.MANAGE, StoppedJson)
    def delete(self) -> dict[str, Any]:
        """Take the scans that were asked for, and have not begun, out of the queue."""
        return {"stopped": scans.stop_requested(self.project)}


class ScanView(ApiView):
    """/api/v1/projects/{project}/scans/{scan}"""

    noun = "scans"

    @operation(Action.VIEW, ScanJson)
    def get(self, scan: int) -> dict[str, Any]:
        """Get a scan."""
        found = _with_manifests(Scan.objects.filter(project=self.project, pk=scan)).first()
        if found is None:
            raise problems.NotFound(f"there is no scan {scan}")
        return in_json(found)


class RepositoryScansView(ApiView):
    """…/repositories/{repository}/scans"""

    noun = "scans"

    @operation(Action.MANAGE, ScansJson, statuses=(202,))
    def post(self) -> Answer:
        """Scan all that has a tag in the repository."""
        made = scans.request_for_tagged(self.actor, [self.repository])
        tasks.start(made)
        return Answer({"scans": made})
