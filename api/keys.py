"""Access keys: one's own, and those that can act in a project."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts import keys, limits
from accounts.models import AccessKey, Project, User
from registry import access, errors, members
from registry.access import Action

from . import problems
from .base import Answer, ApiView, Page, operation
from .fields import Switch, Text, Wanted

STATES = ("alive", "revoked", "expired", "inactive")


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
    state = serializers.ChoiceField(choices=STATES)
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    last_used_at = serializers.DateTimeField(allow_null=True)


class NewKeyJson(KeyJson):
    """A new access key with its secret."""

    secret = serializers.CharField(
        allow_null=True, help_text="shown only once; null in the answer to a repeated request"
    )


class KeyWanted(Wanted):
    """The limits of a new access key. It gets no more than the key that makes it has."""

    name = Text(max_length=64)
    project = Text(max_length=40, allow_null=True, default=None)
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
    return {
        "id": key.identifier,
        "user": key.user.email,
        "project": key.project.name if key.project else None,
        "actions": [each for each in limits.ACTIONS if key.only_actions is None or each in key.only_actions],
        **shown,
    }


class KeysView(ApiView):
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
        self._limit(wanted)
        wanted["only"] = limits.Limits(**{name: wanted.pop(name) for name in ("actions", "repositories", "networks")})
        user = User.objects.get(pk=self.actor.user_id or 0)
        made = keys.create(user, wanted.pop("name"), by=self.actor, **wanted)
        there = f"{self.request.path}/{made.key.identifier}"
        return Answer(in_json(made.key) | {"secret": made.secret}, 201, location=there)

    def _project(self, name: str | None) -> Project | None:
        if name is None:
            return None
        if not access.knows_project(self.actor, name):
            raise problems.Invalid(errors=[{"pointer": "/project", "detail": f"there is no project {name}"}])
        return Project.objects.get(name=name)

    def _limit(self, wanted: dict[str, Any]) -> None:
        """Raises Denied if the new key would have more than this one: a limited key must not free itself."""
        own = AccessKey.objects.get(pk=self.actor.key_id or 0)
        project: Project | None = wanted["project"]
        if own.project_id is not None and (project is None or project.pk != own.project_id):
            raise errors.Denied("this access key is limited to one project: it makes keys for that project only")
        if own.only_actions is not None or own.repositories or own.networks:
            raise errors.Denied(
                "this access key is limited to some actions, repositories or networks: it makes no keys"
            )
        if own.expires_at is not None and (wanted["expires_at"] is None or wanted["expires_at"] > own.expires_at):
            raise errors.Denied(f"this access key expires at {own.expires_at:%Y-%m-%dT%H:%M:%SZ}: so must the new one")


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


class ProjectKeysView(ApiView):
    """/api/v1/projects/{project}/keys"""

    noun = "keys"

    @operation(Action.ADMINISTER, KeyJson, is_list=True)
    def get(self) -> Page:
        """List the valid access keys that can act in the project, the newest first."""
        found = members.keys_in_project(self.project).select_related("user", "project")
        return self.page(found, "-pk", in_json)


class _ProjectKeyView(ApiView):
    noun = "keys"

    def found(self, identifier: str) -> AccessKey:
        """The key that can, or could, act in the project. Raises NotFound."""
        found = members.keys_in_project(self.project, with_ended=True).select_related("user", "project")
        return _one(found, identifier)


class ProjectKeyView(_ProjectKeyView):
    """/api/v1/projects/{project}/keys/{identifier}"""

    @operation(Action.ADMINISTER, KeyJson)
    def get(self, identifier: str) -> dict[str, Any]:
        """Get an access key that can, or could, act in the project."""
        return in_json(self.found(identifier))

    @operation(Action.ADMINISTER)
    def delete(self, identifier: str) -> None:
        """Revoke an access key that can act in the project, and mail its holder."""
        members.revoke_key(self.actor, self.project, self.found(identifier))


class ProjectKeyRestoreView(_ProjectKeyView):
    """/api/v1/projects/{project}/keys/{identifier}/restore"""

    @operation(Action.ADMINISTER, KeyJson)
    def post(self, identifier: str) -> dict[str, Any]:
        """Undo the revocation of a key within ten minutes, and mail its holder."""
        members.restore_key(self.actor, self.project, self.found(identifier))
        return in_json(self.found(identifier))


def _own(user: int | None) -> Any:
    return AccessKey.objects.filter(user=user or 0).select_related("user", "project")


def _one(found: Any, identifier: str) -> AccessKey:
    key: AccessKey | None = found.filter(identifier=identifier).first()
    if key is None:
        raise problems.NotFound(f"there is no access key {identifier}")
    return key
