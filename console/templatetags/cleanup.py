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
    """What a cleanup decided about a tag, in a word."""
    words = {"kept": _("Kept"), "doomed": _("To go"), "deleted": _("Deleted"), "left": _("Left alone")}
    return words.get(outcome, outcome)


@register.filter
def reason_words(reason: str) -> str:
    """Why a cleanup policy takes or keeps a tag: the English words of ``registry.rules``, said in another language."""
    for words, pattern in _reasons():
        if found := pattern.fullmatch(reason):
            return _(words) % found.groupdict()
    return reason


@cache
def _reasons() -> list[tuple[str, re.Pattern[str]]]:
    return [(words, re.compile(re.sub(r"%\\\((\w+)\\\)s", r"(?P<\1>.+)", re.escape(words)))) for words in rules.REASONS]
