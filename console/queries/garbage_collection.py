"""The page of garbage collection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from registry import garbage
from registry.models import Collection

if TYPE_CHECKING:
    from accounts.models import Project

RUNS = 20


def page(project: Project) -> dict[str, Any]:
    """What could be collected now, the run at work if there is one, and past runs."""
    runs = list(Collection.objects.filter(project=project).order_by("-pk")[:RUNS])
    at_work = next((run for run in runs if run.state in Collection.OPEN), None)
    return {
        "preview": None if at_work else garbage.preview(project),
        "open": at_work,
        "runs": [run for run in runs if run is not at_work],
    }
