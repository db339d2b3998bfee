"""Lists of people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Q

from console.queries.shared import listing

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import QueryDict

    from accounts.models import (
        OrganizationMembership,
    )


MAX_SUGGESTED = 200


def page(rows: QuerySet[Any], wanted: QueryDict, user: str = "user__") -> dict[str, Any]:
    """A page of people in the order of their addresses, or of those whose address or name holds the words."""
    if search := wanted.get("q", "").strip():
        rows = rows.filter(Q(**{f"{user}email__icontains": search}) | Q(**{f"{user}name__icontains": search}))
    return {"listing": listing.page(rows, wanted, {"email": f"{user}email"}, search=search)}


def emails(memberships: QuerySet[OrganizationMembership]) -> list[str]:
    """The first MAX_SUGGESTED e-mail addresses in alphabetical order."""
    return list(memberships.order_by("user__email").values_list("user__email", flat=True)[:MAX_SUGGESTED])
