"""Messages about what was done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django import template

if TYPE_CHECKING:
    from django.contrib.messages.storage.base import Message

register = template.Library()


@register.inclusion_tag("console/parts/_restore_button.html", takes_context=True)
def restore_button(context: template.Context, message: Message) -> dict[str, Any]:
    """The button that restores what the message says was deleted (``Place.flash``); nothing for other messages."""
    undo = json.loads(message.extra_tags) if message.extra_tags else None
    return {"undo": undo, "csrf_token": context.get("csrf_token")}
