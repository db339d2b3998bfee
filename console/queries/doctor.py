"""The page of the connection doctor."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.errors import sentence
from registry.doctor import runs
from registry.doctor.results import Result, State, Text
from registry.models import DoctorRun


def page() -> dict[str, Any]:
    """The last run: its results by group, numbers of states, and whether it is at work or has lost its process."""
    run = runs.last()
    if run is None:
        return {"run": None, "is_at_work": False}
    known = {probe.name: probe for probe in runs.probes()}
    rows = [_row(result, known[result.probe].title) for result in _results(run) if result.probe in known]
    groups = groupby(rows, key=lambda row: known[row["name"]].group)
    is_young = run.started_at > timezone.now() - DoctorRun.LONGEST
    return {
        "run": run,
        "groups": [(_(group), list(of_group)) for group, of_group in groups],
        "numbers": {str(state): sum(row["state"] == state for row in rows) for state in State},
        "is_at_work": run.finished_at is None and is_young,
        "is_lost": run.finished_at is None and not is_young,
        "left": len(known) - len(rows),
    }


def _results(run: DoctorRun) -> list[Result]:
    return [Result.read(row) for row in run.results]


def _row(result: Result, title: str) -> dict[str, Any]:
    return {
        "name": result.probe,
        "title": _(title),
        "state": str(result.state),
        "seen": sentence(_filled(result.seen)),
        "change": _filled(result.change),
        "lines": result.lines.items(),
    }


def _filled(text: Text) -> str:
    return str(Text(_(text.words), text.values)) if text.words else ""
