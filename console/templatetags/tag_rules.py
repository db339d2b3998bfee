"""Rules of tags in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import template
from django.utils.translation import gettext as _

from registry.tag_rules import ADMINS, LAST, Mode, What

if TYPE_CHECKING:
    from registry.tag_rules import Rule

register = template.Library()


@register.filter
def mode_words(mode: str) -> str:
    """The mode of a rule in a word."""
    words: dict[str, str] = {
        Mode.MOVABLE: _("movable"),
        Mode.IMMUTABLE: _("immutable"),
        Mode.WRITE_ONCE: _("write-once"),
    }
    return words.get(mode, mode)


@register.filter
def pusher_words(pusher: str) -> str:
    """Who may push, of a rule's list."""
    return _("admins of the project") if pusher == ADMINS else pusher


@register.filter
def rule_words(rule: Rule) -> str:
    """What a rule does: its mode, whether it keeps, and who may push."""
    return _in_words(rule.mode, keep=rule.keep, pushers=rule.pushers)


@register.filter
def rule_name(rule: Rule) -> str:
    """The place of a rule: "rule 2 of demo/web"."""
    if rule.number == LAST:
        return _("the last rule of %(of)s") % {"of": rule.of}
    return _("rule %(number)s of %(of)s") % {"number": rule.number, "of": rule.of}


@register.filter
def refused_words(what: str) -> str:
    """What was done to a tag, in a word."""
    words: dict[str, str] = {What.PUSH: _("pushed"), What.MOVE: _("moved"), What.DELETE: _("deleted")}
    return words.get(what, what)


def listed_words(value: Any) -> str:
    """The rules of an event in one line: ``v*: write-once, kept; *: immutable``. The value may have any type."""
    if not isinstance(value, list) or not value:
        return "–"
    return "; ".join(_stored_words(each) for each in value)


def _stored_words(each: Any) -> str:
    if not isinstance(each, dict):
        return str(each)
    patterns, pushers = (each.get(name) for name in ("patterns", "pushers"))
    names = " ".join(str(pattern) for pattern in patterns) if isinstance(patterns, list) else ""
    people = tuple(str(pusher) for pusher in pushers) if isinstance(pushers, list) else ()
    words = _in_words(str(each.get("mode", "")), keep=bool(each.get("keep")), pushers=people)
    return f"{names}: {words}" + (f", {_('locked')}" if each.get("locked") else "")


def _in_words(mode: str, *, keep: bool, pushers: tuple[str, ...]) -> str:
    words = [mode_words(mode)]
    if keep:
        words.append(_("kept"))
    if pushers:
        words.append(_("pushed by %(who)s alone") % {"who": ", ".join(pusher_words(each) for each in pushers)})
    return ", ".join(words)
