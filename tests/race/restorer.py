"""Recover deletions."""

from registry import trash
from registry.models import Deletion
from tests.race.worker import me, nap, rng, run


def deed() -> int:
    """Recover one deletion, or two at once."""
    nap(0.5)
    ids = list(Deletion.objects.order_by("?").values_list("pk", flat=True)[: rng.randint(1, 2)])
    return len(trash.restore(me(), ids, replace_tags=rng.random() < 0.3).deletions)


if __name__ == "__main__":
    run(deed)
