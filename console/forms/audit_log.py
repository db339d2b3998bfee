"""Filters of the audit logs of a project and of an organization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext_lazy

from accounts import audit
from accounts.models import AccessKey
from console.forms.shared.days import Day, moment
from console.forms.shared.form import Form
from registry.audit import By, Wanted
from registry.models import Event

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.models import AuditEvent, Organization, Project
    from registry.models import Image, Repository


Action = Event.Action
_DELETED = (Action.TAG_DELETE, Action.IMAGE_DELETE, Action.REPOSITORY_DELETE, Action.DELETION_PURGE)
_RECOVERED = (Action.TAG_RECOVER, Action.IMAGE_RECOVER, Action.REPOSITORY_RECOVER, Action.DELETION_HOLD)
_CHANGED = (
    *(Action.PROJECT_CREATE, Action.PROJECT_UPDATE, Action.REPOSITORY_CREATE, Action.REPOSITORY_UPDATE),
    *(Action.IMAGE_UPDATE, Action.EXPIRY_CHANGE, Action.CLEANUP_POLICY),
)
_TAGGED = (Action.TAG_ADD, Action.TAG_MOVE, Action.TAG_DELETE, Action.TAG_RECOVER)
_ACCEPTED = (Action.VULNERABILITY_ACCEPT, Action.VULNERABILITY_WITHDRAW)
GROUPS: dict[str, tuple[Any, tuple[Event.Action, ...]]] = {
    "push": (gettext_lazy("Image pushed"), (Action.IMAGE_PUSH, Action.TAG_PUSH)),
    "tag": (gettext_lazy("Tag added, moved, deleted, recovered"), _TAGGED),
    "delete": (gettext_lazy("Deleted"), _DELETED),
    "recover": (gettext_lazy("Recovered"), _RECOVERED),
    "update": (gettext_lazy("Settings changed"), _CHANGED),
    "role": (gettext_lazy("Roles changed"), (Action.ROLE_CHANGE, Action.MEMBER_CHANGE)),
    "collection": (gettext_lazy("Garbage collection"), (Action.COLLECTION_RUN, Action.COLLECTION_DONE)),
    "scan": (gettext_lazy("Scanned"), (Action.SCAN_DONE,)),
    "accept": (gettext_lazy("Vulnerability accepted, withdrawn"), _ACCEPTED),
    "cleanup": (gettext_lazy("Cleanup"), (Action.CLEANUP_RUN,)),
    "notice": (gettext_lazy("Notifications changed"), (Action.NOTICE_CHANGE,)),
}
OrganizationAction = audit.Action
KINDS: dict[OrganizationAction, Any] = {
    OrganizationAction.MEMBER_ADD: gettext_lazy("Person added"),
    OrganizationAction.MEMBER_ROLE: gettext_lazy("Role in the organization changed"),
    OrganizationAction.MEMBER_REMOVE: gettext_lazy("Person removed"),
    OrganizationAction.INVITATION_SEND: gettext_lazy("Invitation sent"),
    OrganizationAction.INVITATION_WITHDRAW: gettext_lazy("Invitation withdrawn"),
    OrganizationAction.INVITATION_DECLINE: gettext_lazy("Invitation declined"),
    OrganizationAction.PROJECT_ROLE: gettext_lazy("Role in a project changed"),
    OrganizationAction.REPOSITORY_ROLE: gettext_lazy("Role on a repository changed"),
    OrganizationAction.KEY_CREATE: gettext_lazy("Access key created"),
    OrganizationAction.KEY_REVOKE: gettext_lazy("Access key revoked"),
    OrganizationAction.KEY_RESTORE: gettext_lazy("Access key restored"),
    OrganizationAction.KEY_ROTATE: gettext_lazy("New secret of an access key"),
    OrganizationAction.KEY_REFUSED: gettext_lazy("Access key refused by a limit"),
    OrganizationAction.KEY_END_FORMER: gettext_lazy("Former secret of an access key ended"),
    OrganizationAction.PASSWORD_CHANGE: gettext_lazy("Password changed"),
    OrganizationAction.PASSWORD_RESET: gettext_lazy("Password set with a link"),
    OrganizationAction.SIGN_IN: gettext_lazy("Signed in"),
    OrganizationAction.SIGN_IN_FAILURE: gettext_lazy("Sign-in failed"),
    OrganizationAction.USER_DEACTIVATE: gettext_lazy("User deactivated"),
    OrganizationAction.USER_ACTIVATE: gettext_lazy("User activated"),
    OrganizationAction.USER_OPERATOR: gettext_lazy("Operator changed"),
    OrganizationAction.SERVICE_CREATE: gettext_lazy("Service account created"),
    OrganizationAction.SERVICE_UPDATE: gettext_lazy("Service account changed"),
    OrganizationAction.SERVICE_DELETE: gettext_lazy("Service account deleted"),
    OrganizationAction.SERVICE_RESTORE: gettext_lazy("Service account restored"),
    OrganizationAction.ISSUER_CREATE: gettext_lazy("Issuer added"),
    OrganizationAction.ISSUER_UPDATE: gettext_lazy("Keys of an issuer changed"),
    OrganizationAction.ISSUER_DELETE: gettext_lazy("Issuer deleted"),
    OrganizationAction.RULE_CREATE: gettext_lazy("Trust rule added"),
    OrganizationAction.RULE_DELETE: gettext_lazy("Trust rule deleted"),
    OrganizationAction.RULE_RESTORE: gettext_lazy("Trust rule restored"),
    OrganizationAction.RULE_PIN: gettext_lazy("Trust rule used first"),
    OrganizationAction.RULE_UNPIN: gettext_lazy("Ids of a trust rule forgotten"),
    OrganizationAction.SESSION_START: gettext_lazy("Session of CI started"),
    OrganizationAction.SESSION_END: gettext_lazy("Session of CI ended"),
    OrganizationAction.TOKEN_REFUSED: gettext_lazy("Token of CI refused"),
    OrganizationAction.SIGNING_KEY_ROTATE: gettext_lazy("Signing key changed"),
    OrganizationAction.ORGANIZATION_QUOTA: gettext_lazy("Quota of stored bytes changed"),
}


class AuditLogFilter(Form):
    """Which events are shown. A field with a bad value does not filter."""

    action = forms.ChoiceField(
        label=gettext_lazy("Action"),
        required=False,
        widget=forms.Select({"aria-label": gettext_lazy("Action")}),
        choices=[("", gettext_lazy("All actions")), *((name, words) for name, (words, _) in GROUPS.items())],
    )
    by = forms.ChoiceField(required=False, widget=forms.HiddenInput, choices=[("", ""), *((by, by) for by in By)])
    who = forms.CharField(label=gettext_lazy("Who"), required=False, max_length=254)
    tag = forms.CharField(label=gettext_lazy("Tag"), required=False, max_length=128)
    key = forms.CharField(label=gettext_lazy("Access key ID"), required=False, max_length=32, widget=forms.HiddenInput)
    since = Day(label=gettext_lazy("From"))
    until = Day(label=gettext_lazy("Until"))

    def wanted(self, project: Project, repository: Repository | None, image: Image | None) -> Wanted:
        """The events that were asked for, of this place."""
        self.is_valid()
        chosen = self.cleaned_data
        key = AccessKey.objects.filter(identifier=chosen["key"]).first() if chosen.get("key") else None
        return Wanted(
            project,
            repository=repository,
            image=image,
            actions=GROUPS[chosen["action"]][1] if chosen.get("action") else (),
            key=key,
            who=(chosen.get("who") or "").strip(),
            by=By(chosen["by"]) if chosen.get("by") else None,
            tag=chosen.get("tag") or "",
            since=moment(chosen.get("since")),
            until=moment(chosen.get("until"), after=1),
        )


class OrganizationAuditLogFilter(Form):
    """Which events are shown. A field with a bad value does not filter."""

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
