"""Pages of cleanup policies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from console.queries.shared import listing
from registry.cleanup import policies
from registry.models import CleanupLine, CleanupPolicy, CleanupRun, Manifest

if TYPE_CHECKING:
    from django.http import QueryDict

    from registry.models import Repository

RUNS = 10
SHOWN = 200


def policy_of(repository: Repository) -> CleanupPolicy:
    """The policy of the repository; an empty one, not saved, when it has none."""
    found = CleanupPolicy.objects.filter(repository=repository).first()
    return found or CleanupPolicy(repository=repository, is_active=False)


def runs(repository: Repository) -> list[CleanupRun]:
    """The last runs."""
    return list(CleanupRun.objects.filter(repository=repository).order_by("-pk")[:RUNS])


@dataclass(frozen=True, slots=True)
class Preview:
    """What a policy would delete now: how many tags and digests, and the first SHOWN of them.

    ``sizes``: bytes with all layers, in the order of ``shown``. Layers that others share stay, so less may be freed.
    """

    total: int
    shown: list[policies.Judged]
    sizes: list[int | None]

    @property
    def rows(self) -> list[tuple[policies.Judged, int | None]]:
        """Each of those shown with its size."""
        return list(zip(self.shown, self.sizes, strict=True))


def preview(repository: Repository, policy: CleanupPolicy) -> Preview:
    """What the policy would delete now."""
    found = policies.preview(repository, policy, timezone.now())
    shown = found[:SHOWN]
    images, digests = {each.image.pk for each in shown}, {each.verdict.digest for each in shown}
    live = Manifest.objects.live().filter(image__in=images, digest__in=digests)
    sizes = {(image, digest): size for image, digest, size in live.values_list("image", "digest", "total_size")}
    return Preview(len(found), shown, [sizes.get((each.image.pk, each.verdict.digest)) for each in shown])


def replayed(repository: Repository, policy: CleanupPolicy) -> dict[str, Any]:
    """What the policy would have deleted in the last 90 days: how many, and those that were used later."""
    total, used_later, shown = 0, 0, []
    for each in policies.replay(repository, policy):
        total += 1
        if each.deletion.pulled_at or each.deletion.tagged_at:
            used_later += 1
            if used_later <= SHOWN:
                shown.append(each)
    return {"total": total, "used_later": used_later, "shown": shown}


def run(repository: Repository, pk: int, asked: QueryDict) -> dict[str, Any] | None:
    """One run with a page of its lines."""
    found = CleanupRun.objects.filter(repository=repository, pk=pk).first()
    if found is None:
        return None
    lines = CleanupLine.objects.filter(run=found)
    outcome = asked.get("outcome", "")
    if outcome in CleanupLine.Outcome.values:
        lines = lines.filter(outcome=outcome)
    return {
        "run": found,
        "going": CleanupLine.objects.filter(run=found, outcome=CleanupLine.Outcome.TO_DELETE).count(),
        "listing": listing.page(lines, asked, {"id": "pk"}),
        "outcome": outcome,
        "outcomes": ("deleted", "doomed", "kept", "left"),
        "open": CleanupRun.OPEN,
    }
