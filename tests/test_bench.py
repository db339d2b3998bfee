"""``make bench`` measures each of its lines. What it finds on a busy machine says nothing, so nothing is compared."""

from __future__ import annotations

import re
import sys

import pytest

from bench.lines import lines
from tests.support.programs import environment_for, require, require_postgres, run
from tests.support.s3 import require_weed
from tests.support.server import SOURCE

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]


def measure(folder, *arguments: str) -> str:
    require("wrk")
    command = [sys.executable, "-m", "bench", "--rounds", "1", "--size", "1", "--seconds", "1", *arguments]
    return run(command, environment=environment_for(folder), directory=SOURCE, timeout=900).output


def row(said: str, name: str) -> list[str]:
    """Return the cells of a table's row without its name."""
    found = re.search(rf"^\| {re.escape(name)} \|(.*)\|$", said, re.MULTILINE)
    assert found, f"no row {name} in:\n{said}"
    return [cell.strip() for cell in found[1].split("|")]


def test_every_line_is_measured_beside_another_registry(tmp_path):
    require("docker-registry")
    said = measure(tmp_path)
    for line in lines():
        times = row(said, f"{line.name}, {'requests/s' if line.is_load else 'ms'}")
        assert [bool(re.match(r"[1-9][\d,]* \(", cell)) for cell in times[:2]] == [True, not line.ours_only], line.name
        ratios = row(said, line.name)
        assert bool(re.match(r"\d+\.\d\d \(", ratios[0])) != line.ours_only, line.name
        processor = row(said, f"{line.name}, {'µs of processor a request' if line.is_load else 'ms of processor'}")
        assert re.fullmatch(r"[\d,]+", processor[0]), line.name
    start, idle, most = row(said, "KCR, SQLite")
    assert float(start) > 0
    assert re.fullmatch(r"parent \d+; web process \d+(, \d+)*", idle)
    assert re.fullmatch(r"parent \d+; web process \d+(, \d+)*", most)


def test_numbers_of_processes_are_compared_on_postgresql_and_s3(tmp_path):
    require_postgres("initdb")
    require_weed()
    shape = ["--no-peers", "--database", "postgresql", "--storage", "s3", "--processes", "1", "2"]
    said = measure(tmp_path, *shape, "--line", "32 clients")
    assert "| KCR, PostgreSQL, S3, 1 process / KCR, PostgreSQL, S3, 2 processes |" in said
    one, two = (re.match(r"[1-9][\d,]* \(", cell) for cell in row(said, "blob of 2 kB, 32 clients, requests/s"))
    assert one
    assert two
    assert len(row(said, "KCR, PostgreSQL, S3, 1 process")[1].split(", ")) == 1
    assert len(row(said, "KCR, PostgreSQL, S3, 2 processes")[1].split(", ")) == 2
