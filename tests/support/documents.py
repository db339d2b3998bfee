"""The commands in the documents, which tests carry out as written. A page is of docs/operate, or a path from the root."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.programs import run
from tests.support.server import SOURCE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.programs import Result
    from tests.support.server import Server

NOTHING: Mapping[str, str] = {}


def section(page: str, heading: str) -> str:
    """Return the text below a heading of a page."""
    path = next(path for path in (SOURCE / "docs" / "operate" / page, SOURCE / page) if path.exists())
    sections = re.split(r"^## ", path.read_text(), flags=re.MULTILINE)
    (found,) = (each for each in sections if each.startswith(f"{heading}\n"))
    return found


def blocks(page: str, heading: str, language: str = "sh") -> list[str]:
    """Return the blocks of code below a heading of a page."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", section(page, heading), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in found]


def here(commands: str, changed: Mapping[str, str] = NOTHING) -> str:
    """Return the commands with the folders and addresses of a test. Each of ``changed`` must be in them."""
    for written, meant in changed.items():
        assert written in commands, f"{written} is not in:\n{commands}"
        commands = commands.replace(written, meant)
    return commands.replace(".venv/bin/", f"{Path(sys.executable).parent}/")


def carry_out(commands: str, server: Server, text_input: str = "", **variables: str) -> Result:
    """Run commands with the settings of a server. Fail with their output when one of them fails."""
    environment = server.environment | variables
    return run(["sh", "-ec", commands], environment=environment, directory=SOURCE, text_input=text_input, timeout=600)
