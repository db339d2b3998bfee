"""``make test`` runs every group of tests, and fails if one of them failed. ``make run`` chooses an interpreter."""

from __future__ import annotations

import sys
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


def install_python(folder: Path, configured: str, version: str) -> None:
    """A python3.11 that says how it was compiled, and which version it is. Its ``-m venv`` writes its own path."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        f"import sys, sysconfig\nsys.version_info = ({version})\nsysconfig.get_config_var = lambda _: {configured!r}\n"
    )
    program = folder / "python3.11"
    program.write_text(
        f'#!/bin/bash\n[ "$1" = -m ] || PYTHONPATH={folder} exec {sys.executable} "$@"\n'
        f"mkdir -p $3/bin && echo {folder.name} > $3/bin/python\n"
    )
    program.chmod(0o700)


@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        (("", "3, 11"), ("'--enable-optimizations' '--with-lto'", "3, 11"), "second"),
        (("--enable-optimizations", "3, 11"), ("--enable-optimizations", "3, 11"), "first"),
        (("--enable-shared", "3, 11"), (None, "3, 12"), "first"),
        (("--enable-optimizations", "3, 10"), ("", "3, 12"), "second"),
    ],
)
def test_run_prefers_a_python_compiled_with_optimizations(tmp_path, first, second, chosen):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("make", "mkdir"):
        (tools / name).symlink_to(require(name))
    for name, built in {"first": first, "second": second}.items():
        install_python(tmp_path / name, *built)
    path = f"{tmp_path / 'first'}:{tmp_path / 'second'}:{tools}"
    made = tmp_path / "venv" / "bin" / "python"
    command = [str(tools / "make"), f"VENV={tmp_path / 'venv'}", str(made)]
    run(command, environment={"PATH": path, "HOME": str(tmp_path)}, directory=SOURCE)
    assert made.read_text() == f"{chosen}\n"
