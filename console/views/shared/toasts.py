"""Messages about what was done, with a button that undoes it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from django.contrib import messages

if TYPE_CHECKING:
    from django.http import HttpRequest

UndoForm = tuple[str, dict[str, str]]
"""The form behind the button Undo: the address that it is sent to, and its fields."""


def toast(request: HttpRequest, text: str, *, level: int = messages.SUCCESS, undo: UndoForm | None = None) -> None:
    """Show a message on the next page. ``templatetags.messages.undo_button`` reads what the extra tags hold."""
    messages.add_message(request, level, text, extra_tags=json.dumps(undo) if undo else "")
