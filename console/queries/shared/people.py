"""Lists of people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Q

from accounts.models import User, UserKind
from console.queries.shared import listing

if TYPE_CHECKING:
    from django.db.models import QuerySet
    from django.http import QueryDict

    from accounts.models import OrganizationMembership, Project


MAX_SUGGESTED = 200


def page(rows: QuerySet[Any], wanted: QueryDict, user: str = "user__") -> dict[str, Any]:
    """A page of people in the order of their addresses, or of those whose address or name holds the words."""
    if search := wanted.get("q", "").strip():
        rows = rows.filter(Q(**{f"{user}email__icontains": search}) | Q(**{f"{user}name__icontains": search}))
    return {"listing": listing.page(rows, wanted, {"email": f"{user}email"}, search=search)}


def accounts(project: Project, *, without: QuerySet[Any, Any]) -> list[str]:
    """The addresses of the first MAX_SUGGESTED service accounts that can have roles in the project."""
    living = User.objects.filter(kind=UserKind.SERVICE, organization=project.organization_id, deleted_at=None)
    found = living.filter(Q(project=None) | Q(project=project)).exclude(pk__in=without)
    return list(found.order_by("email").values_list("email", flat=True)[:MAX_SUGGESTED])


def emails(memberships: QuerySet[OrganizationMembership]) -> list[str]:
    """The first MAX_SUGGESTED e-mail addresses in alphabetical order."""
    return list(memberships.order_by("user__email").values_list("user__email", flat=True)[:MAX_SUGGESTED])
