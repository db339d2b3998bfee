"""Look for damage while the other workers run."""

from datetime import timedelta

from registry import storage_check
from tests.race.findings import findings
from tests.race.worker import nap, run, wrong


def deed() -> int:
    """One look."""
    storage_check.ORPHAN_AGE = timedelta(hours=1)  # bytes on their way have no row for a moment
    for each in findings():
        wrong(each)
    nap(0.4)
    return 1


if __name__ == "__main__":
    run(deed)
