"""A page of the console as a browser without scripts shows it: title, headings, texts, links, tables, forms.

    page = see(browser, "/projects/demo/repositories/")
    page.link("next").href
    page.form("typed").submit(browser, typed="web")     # sends the form of the page with this change
    assert page.table("Tag", "Size")[0]["Tag"] == "1.0"

A form refuses fields and values that it does not offer, so that a test sends only what a user can send.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urldefrag, urljoin, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from django.http import HttpResponse

#: The attributes of elements that load or link to an address.
ADDRESSES = {"a": "href", "form": "action", "img": "src", "script": "src", "link": "href", "button": "formaction"}
#: Elements that a browser does not show.
HIDDEN = frozenset({"script", "style", "template", "title"})
#: Elements without an end tag.
VOID = frozenset({"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"})
#: Inline elements, whose text joins the surrounding text without a gap.
INLINE = frozenset({"a", "abbr", "b", "code", "em", "i", "kbd", "label", "mark", "small", "span", "strong", "time"})
#: Inputs that are sent only when checked.
CHOICES = frozenset({"checkbox", "radio"})
BUTTONS = frozenset({"submit", "image", "button", "reset"})

Sent = dict[str, str | list[str]]


@dataclass
class Link:
    """A link. ``href`` is the absolute path with query and without fragment."""

    href: str
    rel: str = ""
    text: str = ""


class Cell(str):
    """The text of a table cell, and its links."""

    __slots__ = ("links",)
    links: list[Link]

    def __new__(cls, text: str, links: list[Link]) -> Self:
        """The text ``text``."""
        made = super().__new__(cls, text)
        made.links = links
        return made


@dataclass
class Field:
    """A field of a form. ``options``: all values that it can send, None for free text."""

    name: str
    values: list[str] = field(default_factory=list)
    options: set[str] | None = None


class Form:
    """A form: action, method, fields, and buttons as (name, value)."""

    def __init__(self, action: str, method: str) -> None:
        self.action, self.method = action, method
        self.fields: dict[str, Field] = {}
        self.buttons: list[tuple[str, str]] = []

    @property
    def names(self) -> set[str]:
        """The names of all fields and buttons."""
        return self.fields.keys() | {name for name, _ in self.buttons if name}

    @property
    def everything(self) -> list[tuple[str, str]]:
        """All offered pairs of name and value. A text field offers none."""
        chosen = [(name, value) for name, each in self.fields.items() for value in sorted(each.options or ())]
        return chosen + self.buttons

    @property
    def shown(self) -> Sent:
        """The values of the unchanged form, without a button."""
        return {name: _one_or_all(each.values) for name, each in self.fields.items() if each.values}

    def filled(self, **fields: str | Iterable[str]) -> Sent:
        """Return the values with these fields filled in. An empty list unchecks all boxes of that name."""
        refused = self.refused(fields)
        assert not refused, f"the form to {self.action} does not offer {refused}: {sorted(self.names)}"
        sent = self.shown | {name: _one_or_all(_values(given)) for name, given in fields.items()}
        return {name: value for name, value in sent.items() if value != []}

    def refused(self, fields: Mapping[str, str | Iterable[str]]) -> list[tuple[str, str]]:
        """Return the names and values that the form does not offer."""
        given = [(name, value) for name, values in fields.items() for value in _values(values)]
        return [(name, value) for name, value in given if not self._offers(name, value)]

    def _offers(self, name: str, value: str) -> bool:
        options = self.fields[name].options if name in self.fields else set()
        return options is None or value in options or (name, value) in self.buttons

    def submit(self, browser: Any, **fields: str | Iterable[str]) -> Any:
        """Fill in these fields and submit with ``browser.post`` or ``browser.get``. Return the response."""
        send = browser.post if self.method == "post" else browser.get
        return send(self.action, self.filled(**fields))


class Page(HTMLParser):
    """A parsed page. ``path``: its address, for relative links and forms."""

    def __init__(self, html: str, path: str = "") -> None:
        super().__init__()
        self.path = path
        self.title = ""
        self.headings: list[str] = []
        """Those of the first level."""
        self.links: list[Link] = []
        self.forms: list[Form] = []
        self.tables: list[list[list[Cell]]] = []
        """The rows of each table, the one with its headings included."""
        self._open: list[str] = []
        self._texts: list[str] = []
        self._form: Form | None = None
        self._link: Link | None = None
        self._cell: list[str] | None = None
        self._first_link = 0  # of the cell
        self._heading: list[str] | None = None
        self._select: Field | None = None
        self._textarea: Field | None = None
        self.feed(html)
        self.close()

    # ── Queries ──────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def text(self) -> str:
        """The visible text with each run of white space as one space."""
        return _joined(self._texts)

    def form(self, *names: str, **fields: str | Iterable[str]) -> Form:
        """Return the first POST form with fields of all these names that offers all these values."""
        for form in self.forms:
            if form.method == "post" and form.names >= {*names, *fields} and not form.refused(fields):
                return form
        have = [(form.action, sorted(form.names)) for form in self.forms]
        raise AssertionError(f"{self.path or 'the page'} has no form with {names} and {fields}: {have}")

    def link(self, rel: str) -> Link | None:
        """Return the first link of this relation, such as ``next``, None without one."""
        return next((link for link in self.links if rel in link.rel.split()), None)

    def table(self, *columns: str) -> list[dict[str, Cell]]:
        """Return the rows of the first table with these columns, by column. Raises AssertionError without one."""
        for rows in self.tables:
            if rows and set(columns) <= set(rows[0]):
                return [dict(zip(rows[0], row, strict=False)) for row in rows[1:]]
        raise AssertionError(
            f"{self.path or 'the page'} has no table with {columns}: {[rows[:1] for rows in self.tables]}"
        )

    @property
    def row_links(self) -> list[str]:
        """The first link of each table row, without heading rows."""
        rows = [row for table in self.tables for row in table[1:]]
        found = ([link.href for cell in row for link in cell.links] for row in rows)
        return [links[0] for links in found if links]

    # ── Parser ───────────────────────────────────────────────────────────────────────────────────────────────────
    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        if tag not in VOID:
            self._open.append(tag)
        if tag not in INLINE:
            self._say(" ")
        if tag == "form":
            self._form = Form(self._address(given.get("action")), (given.get("method") or "get").lower())
            self.forms.append(self._form)
        elif tag == "a" and "href" in given:
            self._link = Link(self._address(given["href"]), given.get("rel") or "")
            self.links.append(self._link)
        elif tag == "table":
            self.tables.append([])
        elif tag == "tr" and self.tables:
            self.tables[-1].append([])
        elif tag in {"td", "th"} and self.tables and self.tables[-1]:
            self._cell, self._first_link = [], len(self.links)
        elif tag == "h1":
            self._heading = []
        elif tag in {"input", "button", "select", "textarea"}:
            assert "form" not in given, "fields outside of their form are not known here"
            if self._form is not None and "disabled" not in given:
                self._add_field(self._form, tag, given)
        elif tag == "option" and self._select is not None:
            self._add_option(self._select, given["value"] or "", is_selected="selected" in given)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                pass
        if tag not in INLINE:
            self._say(" ")
        if tag == "form":
            self._form = None
        elif tag == "a":
            if self._link:
                self._link.text = _joined([self._link.text])
            self._link = None
        elif tag in {"td", "th"} and self._cell is not None:
            self.tables[-1][-1].append(Cell(_joined(self._cell), self.links[self._first_link :]))
            self._cell = None
        elif tag == "h1" and self._heading is not None:
            self.headings.append(_joined(self._heading))
            self._heading = None
        elif tag == "select":
            self._select = None
        elif tag == "textarea":
            self._textarea = None

    def handle_data(self, data: str) -> None:
        if "title" in self._open and "svg" not in self._open:
            self.title += data
        if self._textarea is not None:
            # A browser drops the line break after the tag.
            self._textarea.values = [data.removeprefix("\n")]
        self._say(data)

    def _say(self, words: str) -> None:
        """Add a visible text."""
        if HIDDEN & set(self._open):
            return
        self._texts.append(words)
        for kept in (self._cell, self._heading):
            if kept is not None:
                kept.append(words)
        if self._link is not None:
            self._link.text += words

    def _address(self, given: str | None) -> str:
        return urldefrag(urljoin(self.path, given or "")).url

    # ── Fields ───────────────────────────────────────────────────────────────────────────────────────────────────
    def _add_field(self, form: Form, tag: str, given: dict[str, str | None]) -> None:
        name, value = given.get("name") or "", given.get("value")
        kind = given.get("type") or ("submit" if tag == "button" else "text")
        if tag in {"input", "button"} and kind in BUTTONS:
            if kind != "reset":
                form.buttons.append((name, value or ""))
            return
        if not name:
            return
        found = form.fields.setdefault(name, Field(name))
        if tag == "select":
            self._select, found.options = found, set()
        elif tag == "textarea":
            self._textarea = found
            found.values = [""]
        elif kind in CHOICES:
            found.options = (found.options or set()) | {"on" if value is None else value}
            if "checked" in given:
                found.values.append("on" if value is None else value)
        elif kind != "file":
            found.values.append(value or "")
            if kind == "hidden":
                found.options = (found.options or set()) | {value or ""}

    def _add_option(self, select: Field, value: str, *, is_selected: bool) -> None:
        """Add an option. A drop-down list sends its first option unless another one is selected."""
        assert select.options is not None
        if is_selected or not select.options:
            select.values = [value]
        select.options.add(value)


def text(response: HttpResponse) -> str:
    """Return the HTML of a response with its entities decoded."""
    return unescape(response.content.decode())


def see(browser: Any, path: str) -> Page:
    """Return the page of this path, which must have status 200."""
    answer = browser.get(path)
    assert answer.status_code == 200, f"{path}: {answer.status_code}"
    return Page(answer.content.decode(), path)


def walk(browser: Any, path: str, rel: str) -> list[Page]:
    """Return the page of this path and all pages that follow by links of this relation, ``next`` or ``prev``."""
    pages = [see(browser, path)]
    while link := pages[-1].link(rel):
        pages.append(see(browser, link.href))
    return pages


class _Dangers(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attributes}
        self.found += [f"{tag} {name}" for name in named if name.startswith("on") or name == "style"]
        if tag in {"style", "iframe", "object", "embed", "base"} or (tag == "script" and "src" not in named):
            self.found.append(tag)
        address = urlsplit(named.get(ADDRESSES.get(tag, ""), ""))
        leaves = tag == "a" and {"noopener", "noreferrer"} <= set(
            named.get("rel", "").split()
        )  # another site, without a referrer
        is_ours = address.netloc in {"", "localhost:8080"}
        if address.scheme not in {"", "http", "https"} or not (is_ours or leaves):
            self.found.append(f"{tag} {address.geturl()}")


def dangers(html: str) -> list[str]:
    """Return forbidden parts of a page: inline scripts and styles, and files or links of another site."""
    return _Dangers(html).found


def _joined(texts: Iterable[str]) -> str:
    return " ".join("".join(texts).split())


def _values(given: str | Iterable[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _one_or_all(values: list[str]) -> str | list[str]:
    return values[0] if len(values) == 1 else list(values)
