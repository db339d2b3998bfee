"""Answers that a browser saves as a file."""

from __future__ import annotations

import csv
import re
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from django.http import HttpResponse, StreamingHttpResponse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


_FORMULA = ("=", "+", "-", "@", "\t", "\r")
Answer = TypeVar("Answer", HttpResponse, StreamingHttpResponse)


class _Echo:
    """A file object for ``csv.writer`` that returns each line instead of storing it."""

    def write(self, text: str) -> str:
        """Return the text."""
        return text


def as_csv(rows: Iterable[Sequence[str]], name: str) -> StreamingHttpResponse:
    """A CSV file as a download, sent row by row. It begins with a byte order mark, or Excel misreads Hangul.

    Spreadsheets read no cell as a formula: a quote is before a cell that would be one.
    """
    writer = csv.writer(_Echo())
    lines = (writer.writerow([_cell(text) for text in row]) for row in rows)
    return _as_attachment(StreamingHttpResponse(chain(["\ufeff"], lines), content_type="text/csv; charset=utf-8"), name)


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def as_file(content: bytes, name: str, content_type: str) -> HttpResponse:
    """A file as a download, never shown in the browser."""
    return _as_attachment(HttpResponse(content, content_type=content_type), name)


def _as_attachment(answer: Answer, name: str) -> Answer:
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name)
    answer.headers["Content-Disposition"] = f'attachment; filename="{safe}"'
    return answer
