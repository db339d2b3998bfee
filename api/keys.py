"""Access keys: one's own, those that can act in a project or organization, and those of service accounts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from rest_framework import serializers

from accounts import keys, limits, organizations
from accounts.models import AccessKey, OrganizationRole, Project, User
from registry import access, members, service_accounts
from registry.access import Action

from . import problems
from .base import Answer, ApiView, Page, operation
from .fields import KEY_STATES, Switch, Text, Wanted, Whole
from .owners import OwnerView


class KeyJson(serializers.Serializer[Any]):
    """An access key. Its limits never change."""

    id = serializers.CharField(help_text="the user name of docker login")
    name = serializers.CharField()
    user = serializers.CharField(help_text="the holder")
    project = serializers.CharField(allow_null=True, help_text="the only project; null: all of its holder")
    actions = serializers.ListField(
        child=serializers.ChoiceField(choices=limits.ACTIONS), help_text="what it may do at the registry"
    )
    repositories = serializers.CharField(help_text="the only repositories, separated by spaces; empty: all")
    networks = serializers.CharField(help_text="the only networks, separated by spaces; empty: all")
    counts_pulls = serializers.BooleanField()
    management = serializers.BooleanField(help_text="it may use this API")
    state = serializers.ChoiceField(choices=KEY_STATES)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)
    former_ends_at = serializers.DateTimeField(
        allow_null=True, help_text="when the secret before the newest one ends, or ended; null: there was none"
    )
    former_last_used_at = serializers.DateTimeField(allow_null=True)


class NewKeyJson(KeyJson):
    """A new access key with its secret."""

    secret = serializers.CharField(
        allow_null=True, help_text="shown only once; null in the answer to a repeated request"
    )


class AccountKeyWanted(Wanted):
    """The limits of a new access key of a service account."""

    name = Text(max_length=64)
    actions = serializers.ListField(
        child=serializers.ChoiceField(choices=limits.ACTIONS),
        default=lambda: list(limits.ACTIONS),
        min_length=1,
        max_length=len(limits.ACTIONS),
        help_text="what it may do at the registry; a key for this API is not limited so",
    )
    repositories = Text(
        max_length=3_000, default="", allow_blank=True, help_text="such as shop/web shop/team-*; empty: all"
    )
    networks = Text(max_length=1_000, default="", allow_blank=True, help_text="such as 10.0.0.0/8; empty: all")
    counts_pulls = Switch(default=True)
    management = Switch(default=False)
    expires_at = serializers.DateTimeField(allow_null=True, default=None)


class KeyWanted(AccountKeyWanted):
    """The limits of a new access key. It gets no more than the key that makes it has."""

    project = Text(max_length=40, allow_null=True, default=None)


class RotationWanted(Wanted):
    """A new secret for a key."""

    former_seconds = Whole(
        min_value=0,
        max_value=int(keys.FORMER_LIFETIME.total_seconds()),
        default=86_400,
        help_text="how long the present secret works beside the new one",
    )


def in_json(key: AccessKey) -> dict[str, Any]:
    """A key as KeyJson has it."""
    names = (
        "name",
        "repositories",
        "networks",
        "counts_pulls",
        "management",
        "state",
        "created_at",
        "expires_at",
        "last_used_at",
    )
    shown = {name: getattr(key, name) for name in names}
    former = getattr(key, "former", None)
    return {
        "former_ends_at": former.ends_at if former else None,
        "former_last_used_at": former.last_used_at if former else None,
        "id": key.identifier,
        "user": key.user.email,
        "project": key.project.name if key.project else None,
        "actions": [each for each in limits.ACTIONS if key.only_actions is None or each in key.only_actions],
        **shown,
    }


class KeysView(OwnerView):
    """/api/v1/keys"""

    noun = "keys"

    @operation(None, KeyJson, is_list=True)
    def get(self) -> Page:
        """List the access keys of the holder, the newest first; ended ones, too."""
        return self.page(_own(self.actor.user_id), "-pk", in_json)

    @operation(None, NewKeyJson, body=KeyWanted, statuses=(201,), secret="secret")  # noqa: S106  a field's name
    def post(self) -> Answer:
        """Make an access key for the holder of this one. The answer has its secret, which is shown only once."""
        wanted = dict(self.body)
        wanted["project"] = self._project(wanted.pop("project"))
        self.require_may_make(wanted["project"], wanted["expires_at"])
        user = User.objects.get(pk=self.actor.user_id or 0)
        made = keys.create(user, wanted.pop("name"), by=self.actor, **_limited(wanted))
        return _made(made, f"{self.request.path}/{made.key.identifier}")

    def _project(self, name: str | None) -> Project | None:
        if name is None:
            return None
        if not access.knows_project(self.actor, name):
            raise problems.Invalid(errors=[{"pointer": "/project", "detail": f"there is no project {name}"}])
        return Project.objects.get(name=name)


class KeyView(ApiView):
    """/api/v1/keys/{identifier}"""

    noun = "keys"

    @operation(None, KeyJson)
    def get(self, identifier: str) -> dict[str, Any]:
        """Get an access key of the holder."""
        return in_json(_one(_own(self.actor.user_id), identifier))

    @operation(None)
    def delete(self, identifier: str) -> None:
        """Revoke an access key of the holder. Its tokens fail at their next request."""
        keys.revoke(_one(_own(self.actor.user_id), identifier), by=self.actor)


class KeyRestoreView(ApiView):
    """/api/v1/keys/{identifier}/restore"""

    noun = "keys"

    @operation(None, KeyJson)
    def post(self, identifier: str) -> dict[str, Any]:
        """Undo the revocation of a key within ten minutes."""
        key = _one(_own(self.actor.user_id), identifier)
        keys.restore(key, by=self.actor)
        return in_json(_one(_own(self.actor.user_id), identifier))


class OwnerKeysView(OwnerView):
    """/api/v1/projects/{project}/keys and /api/v1/organizations/{organization}/keys"""

    noun = "keys"

    @operation(Action.ADMINISTER, KeyJson, organization=OrganizationRole.OWNER, is_list=True)
    def get(self) -> Page:
        """List the valid access keys that can act here, the newest first."""
        return self.page(_acting(self), "-pk", in_json)


class _OwnerKeyView(OwnerView):
    noun = "keys"

    def found(self, identifier: str) -> AccessKey:
        """The key that can, or could, act here. Raises NotFound."""
        return _one(_acting(self, with_ended=True), identifier)

    def machine_key(self, identifier: str) -> AccessKey:
        """The key of a service account. Raises NotFound, also for keys of people."""
        return _one(service_accounts.keys_of(self.owner), identifier)


class OwnerKeyView(_OwnerKeyView):
    """…/keys/{identifier} of a project or organization"""

    @operation(Action.ADMINISTER, KeyJson, organization=OrganizationRole.OWNER)
    def get(self, identifier: str) -> dict[str, Any]:
        """Get an access key that can, or could, act here."""
        return in_json(self.found(identifier))

    @operation(Action.ADMINISTER, organization=OrganizationRole.OWNER)
    def delete(self, identifier: str) -> None:
        """Revoke an access key that can act here, and mail its holder."""
        key = self.found(identifier)
        if isinstance(self.owner, Project):
            members.revoke_key(self.actor, self.owner, key)
        else:
            organizations.revoke_key(self.actor, key)


class OwnerKeyRestoreView(_OwnerKeyView):
    """…/keys/{identifier}/restore of a project or organization"""

    @operation(Action.ADMINISTER, KeyJson, organization=OrganizationRole.OWNER)
    def post(self, identifier: str) -> dict[str, Any]:
        """Undo the revocation of a key within ten minutes, and mail its holder."""
        key = self.found(identifier)
        if isinstance(self.owner, Project):
            members.restore_key(self.actor, self.owner, key)
        else:
            organizations.restore_key(self.actor, key)
        return in_json(self.found(identifier))


class RotateView(_OwnerKeyView):
    """…/keys/{identifier}/rotate of a project or organization"""

    @operation(
        Action.ADMINISTER,
        NewKeyJson,
        organization=OrganizationRole.OWNER,
        body=RotationWanted,
        secret="secret",  # noqa: S106  a field's name
    )
    def post(self, identifier: str) -> Answer:
        """Give a key of a service account a new secret, shown only once. The present one works on for a while."""
        key = self.machine_key(identifier)
        self.require_may_make(key.project or key.user.project, key.expires_at)
        time = timedelta(seconds=self.body["former_seconds"])
        made = service_accounts.rotate(self.actor, key, former_ends_in=time)
        return Answer(in_json(self.machine_key(identifier)) | {"secret": made.secret})


class EndFormerView(_OwnerKeyView):
    """…/keys/{identifier}/end-former of a project or organization"""

    @operation(Action.ADMINISTER, KeyJson, organization=OrganizationRole.OWNER)
    def post(self, identifier: str) -> dict[str, Any]:
        """End the former secret of a key of a service account at once."""
        service_accounts.end_former(self.actor, self.machine_key(identifier))
        return in_json(self.machine_key(identifier))


class AccountKeysView(OwnerView):
    """…/service-accounts/{account}/keys"""

    noun = "keys"

    @operation(Action.ADMINISTER, KeyJson, organization=OrganizationRole.OWNER, is_list=True)
    def get(self, account: str) -> Page:
        """List the access keys of a service account, the newest first; ended ones, too."""
        found = AccessKey.objects.lasting().filter(user=self.account(account))
        return self.page(found.select_related("user", "project", "former"), "-pk", in_json)

    @operation(
        Action.ADMINISTER,
        NewKeyJson,
        organization=OrganizationRole.OWNER,
        body=AccountKeyWanted,
        statuses=(201,),
        secret="secret",  # noqa: S106  a field's name
    )
    def post(self, account: str) -> Answer:
        """Make an access key of a service account. The answer has its secret, which is shown only once."""
        holder, wanted = self.account(account), dict(self.body)
        self.require_may_make(holder.project, wanted["expires_at"])
        made = service_accounts.make_key(self.actor, holder, wanted.pop("name"), **_limited(wanted))
        above = self.request.path.partition("/service-accounts/")[0]
        return _made(made, f"{above}/keys/{made.key.identifier}")


def _limited(wanted: dict[str, Any]) -> dict[str, Any]:
    """The body as ``keys.create`` takes it."""
    only = limits.Limits(**{name: wanted.pop(name) for name in ("actions", "repositories", "networks")})
    return wanted | {"only": only}


def _made(made: keys.NewKey, there: str) -> Answer:
    return Answer(in_json(made.key) | {"secret": made.secret}, 201, location=there)


def _acting(view: OwnerView, *, with_ended: bool = False) -> Any:
    if isinstance(view.owner, Project):
        found = members.keys_in_project(view.owner, with_ended=with_ended)
    else:
        found = members.keys_in_organization(view.owner, with_ended=with_ended)
    return found.select_related("user", "project", "former")


def _own(user: int | None) -> Any:
    return AccessKey.objects.filter(user=user or 0).select_related("user", "project", "former")


def _one(found: Any, identifier: str) -> AccessKey:
    key: AccessKey | None = found.filter(identifier=identifier).first()
    if key is None:
        raise problems.NotFound(f"there is no access key {identifier}")
    return key
