"""The connection doctor, for operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rest_framework import serializers

from registry.doctor import runs
from registry.doctor.results import Result, State

from . import problems
from .base import ApiView, operation

if TYPE_CHECKING:
    from registry.doctor.visit import Probe
    from registry.models import DoctorRun


class ProbeJson(serializers.Serializer[Any]):
    """What a probe found."""

    probe = serializers.CharField()
    group = serializers.CharField()
    title = serializers.CharField()
    state = serializers.ChoiceField(choices=[str(state) for state in State])
    seen = serializers.CharField()
    change = serializers.CharField(help_text="what to change; empty: nothing")
    lines = serializers.DictField(child=serializers.CharField(), help_text="the line to change, by kind of proxy")


class DoctorJson(serializers.Serializer[Any]):
    """A run of the doctor."""

    id = serializers.IntegerField()
    requested_by = serializers.CharField()
    started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True, help_text="null: it is at work, or has lost its process")
    results = ProbeJson(many=True, help_text="of the probes that have ended")


class DoctorView(ApiView):
    """/api/v1/doctor"""

    noun = "doctor"

    @operation(None, DoctorJson, is_operator=True)
    def get(self) -> dict[str, Any]:
        """Get the last run of the doctor, finished or not."""
        run = runs.last()
        if run is None:
            raise problems.NotFound("the doctor has not run yet")
        return _in_json(run)

    @operation(None, DoctorJson, is_operator=True, statuses=(202,))
    def post(self) -> dict[str, Any]:
        """Start a run of the doctor. It takes up to three minutes; read its results with GET."""
        if not runs.start(self.actor.label):
            raise problems.InUse("the doctor runs already")
        run = runs.last()
        assert run is not None
        return _in_json(run)


def _in_json(run: DoctorRun) -> dict[str, Any]:
    known = {probe.name: probe for probe in runs.probes()}
    results = [Result.read(row) for row in run.results]
    shown = [_probe(each, known[each.probe]) for each in results if each.probe in known]
    names = ("requested_by", "started_at", "finished_at")
    return {"id": run.pk, "results": shown, **{name: getattr(run, name) for name in names}}


def _probe(result: Result, probe: Probe) -> dict[str, Any]:
    return {
        "probe": result.probe,
        "group": probe.group,
        "title": probe.title,
        "state": str(result.state),
        "seen": str(result.seen),
        "change": str(result.change),
        "lines": result.lines,
    }
