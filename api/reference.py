"""The operations and problems in words, for the page /api/v1/docs and for docs/reference/api.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rest_framework.serializers import BaseSerializer

from . import openapi
from . import problems as domain
from .base import Operation, query_of


@dataclass(frozen=True, slots=True)
class Line:
    """An operation. ``takes``: who may do it; ``body``, ``answer``: names of schemas, "" for none."""

    method: str
    path: str
    words: str
    takes: str
    query: str
    body: str
    answer: str


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema: its name, its words and its fields (name, type, words)."""

    name: str
    words: str
    fields: list[tuple[str, str, str]]


@dataclass(frozen=True, slots=True)
class Noun:
    """The operations of a noun, and the schemas that they use."""

    name: str
    lines: list[Line]
    schemas: list[Schema]


def nouns() -> list[Noun]:
    """All of them, in the order of the routes."""
    lines: dict[str, list[Line]] = {}
    used: dict[str, dict[str, Any]] = {}
    for _route, path, _name, view in openapi.routes():
        for method in view().allowed():
            call = getattr(view, method.lower())
            declared: Operation = call.operation
            kinds = [each for each in (declared.body, declared.answer) if each]
            used.setdefault(view.noun, {}).update({each.__name__: each for each in kinds})
            query = query_of(declared)
            lines.setdefault(view.noun, []).append(
                Line(
                    method,
                    path,
                    " ".join((call.__doc__ or "").split()),
                    _takes(declared, path),
                    ", ".join(query().fields) if query else "",
                    declared.body.__name__ if declared.body else "",
                    _answer(declared),
                )
            )
    return [Noun(name, found, [_schema(*each) for each in used[name].items()]) for name, found in lines.items()]


def _takes(declared: Operation, path: str) -> str:
    if "{organization}" in path:
        return f"{declared.organization} of the organization"
    if declared.is_operator:
        return "operator of the installation"
    return f"{declared.action} in the project" if declared.action else "a key"


def _answer(declared: Operation) -> str:
    if declared.answer is None:
        return ""
    return f"a page of {declared.answer.__name__}" if declared.is_list else declared.answer.__name__


def _schema(name: str, kind: Any) -> Schema:
    fields = [(each, _type(field), str(field.help_text or "")) for each, field in kind().fields.items()]
    return Schema(name, " ".join((kind.__doc__ or "").split()), fields)


def _type(field: Any) -> str:
    kind = type(field).__name__.removesuffix("Field")
    words = {
        **dict.fromkeys(("Char", "Text"), "text"),
        **dict.fromkeys(("Integer", "Whole"), "number"),
        **dict.fromkeys(("Boolean", "Switch"), "true or false"),
        "DateTime": "time",
        "JSON": "object",
        "Float": "number",
    }.get(kind, kind)
    if getattr(field, "choices", None):
        words = "one of " + ", ".join(str(each) for each in field.choices if each != "")
    if kind == "List":
        child = type(field.child).__name__
        words = f"list of {child if isinstance(field.child, BaseSerializer) else _type(field.child)}"
    if kind == "ListSerializer":
        words = f"list of {type(field.child).__name__}"
    return f"{words}, or null" if field.allow_null else words


def problems() -> list[tuple[str, int, str]]:
    """Code, status and title of each kind of problem, by status."""
    return sorted(
        {(each.code, each.status, each.title) for each in domain.PROBLEMS.values()}, key=lambda row: (row[1], row[0])
    )


def markdown() -> str:
    """docs/reference/api.md, which a test compares with the code."""
    parts = [HEAD]
    for noun in nouns():
        parts.append(f"## {noun.name.capitalize()}\n\n")
        for line in noun.lines:
            parts.append(f"### `{line.method} {line.path}`\n\n{line.words}\n\n")
            facts = {"Takes": line.takes, "Parameters": line.query, "Body": line.body, "Answer": line.answer}
            parts += [f"- {name}: {fact}\n" for name, fact in facts.items() if fact]
            parts.append("\n")
        for schema in noun.schemas:
            parts.append(f"### {schema.name}\n\n{schema.words}\n\n| field | type | |\n|---|---|---|\n")
            parts += [f"| `{name}` | {kind} | {words} |\n" for name, kind, words in schema.fields]
            parts.append("\n")
    parts.append("## Problems\n\n| code | status | |\n|---|---|---|\n")
    parts += [f"| `{code}` | {status} | {title} |\n" for code, status, title in problems()]
    return "".join(parts)


HEAD = """# Management API

A test writes this page from the code. The same in a form for programs is the OpenAPI 3.1 document
`/api/v1/openapi.json` of each installation; `/api/v1/docs` is a page about it. [Automation](../guide/automation.md) has
examples, [The management API](../design/api.md) has rules and reasons.

"""
