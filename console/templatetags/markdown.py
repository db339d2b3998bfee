"""Markdown of users as HTML that is safe beside the console: no markup of theirs, no files of other hosts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString
from markdown_it import MarkdownIt

if TYPE_CHECKING:
    from markdown_it.renderer import RendererHTML
    from markdown_it.rules_core import StateCore
    from markdown_it.token import Token

MAX_HTML = 200_000
"""Characters. A short text can name one address a thousand times."""
MAX_CELLS = 10_000
"""Of tables. Missing cells of a row are added: a wide first row and many short ones make more than 10,000."""

_ADDRESS = re.compile(r"(?:https?://|mailto:).{1,1000}", re.IGNORECASE | re.DOTALL)
_HIGHEST_HEADING = 2  # the page has one above

register = template.Library()


@register.filter
def markdown(text: str) -> SafeString:
    """The Markdown (CommonMark with tables) as HTML.

    HTML in the text is shown as text, pictures as their alternative text. Links are http, https or mailto. A text that
    would become more than MAX_HTML is shown as it was typed.
    """
    lines = text.splitlines()
    cells = len(lines) * max((line.count("|") for line in lines), default=0)
    html = (_WITH_TABLES if cells <= MAX_CELLS else _WITHOUT_TABLES).render(text)
    if len(html) > MAX_HTML:
        return format_html("<pre>{}</pre>", text)
    return SafeString(html)  # the renderer escapes all that is not its own


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False})  # blocks and inlines nest 20 deep (maxNesting)
    parser.validateLink = lambda url: bool(_ADDRESS.fullmatch(url))  # type: ignore[method-assign]
    parser.core.ruler.push("adapt", _adapt)
    return parser


def _adapt(state: StateCore) -> None:
    """Fit the parsed text into a page of the console."""
    for token in state.tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(int(token.tag[1]) + _HIGHEST_HEADING - 1, 6)}"
        token.info = ""  # becomes a class
        token.attrs.pop("style", None)  # of a table's cell; the Content-Security-Policy forbids it
        for child in token.children or ():
            _adapt_inline(state, child)


def _adapt_inline(state: StateCore, token: Token) -> None:
    if token.type == "link_open":
        href = token.attrs["href"]  # "" of [text](): no link
        token.attrs = {"href": href, "rel": "nofollow noopener noreferrer"} if href else {}
    elif token.type == "image":  # a picture would tell another host who looks at the page
        renderer = cast("RendererHTML", state.md.renderer)
        token.content = renderer.renderInlineAsText(token.children, state.md.options, state.env)
        token.type, token.tag, token.children = "text", "", None


_WITH_TABLES, _WITHOUT_TABLES = _parser().enable("table"), _parser()
