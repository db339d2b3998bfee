"""Messages about what was done."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django import template

if TYPE_CHECKING:
    from django.contrib.messages.storage.base import Message

register = template.Library()


@register.inclusion_tag("console/parts/_undo_button.html", takes_context=True)
def undo_button(context: template.Context, message: Message) -> dict[str, Any]:
    """The button that undoes what the message says (``views.shared.toasts``); nothing for messages without ``undo``."""
    address, fields = json.loads(message.extra_tags) if message.extra_tags else ("", {})
    return {"address": address, "fields": fields, "csrf_token": context.get("csrf_token")}
