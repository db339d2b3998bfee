"""The organization that a URL names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import PermissionDenied
from django.http import Http404

from accounts.models import Organization, OrganizationMembership, OrganizationRole
from console.views.shared.pages import render_standalone

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse


def find_organization(request: HttpRequest, name: str, *, change: bool = False) -> tuple[Organization, bool]:
    """The organization, and whether the person owns it. Raises Http404 for outsiders, PermissionDenied for members."""
    own = OrganizationMembership.objects.filter(organization__name=name, user=request.user.pk)
    membership = own.select_related("organization").first()
    if membership is None:
        raise Http404
    is_owner = membership.role == OrganizationRole.OWNER
    if (change or request.method == "POST") and not is_owner:
        raise PermissionDenied
    return membership.organization, is_owner


def render_for_owners(request: HttpRequest, template: str, organization: Organization, **context: Any) -> HttpResponse:
    """A page for owners."""
    return render_standalone(request, template, organization=organization, is_owner=True, **context)
