"""Service accounts of a project and of an organization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import transaction
from rest_framework import serializers

from accounts.models import OrganizationRole
from registry import service_accounts, undo
from registry.access import Action

from .base import Answer, Page, etag_of, operation
from .fields import Switch, Text, UndoneJson, Wanted, undone_json
from .owners import OwnerView

if TYPE_CHECKING:
    from accounts.models import User


class ServiceAccountJson(serializers.Serializer[Any]):
    """A service account. Roles are given to its address as to a person's."""

    name = serializers.CharField()
    email = serializers.CharField(help_text="its address in lists of members and in audit logs; no mail reaches it")
    description = serializers.CharField()
    contacts = serializers.ListField(
        child=serializers.CharField(), help_text="people who get a mail before a key expires"
    )
    is_active = serializers.BooleanField(help_text="false: its keys and tokens are refused")


class ServiceAccountWanted(Wanted):
    """The settings of a service account. PUT sets those that are left out to their defaults."""

    description = Text(max_length=service_accounts.MAX_DESCRIPTION, default="", allow_blank=True)
    contacts = serializers.ListField(
        child=Text(max_length=254),
        default=list,
        max_length=service_accounts.CONTACTS,
        help_text="addresses of members of the organization",
    )
    is_active = Switch(default=True)


class ServiceAccountsView(OwnerView):
    """…/service-accounts of a project or organization"""

    noun = "service accounts"

    @operation(Action.VIEW, ServiceAccountJson, organization=OrganizationRole.OWNER, is_list=True)
    def get(self) -> Page:
        """List the service accounts, by name. An organization's list is without those of its projects."""
        found = service_accounts.of(self.owner).prefetch_related("contacts")
        return self.page(found, "name", _in_json)


class ServiceAccountView(OwnerView):
    """…/service-accounts/{account}"""

    noun = "service accounts"

    @operation(Action.VIEW, ServiceAccountJson, organization=OrganizationRole.MEMBER)
    def get(self, account: str) -> Answer:
        """Get a service account."""
        return _answer(self.account(account))

    @operation(
        Action.ADMINISTER,
        ServiceAccountJson,
        organization=OrganizationRole.OWNER,
        body=ServiceAccountWanted,
        statuses=(200, 201),
        is_conditional=True,
    )
    def put(self, account: str) -> Answer:
        """Create a service account without roles and keys, or set its settings."""
        found = service_accounts.find(self.owner, account)
        if found is not None:
            return self._update(found, self.body)
        self.check("")
        first = {name: self.body[name] for name in ("description", "contacts")}
        with transaction.atomic():
            made = service_accounts.create(self.actor, self.owner, account, **first)
            if not self.body["is_active"]:
                service_accounts.set_active(self.actor, made, is_active=False)
        answer = _answer(self.account(account))
        answer.status, answer.location = 201, self.request.path
        return answer

    @operation(
        Action.ADMINISTER,
        ServiceAccountJson,
        organization=OrganizationRole.OWNER,
        body=ServiceAccountWanted,
        is_conditional=True,
    )
    def patch(self, account: str) -> Answer:
        """Change settings of a service account. What is left out stays."""
        return self._update(self.account(account), self.body)

    @operation(Action.ADMINISTER, organization=OrganizationRole.OWNER, is_conditional=True)
    def delete(self, account: str) -> None:
        """Delete a service account. Its keys, sessions and roles end at once."""
        found = self.account(account)
        self.check(_etag(found))
        service_accounts.delete(self.actor, found)

    def _update(self, account: User, wanted: dict[str, Any]) -> Answer:
        self.check(_etag(account))
        now = service_accounts.settings_of(account)
        more = {name: wanted.get(name, now[name]) for name in now}
        with transaction.atomic():
            service_accounts.update(self.actor, account, seen=now if self.has_precondition else None, **more)
            if "is_active" in wanted:
                service_accounts.set_active(self.actor, account, is_active=wanted["is_active"])
        return _answer(self.account(account.name))


class RestoreView(OwnerView):
    """…/service-accounts/{account}/restore"""

    noun = "service accounts"

    @operation(Action.ADMINISTER, UndoneJson, organization=OrganizationRole.OWNER)
    def post(self, account: str) -> dict[str, Any]:
        """Undo the deletion of a service account within ten minutes: its keys work again, and its roles come back."""
        result = undo.restore_service_account(self.actor, self.account(account, with_deleted=True))
        return undone_json(result.done, result.skipped)


def _in_json(account: User) -> dict[str, Any]:
    more = {"name": account.name, "email": account.email, "is_active": account.is_active}
    return service_accounts.settings_of(account) | more


def _etag(account: User) -> str:
    return etag_of(service_accounts.settings_of(account) | {"is_active": account.is_active})


def _answer(account: User) -> Answer:
    return Answer(_in_json(account), etag=_etag(account))
