"""``make test`` runs every group of tests, and fails if one of them failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.programs import Result, environment_for, require, run
from tests.support.server import SOURCE

if TYPE_CHECKING:
    from pathlib import Path


def make_test(folder: Path, *failing: str) -> tuple[Result, list[str]]:
    """Run ``make test`` with a fake pytest that records its arguments, and fails if one of these words is among them."""
    fails = "".join(f' *"{word}"*) exit 1;;' for word in failing)
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(
        f'#!/bin/sh\necho "$KCR_TEST_DATABASE $*" >> {folder}/calls\ncase "$KCR_TEST_DATABASE $*" in{fails} esac\n'
    )
    python.chmod(0o700)
    (folder / ".development").touch()
    command = [require("make"), "--no-print-directory", "test", f"VENV={folder}"]
    result = run(
        command,
        environment=environment_for(folder, MAKEFLAGS="", MAKELEVEL="0"),
        directory=SOURCE,
        succeeds=not failing,
    )
    return result, (folder / "calls").read_text().splitlines()


def test_all_groups_are_run(tmp_path):
    result, calls = make_test(tmp_path)
    assert [call.startswith("postgresql ") for call in calls] == [False, False, False, True]
    assert result.output.splitlines()[-1] == "All groups of tests passed: plain real alone postgresql"


@pytest.mark.parametrize(
    ("failing", "said"),
    [(["not real"], "plain postgresql"), (["real and not alone"], "plain real postgresql"), (["-m alone"], "alone")],
)
def test_failed_group_does_not_stop_the_next_one(tmp_path, failing, said):
    result, calls = make_test(tmp_path, *failing)
    assert len(calls) == 4
    assert f"These groups of tests failed: {said} (" in result.output


def test_every_test_belongs_to_one_of_the_first_three_groups(tmp_path):
    _, calls = make_test(tmp_path)
    marks = [call.partition(" -m pytest ")[2].partition("-m ")[2] for call in calls]
    assert marks[:3] == ["not real and not alone", "real and not alone", "alone"]
