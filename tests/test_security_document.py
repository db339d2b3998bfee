"""docs/design/security.md names an existing test for each statement, and no statement is missing."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1]
DOCUMENT = (SOURCE / "docs" / "design" / "security.md").read_text()
STATEMENTS = DOCUMENT.partition("\n## Sixty statements\n")[2].partition("\n## ")[0]
#: number -> text
NUMBERED = {int(number): text for number, text in re.findall(r"^(\d+)\. (.+(?:\n +.+)*)", STATEMENTS, re.MULTILINE)}
NAMED = sorted(set(re.findall(r"`(tests/[^`]+)`", DOCUMENT)))


@functools.cache
def names_in(path: str) -> frozenset[str]:
    """Return the names of the tests in a file."""
    tree = ast.parse((SOURCE / path).read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_there_are_sixty_statements():
    assert list(NUMBERED) == list(range(1, 61))


@pytest.mark.parametrize("number", NUMBERED)
def test_each_statement_names_a_test(number):
    assert re.search(r"`tests/\w[^`]+::test_\w+`", NUMBERED[number])


@pytest.mark.parametrize("name", NAMED)
def test_named_tests_exist(name):
    path, _, test = name.partition("::")
    assert (SOURCE / path).is_file()
    if test:
        assert test in names_in(path)


def test_statements_named_elsewhere_exist():
    """Comments of tests cite statements by number."""
    for path in (SOURCE / "tests").rglob("*.py"):
        for numbers in re.findall(r"security\.md (\d+(?:, \d+)*)", path.read_text()):
            assert set(map(int, numbers.split(", "))) <= set(NUMBERED)
