"""A form that chooses from the audit log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext_lazy

from accounts import audit

from .parts import Day, Form, moment

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.models import AuditEvent, Organization

Action = audit.Action
KINDS: dict[Action, Any] = {
    Action.MEMBER_ADD: gettext_lazy("Person added"),
    Action.MEMBER_ROLE: gettext_lazy("Role in the organization changed"),
    Action.MEMBER_REMOVE: gettext_lazy("Person taken out"),
    Action.INVITATION_SEND: gettext_lazy("Invitation sent"),
    Action.INVITATION_WITHDRAW: gettext_lazy("Invitation withdrawn"),
    Action.INVITATION_DECLINE: gettext_lazy("Invitation declined"),
    Action.PROJECT_ROLE: gettext_lazy("Role in a project changed"),
    Action.REPOSITORY_ROLE: gettext_lazy("Role on a repository changed"),
    Action.KEY_CREATE: gettext_lazy("Access key created"),
    Action.KEY_REVOKE: gettext_lazy("Access key revoked"),
    Action.PASSWORD_CHANGE: gettext_lazy("Password changed"),
    Action.PASSWORD_RESET: gettext_lazy("Password set with a link"),
    Action.SIGN_IN: gettext_lazy("Signed in"),
    Action.SIGN_IN_FAILURE: gettext_lazy("Sign-in failed"),
    Action.USER_DEACTIVATE: gettext_lazy("User deactivated"),
    Action.USER_ACTIVATE: gettext_lazy("User activated"),
    Action.SIGNING_KEY_ROTATE: gettext_lazy("Signing key changed"),
}


class AuditFilter(Form):
    """Which events are shown; what makes no sense is left out."""

    action = forms.ChoiceField(
        label=gettext_lazy("Event"),
        required=False,
        widget=forms.Select({"aria-label": gettext_lazy("Event")}),
        choices=[("", gettext_lazy("All events")), *KINDS.items()],
    )
    person = forms.CharField(label=gettext_lazy("Person"), required=False, max_length=254)
    since = Day(label=gettext_lazy("From"))
    until = Day(label=gettext_lazy("Until"))

    def wanted(self, organization: Organization) -> QuerySet[AuditEvent]:
        """The events of the organization that were asked for."""
        self.is_valid()
        chosen = self.cleaned_data
        return audit.of_organization(
            organization,
            action=chosen.get("action") or "",
            person=(chosen.get("person") or "").strip().lower(),
            since=moment(chosen.get("since")),
            until=moment(chosen.get("until"), after=1),
        )
