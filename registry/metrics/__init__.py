"""Prometheus metrics: requests are counted in the web processes, the rest is read from the database when asked for."""

import atexit
import os
import shutil
import tempfile

from django.conf import settings


def _remove(folder: str, maker: int) -> None:
    if os.getpid() == maker:  # not a fork of it
        shutil.rmtree(folder, ignore_errors=True)


if settings.METRICS_LISTEN and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    # prometheus_client reads the variable when it is imported. Processes that start later inherit it.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="kcr-metrics-")
    atexit.register(_remove, os.environ["PROMETHEUS_MULTIPROC_DIR"], os.getpid())
