"""A pytest plugin, loaded first: sets the environment of the tests before any setting is read.

``KCR_TEST_DATABASE=postgresql`` runs them on a PostgreSQL server, started here and stopped at the end.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.support.once import run_folder

for name in [name for name in os.environ if name.startswith("KCR_") and not name.startswith("KCR_TEST_")]:
    del os.environ[name]
_folder = tempfile.mkdtemp(prefix="kcr-tests-")
atexit.register(shutil.rmtree, _folder, ignore_errors=True)
os.environ["KCR_DATA_DIR"] = _folder
run_folder()  # before pytest-xdist starts its workers
(Path(_folder) / "static").mkdir()
os.environ["KCR_PUBLIC_URL"] = "http://localhost:8080"


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Start the chosen database once in each process, before pytest-django reads the settings."""
    if os.environ.get("KCR_TEST_DATABASE") == "postgresql" and "KCR_DATABASE_URL" not in os.environ:
        from tests.support.programs import PostgresServer

        server = PostgresServer()
        os.environ["KCR_DATABASE_URL"] = server.__enter__().url
        atexit.register(server.__exit__, None, None, None)
