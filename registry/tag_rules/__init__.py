"""Rules of tags: which tags may be moved and deleted, and who may push them."""

from .enforcement import check_deletion, check_point, check_reopening, protects, remember
from .replay import DAYS, Preview, Refused, What, numbers, preview, replay
from .rules import (
    ADMINS,
    LAST,
    MAX_PATTERNS,
    MAX_PUSHERS,
    MAX_RULES,
    Mode,
    Rule,
    checked,
    effective,
    find,
    rules_of,
    stored,
)

__all__ = [
    "ADMINS",
    "DAYS",
    "LAST",
    "MAX_PATTERNS",
    "MAX_PUSHERS",
    "MAX_RULES",
    "Mode",
    "Preview",
    "Refused",
    "Rule",
    "What",
    "check_deletion",
    "check_point",
    "check_reopening",
    "checked",
    "effective",
    "find",
    "numbers",
    "preview",
    "protects",
    "remember",
    "replay",
    "rules_of",
    "stored",
]
