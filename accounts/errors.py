"""The base of every refusal. Doors (the API, the console, commands) catch Refusal and show its message."""

from __future__ import annotations

from typing import Any

from django.utils.translation import get_language, gettext


class Refusal(Exception):
    """The application did not do what it was asked to do, and nothing has changed.

    ``message``: what is wrong and what to do, in words for a person; ``sentence``: the same for pages. ``detail``:
    facts for programs, as JSON. A class gives its default message as ``message``, marked with gettext_noop where the
    console shows it.
    """

    message: str = "the request cannot be carried out"

    def __init__(self, message: str = "", *, detail: dict[str, Any] | None = None) -> None:
        self.message = message or gettext(self.message)
        super().__init__(self.message)
        self.detail = detail or {}

    @property
    def sentence(self) -> str:
        """The message as pages show it."""
        return sentence(self.message)


def sentence(message: str) -> str:
    """The message with a capital letter at its beginning and a full stop at its end.

    The API and commands show messages as they are: without both, like other programs. A name at the beginning (an
    e-mail address, a path, a digest) keeps its letters. So does a Korean sentence, which may begin with any name.
    """
    first = message.partition(" ")[0]
    if first.isascii() and first.isalpha() and (get_language() or "en").startswith("en"):
        message = message[0].upper() + message[1:]
    return message if message.endswith((".", "?", "!")) else f"{message}."
