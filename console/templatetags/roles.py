"""Roles in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django import template
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from collections.abc import Iterable

register = template.Library()


@register.filter
def role_words(role: str) -> str:
    """A role in a word."""
    words = {
        "owner": _("Owner"),
        "admin": _("Admin"),
        "member": _("Member"),
        "reader": _("Reader"),
        "viewer": _("Viewer"),
    }
    return words.get(role, role)


@register.filter
def because_words(reason: str) -> str:
    """A reason why a person may push or pull (``queries.repositories.reason``) in words."""
    words = {
        "organization-owner": _("Owner of the organization"),
        "project-admin": _("Admin of the project"),
        "project-member": _("Member of the project"),
        "project-reader": _("Reader of the project"),
        "repository-member": _("Repository Member"),
        "repository-viewer": _("Repository Viewer"),
        "public": _("The repository is public"),
    }
    return words.get(reason, reason)


@register.filter
def action_words(actions: Iterable[str]) -> str:
    """Actions of the registry API, separated by commas."""
    words = {"pull": _("pull"), "push": _("push"), "delete": _("delete")}
    return ", ".join(word for action, word in words.items() if action in actions)
