"""The user of a form that adds a member, changes a role or removes a member."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import Http404
from django.utils.translation import gettext as _

from registry import members

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.forms import Form

    from accounts.models import User
    from console.views.shared.place import Place


def member_to_add(place: Place, form: Form, unknown: str, role_of: Callable[[User], str | None]) -> User | None:
    """The user of a form that adds a member.

    Returns None and adds an error to the form if no member of the organization has the address (``unknown`` is its
    text), or if the user has another role already.
    """
    organization = place.project.organization
    user = members.find_holder(place.project, form.cleaned_data["email"])
    if user is None:
        form.add_error("email", unknown % {"organization": organization})
    elif role_of(user) not in {None, form.cleaned_data["role"]}:
        form.add_error("email", _("%(email)s is here already: change the role in the list.") % {"email": user.email})
        return None
    return user


def member_of_list(place: Place, email: str) -> User:
    """The member or service account of the organization with this address. Raises Http404 for other users."""
    user = members.find_holder(place.project, email)
    if user is None:
        raise Http404
    return user
