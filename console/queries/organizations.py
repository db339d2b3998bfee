"""Pages about the people of an organization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accounts.models import (
    Organization,
    OrganizationMembership,
    OrganizationRole,
    User,
)
from console.queries.shared import people

if TYPE_CHECKING:
    from django.http import QueryDict

NAMED = 5


def owners(name: str) -> list[str]:
    """The e-mail addresses of the first owners of the organization of this name."""
    found = OrganizationMembership.objects.filter(
        organization__name=name, role=OrganizationRole.OWNER, user__is_active=True
    )
    return list(found.order_by("user__email").values_list("user__email", flat=True)[:NAMED])


def organization(found: Organization, wanted: QueryDict) -> dict[str, Any]:
    """A page of the people of an organization. Two queries."""
    memberships = OrganizationMembership.objects.filter(organization=found)
    return people.page(memberships.select_related("user"), wanted) | {"total": memberships.count()}


def find_member(organization: Organization, email: str) -> User | None:
    """The member of the organization with this address. Users outside of it are not found, so that they stay hidden."""
    return User.objects.filter(email=email.lower(), organization_memberships__organization=organization).first()
