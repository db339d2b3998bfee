"""Outcomes and reasons of a cleanup in words."""

from __future__ import annotations

import re
from functools import cache

from django import template
from django.utils.translation import gettext as _

from registry.cleanup import rules

register = template.Library()


@register.filter
def outcome_words(outcome: str) -> str:
    """The outcome of a cleanup for a tag, in a word."""
    words = {"kept": _("Kept"), "doomed": _("To delete"), "deleted": _("Deleted"), "left": _("Skipped")}
    return words.get(outcome, outcome)


@register.filter
def reason_words(reason: str) -> str:
    """Why a cleanup deletes or keeps a tag: a sentence of ``registry.rules.REASONS`` in the language of the page."""
    for words, pattern in _reasons():
        if found := pattern.fullmatch(reason):
            return _(words) % found.groupdict()
    return reason


@cache
def _reasons() -> list[tuple[str, re.Pattern[str]]]:
    return [(words, re.compile(re.sub(r"%\\\((\w+)\\\)s", r"(?P<\1>.+)", re.escape(words)))) for words in rules.REASONS]
