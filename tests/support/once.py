"""Files that are made once in a run of tests, for all its processes."""

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def run_folder() -> Path:
    """Return the folder of this run. Processes that this one starts inherit it, if they get this environment."""
    if "KCR_TEST_RUN_FOLDER" not in os.environ:
        folder = os.environ["KCR_TEST_RUN_FOLDER"] = tempfile.mkdtemp(prefix="kcr-test-run-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(os.environ["KCR_TEST_RUN_FOLDER"])


def made_once(name: str, make: Callable[[], bytes]) -> bytes:
    """Return what ``make`` returned in the first process of this run that asked for the name."""
    kept = run_folder() / name
    with (run_folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not kept.exists():
            kept.write_bytes(make())
    return kept.read_bytes()
