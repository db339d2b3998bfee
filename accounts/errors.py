"""The base of every refusal. Doors (the API, the console, commands) catch Refusal and show its message."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext


class Refusal(Exception):
    """The application did not do what it was asked to do, and nothing has changed.

    ``message``: what is wrong and what to do, in words for a person. ``detail``: facts for programs, as JSON. A class
    gives its default message as ``message``, marked with gettext_noop where the console shows it.
    """

    message: str = "the request cannot be carried out"

    def __init__(self, message: str = "", *, detail: dict[str, Any] | None = None) -> None:
        self.message = message or gettext(self.message)
        super().__init__(self.message)
        self.detail = detail or {}
