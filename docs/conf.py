"""How Sphinx builds the documents as a site: ``make docs``. Warnings are errors, a dead link between documents is one.

The source folder is the root of the repository, so that a link from docs/ to ARCHITECTURE.md works on the site as it
does in the repository. No page loads a font or a script from another host.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent

project = "KCR"
language = "en"
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "docs/**/*.md"]
exclude_patterns = [path.name for path in ROOT.iterdir() if path.is_dir() and path.name != "docs"]

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = "KCR"
html_show_copyright = False
html_copy_source = False
html_theme_options = {"source_edit_link": "", "source_view_link": ""}
pygments_style = "default"


def setup(app: Sphinx) -> None:
    """Make the tables of contents of the site from the lists in index.md, which read well in the repository, too."""
    app.connect("source-read", _add_tables_of_contents)


def _add_tables_of_contents(app: Sphinx, document: str, source: list[str]) -> None:
    """Add a hidden table for each section of an index: ``- [title](path.md)`` becomes an entry."""
    folder, _, name = document.rpartition("/")
    if name != "index":
        return
    for section in source[0].split("\n## "):
        caption = f":caption: {section.splitlines()[0]}\n" if document == root_doc else ""
        if paths := re.findall(r"^- \[.*\]\((\S+)\.md\)$", section, re.MULTILINE):
            entries = "\n".join("/" + posixpath.normpath(f"{folder}/{path}") for path in paths)
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n{caption}\n{entries}\n```\n"
