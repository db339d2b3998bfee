"""Garbage collection of a project: what could be collected, runs, start and stop."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from registry import garbage, tasks
from registry.access import Action
from registry.models import Collection

from . import problems
from .base import Answer, ApiView, Page, operation
from .fields import attributes


class CollectionJson(serializers.Serializer[Any]):
    """A run of the garbage collection."""

    id = serializers.IntegerField()
    state = serializers.ChoiceField(choices=Collection.State.values)
    requested_by = serializers.CharField()
    requested_at = serializers.DateTimeField()
    started_at = serializers.DateTimeField(allow_null=True)
    finished_at = serializers.DateTimeField(allow_null=True)
    is_stopping = serializers.BooleanField()
    total = serializers.IntegerField(help_text="blobs to look at")
    reviewed = serializers.IntegerField(help_text="blobs looked at")
    collected = serializers.IntegerField(help_text="blobs collected")
    size = serializers.IntegerField(help_text="bytes of the collected blobs")
    problem = serializers.CharField()


def in_json(run: Collection) -> dict[str, Any]:
    """A run as CollectionJson has it."""
    return attributes(run, CollectionJson)


class CollectionsView(ApiView):
    """/api/v1/projects/{project}/garbage-collections"""

    noun = "garbage collections"

    @operation(Action.VIEW, CollectionJson, is_list=True)
    def get(self) -> Page:
        """List the runs of the garbage collection of a project, the newest first."""
        return self.page(Collection.objects.filter(project=self.project), "-pk", in_json)

    @operation(Action.MANAGE, CollectionJson, statuses=(202,))
    def post(self) -> Answer:
        """Start a run. If one is at work, the answer is about that one."""
        run, _is_new = garbage.request(self.actor, self.project)
        tasks.start_collection(run.pk)
        return Answer(in_json(run), location=f"{self.request.path}/{run.pk}")


class CollectionView(ApiView):
    """/api/v1/projects/{project}/garbage-collections/{run}"""

    noun = "garbage collections"

    @operation(Action.VIEW, CollectionJson)
    def get(self, run: int) -> dict[str, Any]:
        """Get a run."""
        return in_json(_found(self, run))


class CollectionStopView(ApiView):
    """/api/v1/projects/{project}/garbage-collections/{run}/stop"""

    noun = "garbage collections"

    @operation(Action.MANAGE, CollectionJson, statuses=(202,))
    def post(self, run: int) -> Answer:
        """Stop a run after its present batch."""
        garbage.stop(_found(self, run))
        return Answer(in_json(_found(self, run)))


def _found(view: ApiView, pk: int) -> Collection:
    found = Collection.objects.filter(project=view.project, pk=pk).first()
    if found is None:
        raise problems.NotFound(f"there is no run {pk}")
    return found
