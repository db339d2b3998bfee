"""Who may do what: the whole policy. ALLOWED says it in roles, ``_holding`` says in SQL who has which role.

``may`` answers for one object and ``visible`` for all at once, both from these two. Rights are asked of the database
each time, at this moment; keys and tokens only ever narrow them.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from itertools import compress
from typing import TYPE_CHECKING, Any, TypeVar

from django.db.models import Case, Exists, Model, OuterRef, Q, QuerySet, Value, When

from accounts.actors import Actor
from accounts.models import (
    AccessKey,
    OrganizationMembership,
    OrganizationRole,
    Project,
    ProjectMembership,
    ProjectRole,
    User,
)
from registry import errors
from registry.database.prepared import CompiledQuery, number_mark, text_mark
from registry.models import Repository, RepositoryUserPermission

if TYPE_CHECKING:
    from collections.abc import Iterable

    from registry.oci.names import ImageName

Row = TypeVar("Row", bound=Model)


class Role(StrEnum):
    """What somebody is to a repository or project, in the words that people read."""

    OWNER = "Organization Owner"
    ADMIN = "Project Admin"
    MEMBER = "Project Member"
    READER = "Project Reader"
    REPOSITORY_MEMBER = "Repository Member"
    REPOSITORY_VIEWER = "Repository Viewer"
    ANYONE = "anyone"
    SYSTEM = "the system"


class Action(StrEnum):
    """What can be asked for. PULL, PUSH and DELETE are the registry API's; the others are the console's."""

    PULL = "pull"
    PUSH = "push"
    DELETE = "delete"
    VIEW = "view"
    MANAGE = "manage"
    ADMINISTER = "administer"


_MANAGERS = frozenset({Role.OWNER, Role.ADMIN, Role.MEMBER})

ALLOWED: dict[Action, frozenset[Role]] = {
    Action.PULL: frozenset(Role),
    Action.PUSH: _MANAGERS | {Role.REPOSITORY_MEMBER},
    Action.DELETE: _MANAGERS,
    Action.VIEW: _MANAGERS | {Role.READER},
    Action.MANAGE: _MANAGERS,
    Action.ADMINISTER: frozenset({Role.OWNER, Role.ADMIN}),
}
ALLOWED_TO_PULL_ONLY_KEYS = frozenset({Action.PULL})

_USER, _KEY, _PROJECT = number_mark(1), number_mark(2), number_mark(3)
_PROJECT_NAME, _REPOSITORY_NAME = text_mark("project"), text_mark("repository")
_IN_PROJECT = {Role.ADMIN: ProjectRole.ADMIN, Role.MEMBER: ProjectRole.MEMBER, Role.READER: ProjectRole.READER}
_IN_REPOSITORY = {Role.REPOSITORY_MEMBER: "push_repository", Role.REPOSITORY_VIEWER: "pull_repository"}


def may(actor: Actor, action: Action, thing: Repository | Project) -> bool:
    """Whether the actor may do this to a live repository or a project. One query."""
    if isinstance(thing, Repository):
        return visible(actor, action).filter(pk=thing.pk).exists()
    return action in actions_in_project(actor, thing.name)


def visible(actor: Actor, action: Action = Action.PULL) -> QuerySet[Repository]:
    """The live repositories to which the actor may do this."""
    return permitted(Repository.objects.all(), actor, action)


def permitted(rows: QuerySet[Row], actor: Actor, action: Action, repository: str = "") -> QuerySet[Row]:
    """Those of the rows whose live repository (at this look-up path; "" for repositories) the actor may do this to."""
    if actor.pull_only and action not in ALLOWED_TO_PULL_ONLY_KEYS:
        return rows.none()
    if actor.scope is not None:
        reached = [identifier for identifier, actions in actor.scope.items() if action in actions]
        rows = rows.filter(**{f"{repository or 'pk'}__in": reached})
    rows = rows.filter(**{_step(repository, "deletion"): None})
    return rows.filter(_holding(actor, ALLOWED[action], repository, _step(repository, "project")), _alive(actor))


def marked(actor: Actor) -> Actor:
    """An actor of the same kind with marks for its ids: for queries that are compiled once (models.compiled).

    The token's scope is left out; ask ``reaches`` about the row that was found.
    """
    return Actor(
        user_id=_USER if actor.user_id is not None else None,
        key_id=_KEY if actor.key_id is not None else None,
        project_id=_PROJECT if actor.project_id is not None else None,
        pull_only=actor.pull_only,
        is_system=actor.is_system,
    )


def marks(actor: Actor) -> dict[int | str, Any]:
    """What belongs in the places of the marks of ``marked(actor)``."""
    return {_USER: actor.user_id, _KEY: actor.key_id, _PROJECT: actor.project_id}


def reaches(actor: Actor, action: Action, repository_id: int) -> bool:
    """Whether the actor's token, if there is one, was issued for this action on this repository."""
    return actor.scope is None or action in actor.scope.get(repository_id, ())


def allowed_actions(actor: Actor, name: ImageName) -> tuple[frozenset[Action], int | None]:
    """What the actor may do under a name, and the id of the repository that has it (None: there is none yet).

    For a name without a repository: what the roles in the project would allow, so that those who may know are told.
    """
    # The same questions whether the repository is there or not: the time of the answer must not tell.
    repository_id, roles = _roles(actor, name.project, name.repository)
    in_project = actions_in_project(actor, name.project)
    return in_project if repository_id is None else _actions(actor, roles), repository_id


def actions_in_project(actor: Actor, project: str) -> frozenset[Action]:
    """What the actor's roles in the project of this name allow, grants on single repositories aside. One query."""
    return _actions(actor, _roles(actor, project, "")[1])


