"""The documents name only existing documents, headings, files and functions of the code, and texts of the console."""

from __future__ import annotations

import ast
import re
import subprocess
import tokenize
from functools import cache
from pathlib import Path

import polib

SOURCE = Path(__file__).resolve().parents[1]
CODE = ("accounts", "api", "bench", "console", "registry", "scanning", "static", "templates", "tests", "docs", ".ci")
#: Chapters of the image-spec, which are files of another repository.
OF_THE_SPECIFICATION = {
    "config.md",
    "descriptor.md",
    "image-index.md",
    "image-layout.md",
    "layer.md",
    "manifest.md",
    "media-types.md",
}
NAME = re.compile(r"(?<![\w/.-])([\w./-]+\.md)\b(?!\w)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@cache
def files() -> tuple[Path, ...]:
    """Return every file of the repository, including files not yet added to git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, check=True).stdout
    found = (SOURCE / name for name in names.split("\0") if name)
    return tuple(path for path in found if path.is_file())


DOCUMENTS = [path for path in files() if path.suffix == ".md"]
PYTHON = [path for path in files() if path.suffix == ".py" and "migrations" not in path.parts]
OTHERS = [
    path
    for path in files()
    if path.suffix in {".html", ".css", ".js", ".yml", ".toml", ".txt"}
    or path.name in {"Makefile", "Dockerfile", "run"}
]


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).as_posix()


def without_code(text: str) -> str:
    """Return a document without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(path: Path) -> frozenset[str]:
    """Return the anchors of a document: its headings, as GitHub writes them in an address."""
    headings = re.findall(r"^#+ (.*)$", without_code(path.read_text()), re.MULTILINE)
    words = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings)
    return frozenset(re.sub(r"[^\w\- ]", "", each).replace(" ", "-") for each in words)


def said_in(path: Path) -> str:
    """Return the comments and strings of a program."""
    with tokenize.open(path) as file:
        kinds = {tokenize.COMMENT, tokenize.STRING}
        return "\n".join(token.string for token in tokenize.generate_tokens(file.readline) if token.type in kinds)


def exists(name: str, beside: Path) -> bool:
    """Return whether a document has this path from here or from the root. A bare name may be that of any document."""
    return name in {path.name for path in DOCUMENTS} or any((folder / name).is_file() for folder in (beside, SOURCE))


# ── Documents ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_links_have_a_target():
    dead = []
    for path in DOCUMENTS:
        for target in LINK.findall(without_code(path.read_text())):
            name, _, anchor = target.partition("#")
            found = (path.parent / name).resolve() if name else path
            if not target.startswith(("http://", "https://")) and not (
                found.is_file() and (not anchor or anchor in anchors(found))
            ):
                dead.append(f"{name_of(path)}: {target}")
    assert not dead, "\n".join(dead)


def test_cited_documents_exist():
    dangling = []
    for path in (*DOCUMENTS, *PYTHON, *OTHERS):
        text = said_in(path) if path.suffix == ".py" else path.read_text()
        named = NAME.findall(LINK.sub("", text)) if path != Path(__file__) else []
        dangling += [
            f"{name_of(path)}: {name}"
            for name in named
            if name not in OF_THE_SPECIFICATION and not exists(name, path.parent)
        ]
    assert not dangling, "\n".join(dangling)


def test_cited_sections_exist():
    """``docs/design/storage.md, "Upload"``"""
    dangling = []
    for path in PYTHON:
        text = re.sub(r"\s+", " ", said_in(path)) if path != Path(__file__) else ""
        for name, section in re.findall(r"([\w./-]+\.md),? \"([^\"]+)\"", text):
            folders = [folder for folder in (SOURCE, SOURCE / "docs") if (folder / name).is_file()]
            headings = "".join((folder / name).read_text() for folder in folders)
            if name not in OF_THE_SPECIFICATION and not re.search(
                rf"^#+ {re.escape(section)}$", headings, re.MULTILINE
            ):
                dangling.append(f"{name_of(path)}: {name}, {section}")
    assert not dangling, "\n".join(dangling)


