"""``python -m tests.workers.power ARGUMENT…``: ``manage.py`` on a disk that keeps what was synced of SQLite's log.

Before each sync of ``kcr.sqlite3-wal`` the bytes of that file are copied to ``kcr.sqlite3-synced``.
"""

import os
import sys
from pathlib import Path
from typing import Any

from django.core.management import execute_from_command_line

LOG, SYNCED = "-wal", "-synced"


def keep_synced_bytes() -> None:
    """Watch ``os.fdatasync`` in this process, and in those that it forks."""

    def fdatasync(descriptor: Any) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.name.endswith(LOG):
            copy = path.with_name(f"{path.name}.{os.getpid()}")
            copy.write_bytes(path.read_bytes())
            copy.rename(path.with_name(path.name.removesuffix(LOG) + SYNCED))
        synced(descriptor)

    synced, os.fdatasync = os.fdatasync, fdatasync  # type: ignore[assignment]  # only the log uses it, with a number


if __name__ == "__main__":
    keep_synced_bytes()
    execute_from_command_line(sys.argv)
