"""The machine that measures, and a PostgreSQL as one would run it. Imports nothing of KCR, so settings can follow."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import sys
import sysconfig
from pathlib import Path

from tests.support.programs import PostgresServer, run


class DurablePostgres(PostgresServer):
    """A PostgreSQL that syncs its log before it says that a transaction is committed."""

    settings = ("max_connections=200",)


def machine() -> str:
    """A paragraph: processor, memory, kernel, versions, load."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    is_optimized = "--enable-optimizations" in arguments or sys.base_prefix == "/usr"  # as in the Makefile
    commit = run(["git", "describe", "--always", "--dirty"], succeeds=None).output.strip()
    return (
        f"{os.cpu_count()} processors ({model[1] if model else platform.machine()}),"
        f" {int(memory[1]) / 1e6 if memory else 0:.0f} GB, Linux {platform.release()},"
        f" load {' '.join(f'{load:.1f}' for load in os.getloadavg())}."
        f" KCR {commit or 'without git'}, Python {platform.python_version()}"
        f" {'with' if is_optimized else 'without'} optimizations, SQLite {sqlite3.sqlite_version}"
    )
