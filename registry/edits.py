"""Changes of settings and roles that two people may make at once: the second is refused if they saw an old value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.utils.translation import gettext as _

from registry import errors

if TYPE_CHECKING:
    from django.db.models import Model

    from accounts.models import User
    from registry.models.audit import EventQuerySet


def alter(
    row: Model, wanted: dict[str, Any], seen: dict[str, Any] | None, past: EventQuerySet
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Set the wanted values on the row that differ from its values. Returns those values before and after.

    The caller holds the row's lock and saves the row. Both results are empty if nothing differs. ``seen``: the values
    on the form that the user submitted; None skips the comparison. ``past``: the events of earlier changes, which tell
    who made the last one. Raises Changed if the row's values are not those in ``seen``.
    """
    now = {name: getattr(row, name) for name in wanted}
    after = {name: value for name, value in wanted.items() if value != now[name]}
    if after and seen is not None and {name: seen.get(name) for name in now} != now:
        raise changed(row, past)
    for name, value in after.items():
        setattr(row, name, value)
    return {name: now[name] for name in after}, after


def changed(row: Model, past: EventQuerySet) -> errors.Changed:
    """The refusal of a change to a row that was changed since the user saw it. ``past``: as for ``alter``."""
    who = past.order_by("-pk").values_list("actor", flat=True).first() or "another user"
    return errors.Changed(
        _("%(who)s changed %(row)s meanwhile: reload the page, look again, then save") % {"who": who, "row": row}
    )


def compare_role(user: User, now: str | None, seen: str | None) -> None:
    """Raise Changed if the user's role ``now`` is not the role that the page showed.

    ``seen``: "" for no role; None skips the comparison. The caller holds the lock
    of the user's membership (``organizations.belongs``).
    """
    if seen is not None and seen != (now or ""):
        raise errors.Changed(_("the role of %(user)s was changed meanwhile: look again") % {"user": user})
