"""What is attached to images, in words."""

from __future__ import annotations

from django import template
from django.utils.translation import gettext as _

register = template.Library()


@register.filter
def predicate_words(predicate_type: str) -> str:
    """The type of a statement in words: "SLSA provenance v0.2" for https://slsa.dev/provenance/v0.2."""
    for mark, words in (
        ("slsa.dev/provenance/", "SLSA provenance"),
        ("spdx.dev/Document", "SPDX"),
        ("cyclonedx", "CycloneDX"),
    ):
        _before, found, rest = predicate_type.partition(mark)
        if found:
            return f"{words} {rest.strip('/')}".strip()
    return predicate_type or _("unknown")
