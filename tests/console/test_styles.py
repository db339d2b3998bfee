"""Style sheets and templates use the same classes, and each token is defined and used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2]
SHEETS = sorted((SOURCE / "static").glob("*.css"))
PAGES = [path for path in sorted((SOURCE / "templates").rglob("*.html")) if "mail" not in path.parts]
TAGS = sorted((SOURCE / "console").rglob("*.py"))
SCRIPT = "".join(path.read_text() for path in sorted((SOURCE / "static").glob("*.js")))

# The classes that an expression in a class attribute can produce, as far as style sheets have them.
SEVERITIES = {"critical", "high", "medium", "low", "unknown"}
CHART_COLOURS = {"c1", "c2", "c3", "c4", "c5", "c6"}
EXPRESSIONS = {
    "colour": CHART_COLOURS,
    "each.name": SEVERITIES,
    "kind": {"number", "spare"},
    "level": {"warn", "full"},
    "message.level_tag": {"warning", "error"},
    "area.name": SEVERITIES,
    "program": {"docker", "podman", "buildah", "skopeo"},
    "segment.colour": CHART_COLOURS | SEVERITIES,
}
ATTRIBUTE = re.compile(r'\bclass="((?:\{\{.*?\}\}|\{%.*?%\}|[^"{])*)"', re.DOTALL)
EXPRESSION = re.compile(r"\{\{ *(.*?) *\}\}")
CLASS = r"[a-zA-Z][\w-]*"


def without_comments(sheet: str) -> str:
    return re.sub(r"/\*.*?\*/", "", sheet, flags=re.DOTALL)


def classes_of_selectors(sheet: str) -> set[str]:
    """Return the classes of all selectors, at-rules left out."""
    selectors = [prelude for prelude in re.findall(r"([^{};]+)\{", without_comments(sheet)) if "@" not in prelude]
    return {name for selector in selectors for name in re.findall(rf"\.({CLASS})", re.sub(r'"[^"]*"', "", selector))}


def classes_of_markup(markup: str) -> set[str]:
    """Return the classes in the class attributes of a template or a template tag."""
    values = [re.sub(r"\{\{.*?\}\}|\{%.*?%\}", " ", value) for value in ATTRIBUTE.findall(markup)]
    return {name for value in values for name in value.split()}


def expressions_of_markup(markup: str) -> set[str]:
    return {found for value in ATTRIBUTE.findall(markup) for found in EXPRESSION.findall(value)}


def classes_of_script(script: str) -> set[str]:
    """Return the classes that a script sets on elements."""
    given = re.findall(rf'(?:classList\.add\(|className = )"({CLASS})"', script)
    return set(given)


@pytest.fixture(scope="module")
def styled() -> set[str]:
    return set().union(*(classes_of_selectors(path.read_text()) for path in SHEETS))


@pytest.fixture(scope="module")
def written() -> set[str]:
    """Return the classes that templates, template tags and the script write."""
    markup = [classes_of_markup(path.read_text()) for path in (*PAGES, *TAGS)]
    return set().union(*markup, classes_of_script(SCRIPT))


def test_every_class_of_a_style_sheet_is_used(styled, written):
    assert styled - written - set().union(*EXPRESSIONS.values()) == set()


def test_every_class_of_a_template_is_styled(styled, written):
    assert written - styled == set()


def test_expressions_in_class_attributes_are_listed_and_styled(styled):
    assert set().union(*(expressions_of_markup(path.read_text()) for path in PAGES)) == EXPRESSIONS.keys()
    assert set().union(*EXPRESSIONS.values()) <= styled


def test_every_class_in_the_script_exists_in_markup(written):
    looked_for = set(re.findall(rf'(?:closest|querySelector(?:All)?)\("[^"]*?\.({CLASS})', SCRIPT))
    assert looked_for == {"tabs", "toast", "toasts", "menu", "sheet"}
    assert looked_for <= written


def test_every_token_is_defined_and_used():
    sheets = {path.name: without_comments(path.read_text()) for path in SHEETS}
    defined = set(re.findall(r"(--[\w-]+):", sheets["tokens.css"]))
    used = set().union(*(re.findall(r"var\((--[\w-]+)", sheet) for sheet in sheets.values()))
    assert defined == used


def test_a_page_loads_the_style_sheets_in_the_order_of_their_layers():
    layers = re.search(r"@layer ([\w, ]+);", (SOURCE / "static" / "tokens.css").read_text())[1].split(", ")
    for page in ("base.html", "failure.html"):
        loaded = re.findall(r"\{% static '(\w+)\.css' %\}", (SOURCE / "templates" / page).read_text())
        assert loaded == ["tokens", *layers]
    for layer in layers:
        assert re.findall(r"@layer (\w+)", (SOURCE / "static" / f"{layer}.css").read_text()) == [layer]


def test_class_readers_find_known_classes():
    """Control."""
    sheet = '@layer a { /* .no */ .b > a.c-d:not(.e)[x=".f"], p { margin: 0.5rem; } @media (width < 1.5rem) { .g { h: 1 } } }'
    assert classes_of_selectors(sheet) == {"b", "c-d", "e", "g"}
    markup = '<p class="a{% if x == "y" %} b{% endif %} {{ level }}" id="c"><i class="d"></i>'
    assert classes_of_markup(markup) == {"a", "b", "d"}
    assert expressions_of_markup(markup) == {"level"}
    assert classes_of_script('x.classList.add("is-a"); y.className = "b"; z.classList.remove("c")') == {"is-a", "b"}
