"""Delete the bytes of collected blobs."""

from registry import garbage
from registry.models import ObjectTrash
from tests.race.worker import hurry, nap, run


def deed() -> int:
    """Delete at most two hundred files."""
    nap(0.05)
    hurry(ObjectTrash.objects.all(), "delete_after")
    return garbage.reap(limit=200)


if __name__ == "__main__":
    run(deed)
