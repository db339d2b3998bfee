"""The user of a form that adds a member or changes a role."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import Http404
from django.utils.translation import gettext as _

from console.queries import organizations

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.forms import Form

    from accounts.models import User
    from console.views.shared.place import Place


def member_from_form(place: Place, form: Form, unknown: str, role_of: Callable[[User], str | None]) -> User | None:
    """The user of a form that adds a member or changes a role.

    Returns None and adds an error to the form if no member of the organization has the address (``unknown`` is its
    text), or if the member to add has another role already. Raises Http404 for a role change of an unknown user.
    """
    posted = place.request.POST
    adds, organization = posted.get("act") == "add", place.project.organization
    user = organizations.find_member(organization, posted.get("email", "").strip())
    if user is None and not adds:
        raise Http404
    if user is None:
        form.add_error("email", unknown % {"organization": organization})
    elif adds and role_of(user) not in {None, posted.get("role", "")}:
        form.add_error("email", _("%(email)s is here already: change the role in the list.") % {"email": user.email})
        return None
    return user
