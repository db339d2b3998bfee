"""docs/design/locks.md lists each function that takes a lock, with tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.server import SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterator

LIST = SOURCE / "docs/design/locks.md"
ROWS = {"select_for_update", "lock_for_share", "lock_row_for_share", "lock_rows_for_share"}
LEASES = {"is_over", "is_stale"}
OTHERS = {"flock", "lockf", "Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore"}


def _places(node: ast.AST, path: str, name: str = "") -> Iterator[str]:
    """Yield the functions and classes below the node that name a lock; the file for code outside of both."""
    for child in ast.iter_child_nodes(node):
        inner = name
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)):
            inner = f"{name}.{child.name}" if name else child.name
        named = child.value if isinstance(child, ast.keyword) else child.func if isinstance(child, ast.Call) else None
        word = named.attr if isinstance(named, ast.Attribute) else getattr(named, "id", "")
        if word in ROWS | LEASES | OTHERS:
            yield f"{path}::{name}" if name else path
        yield from _places(child, path, inner)


def _listed() -> list[list[str]]:
    """Return the cells of the rows whose first cell is a file or a function."""
    rows = [line.strip("|").split("|") for line in LIST.read_text().splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in row] for row in rows]
    return [row for row in cells if re.match(r"`\w+/", row[0])]


def test_each_lock_is_listed():
    found: set[str] = set()
    for app in ("accounts", "api", "console", "registry", "scanning"):
        for path in sorted((SOURCE / app).rglob("*.py")):
            if "migrations" not in path.parts:
                found |= set(_places(ast.parse(path.read_text()), str(path.relative_to(SOURCE))))
    assert {row[0].strip("`") for row in _listed()} == found


def test_each_lock_has_tests_that_exist():
    for row in _listed():
        named = re.findall(r"`(tests/[^`]+)`", row[-1])
        assert named, row[0]
        for test in named:
            file, _, function = test.partition("::")
            assert f"\ndef {function}(" in Path(SOURCE / file).read_text(), test