def knows_project(actor: Actor, project: str) -> bool:
    """Whether there is a project of this name in which the actor has a role or may pull. At most two queries."""
    return bool(actions_in_project(actor, project)) or visible(actor).filter(project__name=project).exists()


def require(actor: Actor, action: Action, name: ImageName) -> Repository:
    """The live repository of this name, when the actor may do this to it.

    Raises TokenInvalid (the key or user behind the actor has ended), NameUnknown (there is none, or none that the
    actor may see: the same words), Unauthorized (nobody signed in), Denied (seen, but not allowed: why).
    """
    repository = permitted(Repository.objects.named(name), actor, action).first()
    if repository is not None:
        return repository
    raise _refusal(actor, action, name)


def require_alive(actor: Actor) -> None:
    """Raises TokenInvalid when the key or the user behind the actor has ended."""
    if actor.user_id is not None and not User.objects.filter(_alive(actor), pk=actor.user_id).exists():
        raise errors.TokenInvalid("the access key or user behind this login has ended: log in again")


def _refusal(actor: Actor, action: Action, name: ImageName) -> errors.RegistryError:
    """Why ``require`` says no, in words that tell nobody what they may not know."""
    if actor.is_anonymous:
        return errors.Unauthorized()
    require_alive(actor)
    repository_id, roles = _roles(actor, name.project, name.repository)
    in_project = actions_in_project(actor, name.project)
    if repository_id is None and in_project:
        return errors.NameUnknown(
            f"the project {name.project} has no repository {name.repository}: create it in the console"
            f" or with: manage.py createrepository {name.project}/{name.repository}"
        )
    actions = _actions(actor, roles)
    if not actions:
        return errors.NameUnknown(f"there is no repository for {name.repository}/{name.image}, or you may not see it")
    if action not in actions and actor.pull_only and ALLOWED[action] & roles:
        return errors.Denied(f"this access key may only pull: use another one to {action} {name}")
    if action not in actions:
        return errors.Denied(
            f"you may not {action} {name}: you are {_in_words(roles)} there, but it takes {_in_words(ALLOWED[action])}"
        )
    return errors.ScopeInsufficient()


def _in_words(roles: Iterable[Role]) -> str:
    held = set(roles)
    return " or ".join(role for role in Role if role in held)


def _actions(actor: Actor, roles: frozenset[Role]) -> frozenset[Action]:
    limit = ALLOWED_TO_PULL_ONLY_KEYS if actor.pull_only else frozenset(Action)
    return frozenset(action for action in limit if ALLOWED[action] & roles)


def _roles(actor: Actor, project: str, repository: str) -> tuple[int | None, frozenset[Role]]:
    """The id of the repository (of the project, when ``repository`` is ""), and every role of the actor for it.

    No id and no roles when there is none. One query, compiled once.
    """
    query = _query_of_roles(marked(actor), of_project=not repository)
    row = query.first(marks(actor) | {_PROJECT_NAME: project, _REPOSITORY_NAME: repository})
    return (None, frozenset()) if row is None else (row[0], frozenset(compress(Role, row[1:])))


@cache
def _query_of_roles(marked: Actor, *, of_project: bool) -> CompiledQuery:
    rows: QuerySet[Any] = Project.objects.filter(name=_PROJECT_NAME)
    paths: tuple[str | None, str] = None, ""
    if not of_project:
        rows = Repository.objects.live().filter(project__name=_PROJECT_NAME, name=_REPOSITORY_NAME)
        paths = "", "project"
    flags = {
        f"is_{role.name.lower()}": Case(
            When(_holding(marked, {role}, *paths) & _alive(marked), then=Value(1)), default=Value(0)
        )
        for role in Role
    }
    return CompiledQuery(rows.annotate(**flags).values_list("pk", *flags)[:1])


def _alive(actor: Actor) -> Q:
    """Whether the key and user behind the actor may still act."""
    if actor.key_id is not None:
        return Q(Exists(AccessKey.objects.alive().filter(pk=actor.key_id, user=actor.user_id)))
    if actor.user_id is not None:
        return Q(Exists(User.objects.filter(pk=actor.user_id, is_active=True)))
    return ~Q(pk=None)


def _holding(actor: Actor, roles: Iterable[Role], repository: str | None, project: str) -> Q:
    """Whether the actor has one of the roles, for rows with a repository and project at these look-up paths."""
    roles = frozenset(roles)
    holding = Q(pk=None)
    if Role.ANYONE in roles and repository is not None:
        holding |= Q(**{_step(repository, "is_public"): True})
    if Role.SYSTEM in roles and actor.is_system:
        holding |= ~Q(pk=None)
    if actor.user_id is None:
        return holding
    personal = Q(pk=None)
    if Role.OWNER in roles:
        owners = OrganizationMembership.objects.filter(user=actor.user_id, role=OrganizationRole.OWNER)
        personal |= Q(Exists(owners.filter(organization=OuterRef(_step(project, "organization_id")))))
    if in_project := [_IN_PROJECT[role] for role in roles & _IN_PROJECT.keys()]:
        members = ProjectMembership.objects.filter(user=actor.user_id, role__in=in_project)
        personal |= Q(Exists(members.filter(project=OuterRef(project or "pk"))))
    if repository is not None and (permissions := [_IN_REPOSITORY[role] for role in roles & _IN_REPOSITORY.keys()]):
        grants = RepositoryUserPermission.objects.filter(user=actor.user_id, permission__codename__in=permissions)
        personal |= Q(Exists(grants.filter(content_object=OuterRef(repository or "pk"))))
    if actor.project_id is not None:
        personal &= Q(**{project or "pk": actor.project_id})
    return holding | personal


def _step(path: str, field: str) -> str:
    return f"{path}__{field}" if path else field
