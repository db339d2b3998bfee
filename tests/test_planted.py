"""The list of planted defects (tests.planted) matches the source."""

from __future__ import annotations

import ast
import functools
import shutil
from pathlib import Path

import pytest

from tests.planted.bugs import BUGS, Change, Rotten

SOURCE = Path(__file__).resolve().parents[1]


@functools.cache
def functions_of(file: str) -> set[str]:
    tree = ast.parse((SOURCE / "tests" / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_each_defect_can_be_planted_and_its_tests_exist(bug, tmp_path):
    for change in bug.changes:
        (tmp_path / change.file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCE / change.file, tmp_path / change.file)
    bug.plant(tmp_path)
    for change in bug.changes:
        changed = (tmp_path / change.file).read_text()
        assert changed != (SOURCE / change.file).read_text()
        if change.file.endswith(".py"):
            compile(changed, change.file, "exec")
    assert bug.tests
    for test in bug.tests:
        file, _, name = test.partition("::")
        assert not name or name.partition("[")[0] in functions_of(file), f"there is no {test}"


def test_names_of_defects_are_unique():
    assert len({bug.name for bug in BUGS}) == len(BUGS)


@pytest.mark.parametrize("source", ["", "here and here"])
def test_text_that_occurs_not_exactly_once_is_an_error(tmp_path, source):
    (tmp_path / "file.py").write_text(source)
    with pytest.raises(Rotten, match=r"file\.py"):
        Change("file.py", "here", "there").apply(tmp_path)
    with pytest.raises(Rotten):
        Change("missing.py", "here", "there").apply(tmp_path)
    assert (tmp_path / "file.py").read_text() == source