def test_every_document_is_in_the_table_of_contents():
    indexes = [SOURCE / "docs" / "index.md", SOURCE / "docs" / "design" / "decisions" / "index.md"]
    listed = {
        (index.parent / name).resolve()
        for index in indexes
        for name in re.findall(r"^- \[.*\]\(([^)]+)\)$", index.read_text(), re.MULTILINE)
    }
    assert {path for path in DOCUMENTS if ".github" not in path.parts} == listed | {indexes[0]}


def test_the_first_pages_are_short():
    lines = {name: len((SOURCE / name).read_text().splitlines()) for name in ("README.md", "ARCHITECTURE.md")}
    assert lines["README.md"] <= 100
    assert lines["ARCHITECTURE.md"] <= 130


def test_decisions_have_unique_numbers_and_reasons():
    found = sorted((SOURCE / "docs" / "design" / "decisions").glob("[0-9]*.md"))
    assert len({path.name[:3] for path in found}) == len(found)
    for path in found:
        text = path.read_text()
        assert text.startswith(f"# {path.name[:3]}. "), path.name
        assert re.findall(r"^## (.*)$", text, re.MULTILINE)[:2] == ["Decision", "Why"], path.name


# ── Code ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@cache
def defined_in(place: Path) -> frozenset[str]:
    """Return the functions and classes of a module, or of all modules of a package."""
    modules = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    nodes = (node for module in modules for node in ast.walk(ast.parse(module.read_text())))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef))


def test_named_source_files_exist():
    missing = []
    for path in DOCUMENTS:
        for name in re.findall(r"`([\w.]+/[\w./-]*)(?:::\w+)?`", without_code(path.read_text())):
            is_ours = name.split("/")[0] in CODE and "X" not in name
            if is_ours and not any((SOURCE / each).exists() for each in (name, f"{name}.py")):
                missing.append(f"{name_of(path)}: {name}")
    assert not missing, "\n".join(missing)


def test_named_programs_exist():
    """``python -m scanning.trivy.runner``"""
    missing = []
    for path in DOCUMENTS:
        for name in re.findall(r"python -m ([\w.]+)", path.read_text()):
            place = SOURCE / name.replace(".", "/")
            is_ours = name.partition(".")[0] in CODE
            if is_ours and not place.with_suffix(".py").is_file() and not (place / "__main__.py").is_file():
                missing.append(f"{name_of(path)}: {name}")
    assert not missing, "\n".join(missing)


def test_named_functions_exist_in_their_file():
    """```registry/tags.py`, `point` ``"""
    missing = []
    for path in DOCUMENTS:
        for place, name in re.findall(r"`((?:\w+/)+[\w.]*)`,\s`(\w+)`", path.read_text()):
            if place.split("/")[0] in CODE and name not in defined_in(SOURCE / place):
                missing.append(f"{name_of(path)}: {place} {name}")
    assert not missing, "\n".join(missing)


def test_each_answer_of_the_orientation_begins_with_its_place():
    text = (SOURCE / "docs" / "contributing" / "orientation.md").read_text()
    answers = re.findall(r"^## .*\?\n\n(.*)$", text, re.MULTILINE)
    assert len(answers) == 10
    assert [answer for answer in answers if not re.match(r"`[\w./-]+/[\w./-]*`", answer)] == []


# ── The console ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_words_in_italics_are_texts_of_the_console():
    """*Recovery* in a guide must be a text on a page."""
    catalogue = polib.pofile(str(SOURCE / "console" / "locale" / "ko" / "LC_MESSAGES" / "django.po"))
    known = {entry.msgid for entry in catalogue}
    unknown = []
    for path in DOCUMENTS:
        if {"guide", "operate"} & set(path.parts):
            text = re.sub(r"`[^`]*`|\*\*.*?\*\*", "", without_code(path.read_text()))
            words = re.findall(r"(?<![\w*])\*([^*]+)\*(?![\w*])", text)
            unknown += [f"{name_of(path)}: {each}" for each in words if each not in known]
    assert not unknown, "\n".join(unknown)
