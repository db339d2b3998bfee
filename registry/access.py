"""Who may do what: the whole permission policy. ALLOWED says which roles may do an action, ``_holding`` who has a role.

    question                                                           asked with
    May the actor do this to this repository or project?               may
    Which of these rows may the actor do this to?                      permitted
    Give me the repository of this name, or say why not.               require, find
    What may the actor do under these names, and in this project?      allowed_actions, actions_in_project
    In which projects may the actor do this?                           permitted_projects
    Does a push of the actor create the repository of this name?       project_to_create_in
    Does the actor know that this project exists?                      knows_project
    Was the actor's token issued for this? Is the actor's key alive?   token_covers, with_created, require_alive
    May the actor give a service account this role?                    may_give

The doors (registry.v2, the console, commands) ask. The modules below them trust the caller, apart from reads whose name
begins with ``permitted_``: those find a row and ask in one query. Every answer comes from the database at the moment of
the question. Keys and tokens only narrow what the roles of their user allow.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from django.db.models import Case, Exists, F, FilteredRelation, Model, OuterRef, Q, QuerySet, TextField, Value, When
from django.db.models.functions import Concat
from django.db.models.lookups import Regex
from django.utils.translation import gettext as _

from accounts import limits
from accounts.models import (
    AccessKey,
    OrganizationMembership,
    OrganizationRole,
    Project,
    ProjectMembership,
    ProjectRole,
    RepositoryRole,
    User,
)
from registry import errors
from registry.database.prepared import Param, Prepared, prepare, prepare_models
from registry.models import Repository, RepositoryUserPermission
from registry.oci.names import ImageName
from registry.oci.scopes import MAX_SCOPES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from accounts.actors import Actor

Row = TypeVar("Row", bound=Model)


class Role(StrEnum):
    """What a user is to a repository or project, as messages say it."""

    OWNER = "Organization Owner"
    ADMIN = "Project Admin"
    MEMBER = "Project Member"
    READER = "Project Reader"
    REPOSITORY_MEMBER = "Repository Member"
    REPOSITORY_VIEWER = "Repository Viewer"
    ANYONE = "anyone"
    SYSTEM = "the system"


class Action(StrEnum):
    """What an actor can ask to do. PULL, PUSH and DELETE are actions of the registry API, the others of the console."""

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

MAX_NAMES = MAX_SCOPES  # of one question: a request for a token asks about all its scopes at once

_IN_PROJECT = {Role.ADMIN: ProjectRole.ADMIN, Role.MEMBER: ProjectRole.MEMBER, Role.READER: ProjectRole.READER}
_ON_REPOSITORY = {Role.REPOSITORY_MEMBER: "push_repository", Role.REPOSITORY_VIEWER: "pull_repository"}
_GIVEN_IN_PROJECT: dict[str, Role] = {in_project: role for role, in_project in _IN_PROJECT.items()}
_GIVEN_ON_REPOSITORY: dict[str, Role] = {
    RepositoryRole.MEMBER: Role.REPOSITORY_MEMBER,
    RepositoryRole.VIEWER: Role.REPOSITORY_VIEWER,
}


class Allowed(NamedTuple):
    """What an actor may do under a name; ``repository_id`` is None when no repository has the name."""

    actions: frozenset[Action]
    repository_id: int | None


class _UserRow(NamedTuple):
    user_id: int


def may(actor: Actor, action: Action, thing: Repository | Project) -> bool:
    """Whether the actor may do this to a live repository or a project. One query."""
    if isinstance(thing, Repository):
        return permitted(Repository.objects.filter(pk=thing.pk), actor, action).exists()
    return action in actions_in_project(actor, thing.name)


def permitted(rows: QuerySet[Row], actor: Actor, action: Action, repository: str = "") -> QuerySet[Row]:
    """The rows whose repository is live and allows the actor this action.

    ``repository`` is the look-up path from a row to its repository, "" when the rows are repositories.
    """
    if action not in _allowed_by_key(actor):
        return rows.none()
    if actor.scope is not None:
        reached = [identifier for identifier, actions in actor.scope.items() if action in actions]
        rows = rows.filter(**{f"{repository or 'pk'}__in": reached})
    path = _Path(repository, _step(repository, "project"))
    rows = rows.filter(**{_step(repository, "deletion"): None})
    return rows.filter(_holding(actor, ALLOWED[action], path), _alive(actor))


def token_covers(actor: Actor, action: Action, repository_id: int) -> bool:
    """Whether the actor's token, if the actor came with one, was issued for this action on this repository."""
    return actor.scope is None or action in actor.scope.get(repository_id, ())


def allowed_actions(actor: Actor, *names: ImageName) -> dict[ImageName, Allowed]:
    """What the actor may do under each name, of at most MAX_NAMES. One query for all of them.

    For a name without a repository: what the roles in the project allow, so that people who may know that are told.
    """
    found = _roles(actor, names)
    return {name: Allowed(_actions(actor, held.roles), held.repository_id) for name, held in found.items()}


def actions_in_project(actor: Actor, project: str) -> frozenset[Action]:
    """What the actor's roles in the project of this name allow, apart from roles on single repositories. One query."""
    name = ImageName(project, "", "")
    return _actions(actor, _roles(actor, [name])[name].roles)


def permitted_projects(actor: Actor, action: Action) -> QuerySet[Project]:
    """The projects in which a role of the actor allows this action, apart from roles on single repositories."""
    if action not in _allowed_by_key(actor) or actor.repositories:
        return Project.objects.none()
    holding = _holding(actor, ALLOWED[action] & _ROLES_IN_PROJECT, _Path("", ""))
    return Project.objects.filter(holding, _alive(actor))


def project_to_create_in(actor: Actor, name: ImageName) -> Project | None:
    """The project of this name, if a push of the actor may create a repository in it; else None. One query.

    The project has ``create_on_push``, and a role of the actor in it may create repositories (MANAGE). The key must
    allow to push, and must not be limited to some repositories.
    """
    if Action.PUSH not in _allowed_by_key(actor) or actor.repositories:
        return None
    holding = _holding(actor, ALLOWED[Action.MANAGE] & _ROLES_IN_PROJECT, _Path("", ""))
    return Project.objects.filter(holding, _alive(actor), name=name.project, create_on_push=True).first()


def with_created(actor: Actor, name: ImageName) -> Actor:
    """The actor of a token that was issued for a push to this name when no repository had it. One query.

    In a project with ``create_on_push`` the token covers the repository that has the name now. Roles are asked for at
    each request all the same.
    """
    created = Repository.objects.named(name).filter(project__create_on_push=True).values_list("pk", flat=True).first()
    if created is None or actor.scope is None:
        return actor
    return replace(actor, scope={**actor.scope, created: frozenset({Action.PULL, Action.PUSH})})


def takes(action: Action) -> str:
    """The roles that allow the action, in words: "Organization Owner or Project Admin"."""
    return _in_words(ALLOWED[action])


def knows_project(actor: Actor, project: str) -> bool:
    """Whether there is a project of this name in which the actor has a role or may pull. At most two queries."""
    of_project = Repository.objects.filter(project__name=project)
    return bool(actions_in_project(actor, project)) or permitted(of_project, actor, Action.PULL).exists()


def may_give(actor: Actor, role: ProjectRole | RepositoryRole, thing: Repository | Project) -> bool:
    """Whether the actor may do there all that the role allows. The system may. One query."""
    if actor.is_system:
        return True
    if isinstance(thing, Repository):
        given, name = _GIVEN_ON_REPOSITORY[role], ImageName(thing.project.name, thing.name, "any")
        held = allowed_actions(actor, name)[name].actions
    else:
        given, held = _GIVEN_IN_PROJECT[role], actions_in_project(actor, thing.name)
    return {action for action, roles in ALLOWED.items() if given in roles} <= held


def require_may_give(actor: Actor, user: User, role: ProjectRole | RepositoryRole, thing: Repository | Project) -> None:
    """Raises Denied if the user is a service account that the actor may not give this role.

    A user cannot give what they do not hold: the key of the account would do it for them. A service account of a
    project has no roles elsewhere. The doors ask who may give roles to people.
    """
    if not user.is_service:
        return
    project = thing.project if isinstance(thing, Repository) else thing
    if user.project_id not in {None, project.pk}:
        raise errors.Denied(_("%(user)s can have roles in its own project only") % {"user": user})
    if not may_give(actor, role, thing):
        raise errors.Denied(
            _("you cannot give the role %(role)s on %(thing)s: you may not do all that it allows")
            % {"role": role.label, "thing": thing}
        )


def require(actor: Actor, action: Action, name: ImageName) -> Repository:
    """The live repository of this name, when the actor may do this to it.

    Raises TokenInvalid (the key or user of the actor has ended), NameUnknown (there is none, or the actor may not see
    it: the message is the same), Unauthorized (the actor is anonymous), Denied (the actor may see it, but not do this).
    """
    repository = find(actor, action, name)
    if repository is None:
        raise _refusal(actor, action, name)
    return repository


def find(actor: Actor, action: Action, name: ImageName) -> Repository | None:
    """The live repository of this name with its project; None when the actor may not do this to it. One query."""
    repository = _FIND[action].first(actor, project=name.project, repository=name.repository)
    return repository if repository is not None and token_covers(actor, action, repository.pk) else None


def _query_of_find(action: Action) -> Prepared[Repository]:
    @prepare_models(Repository, project=TextField(), repository=TextField())
    def build(actor: Actor, project: Any, repository: Any) -> QuerySet[Repository]:
        return permitted(Repository.objects.named(ImageName(project, repository, "")), actor, action)[:1]

    return build


_FIND = {action: _query_of_find(action) for action in Action}


def require_alive(actor: Actor) -> None:
    """Raises TokenInvalid when the key or the user of the actor has ended."""
    if actor.user_id is not None and _alive_user.first(actor) is None:
        raise errors.TokenInvalid("the access key or user behind this login has ended: log in again")


@prepare(_UserRow)
def _alive_user(actor: Actor) -> QuerySet[Any, Any]:
    return User.objects.filter(_alive(actor), Q(pk=actor.user_id)).values_list("pk")


def _refusal(actor: Actor, action: Action, name: ImageName) -> errors.RegistryError:
    """Why ``require`` refuses. The message tells nothing that the actor may not know."""
    if actor.is_anonymous:
        return errors.Unauthorized()
    require_alive(actor)
    if not limits.reaches(actor.repositories, f"{name.project}/{name.repository}"):
        return errors.KeyLimited(
            f"this access key is limited to other repositories: {actor.repositories}", actor=actor, limit="repositories"
        )
    roles, repository_id = _roles(actor, [name])[name]
    actions = _actions(actor, roles)
    if repository_id is None and actions:
        return errors.NameUnknown(
            f"the project {name.project} has no repository {name.repository}: create it in the console"
            f" or with: manage.py createrepository {name.project}/{name.repository}"
        )
    if repository_id is None or not actions:
        return errors.NameUnknown(f"there is no repository for {name.repository}/{name.image}, or you may not see it")
    if action not in actions and ALLOWED[action] & roles:
        only = ", ".join(sorted(_allowed_by_key(actor)))
        return errors.KeyLimited(
            f"this access key may only {only}: use another one to {action} {name}", actor=actor, limit="actions"
        )
    if action not in actions:
        return errors.Denied(
            f"you may not {action} {name}: you are {_in_words(roles)} there, but it takes {_in_words(ALLOWED[action])}"
        )
    return errors.ScopeInsufficient()


def _in_words(roles: Iterable[Role]) -> str:
    held = set(roles)
    return " or ".join(role for role in Role if role in held)


def _actions(actor: Actor, roles: frozenset[Role]) -> frozenset[Action]:
    return frozenset(action for action in _allowed_by_key(actor) if ALLOWED[action] & roles)


def _allowed_by_key(actor: Actor) -> frozenset[Action]:
    """The actions that the actor's key is not limited against."""
    return frozenset(Action) if actor.actions is None else frozenset(map(Action, actor.actions))


# ── The roles of an actor under names ────────────────────────────────────────────────────────────────────────────────
class _Held(NamedTuple):
    """Roles for a repository, or for its project when no repository has the name."""

    roles: frozenset[Role]
    repository_id: int | None


class _RolesRow(NamedTuple):
    """A project, one of its repositories (None: it has none of the names), and 1 for each role that the actor has."""

    project: str
    repository: str | None
    repository_id: int | None
    owner: int
    admin: int
    member: int
    reader: int
    repository_member: int
    repository_viewer: int
    anyone: int
    system: int


_ROLES_IN_PROJECT = frozenset({*_MANAGERS, Role.READER, Role.SYSTEM})


def _roles(actor: Actor, names: Sequence[ImageName]) -> dict[ImageName, _Held]:
    """The actor's roles under each name; none where there is no project of the name. One query.

    The query is the same whether a repository exists or not: the time of the answer must not tell.
    """
    found = {name: _Held(frozenset(), None) for name in names}
    if not names:
        return found
    size = 1 if len(names) == 1 else MAX_NAMES
    padded = [*names, *[names[0]] * (size - len(names))]
    values = {f"project_{number}": name.project for number, name in enumerate(padded)}
    values |= {f"repository_{number}": name.repository for number, name in enumerate(padded)}
    rows = _QUERIES_OF_ROLES[size].all(actor, **values)
    for name in found:
        # The row of the repository; any row of the project when there is none: it has the roles in the project, too.
        of_project = [row for row in rows if row.project == name.project]
        for row in sorted(of_project, key=lambda row: row.repository == name.repository)[-1:]:
            roles = frozenset(role for role in Role if getattr(row, role.name.lower()))
            if row.repository == name.repository:
                found[name] = _Held(roles, row.repository_id)
            else:
                found[name] = _Held(roles & _ROLES_IN_PROJECT, None)
    return found


def _query_of_roles(size: int) -> Prepared[_RolesRow]:
    """The roles for ``size`` names: projects, each with those of its live repositories that have one of the names."""

    def build(actor: Actor, **params: Param) -> QuerySet[Any, Any]:
        names = Q(repositories__name__in=[params[f"repository_{number}"] for number in range(size)])
        named = FilteredRelation("repositories", condition=names & Q(repositories__deletion=None))
        projects = Project.objects.filter(name__in=[params[f"project_{number}"] for number in range(size)])
        path = _Path("named", "")
        flags = {
            f"is_{role.name.lower()}": Case(
                When(_holding(actor, {role}, path) & _alive(actor), then=Value(1)), default=Value(0)
            )
            for role in Role
        }
        found = projects.annotate(named=named, **flags)
        return found.values_list("name", "named__name", "named__pk", *flags)

    fields = {f"{what}_{number}": TextField() for what in ("project", "repository") for number in range(size)}
    return prepare(_RolesRow, **fields)(build)


_QUERIES_OF_ROLES = {size: _query_of_roles(size) for size in (1, MAX_NAMES)}


# ── Who has a role, in SQL ───────────────────────────────────────────────────────────────────────────────────────────
_NOBODY, _EVERYBODY = Q(pk=None), ~Q(pk=None)


class _Path(NamedTuple):
    """Look-up paths from a row to its repository and to its project; "" is the row itself."""

    repository: str
    project: str


def _step(path: str, field: str) -> str:
    return f"{path}__{field}" if path else field


def _alive(actor: Actor) -> Q:
    """Whether the key and the user of the actor may still act."""
    if actor.key_id is not None:
        return Q(Exists(AccessKey.objects.alive().filter(pk=actor.key_id, user=actor.user_id)))
    if actor.user_id is not None:
        return Q(Exists(User.objects.filter(pk=actor.user_id, is_active=True)))
    return _EVERYBODY


def _holding(actor: Actor, roles: Collection[Role], path: _Path) -> Q:
    """Whether the actor has one of the roles for a row's repository."""
    holding = _anyone(roles, path) | _system(actor, roles)
    if actor.user_id is None:
        return holding
    personal = _owner(actor, roles, path) | _project_member(actor, roles, path) | _grantee(actor, roles, path)
    if actor.project_id is not None:
        personal &= Q(**{path.project or "pk": actor.project_id})
    if actor.repositories:
        personal &= _reached(actor, path)
    return holding | personal


def _reached(actor: Actor, path: _Path) -> Q:
    """Whether the actor's key is not limited to other repositories. In a prepared query the limit is a Param."""
    limit: Any = actor.repositories
    pattern = Value(limits.regex(limit)) if isinstance(limit, str) else limit
    names = F(_step(path.project, "name")), Value("/"), F(_step(path.repository, "name"))
    reached = Q(Regex(Concat(*names, output_field=TextField()), pattern))
    return reached & Q(**{_step(path.repository, "pk__isnull"): False})


def _anyone(roles: Collection[Role], path: _Path) -> Q:
    return Q(**{_step(path.repository, "is_public"): True}) if Role.ANYONE in roles else _NOBODY


def _system(actor: Actor, roles: Collection[Role]) -> Q:
    return _EVERYBODY if Role.SYSTEM in roles and actor.is_system else _NOBODY


def _owner(actor: Actor, roles: Collection[Role], path: _Path) -> Q:
    if Role.OWNER not in roles:
        return _NOBODY
    owners = OrganizationMembership.objects.filter(user=actor.user_id, role=OrganizationRole.OWNER)
    return Q(Exists(owners.filter(organization=OuterRef(_step(path.project, "organization_id")))))


def _project_member(actor: Actor, roles: Collection[Role], path: _Path) -> Q:
    if not (wanted := [in_project for role, in_project in _IN_PROJECT.items() if role in roles]):
        return _NOBODY
    members = ProjectMembership.objects.filter(user=actor.user_id, role__in=wanted)
    return Q(Exists(members.filter(project=OuterRef(path.project or "pk"))))


def _grantee(actor: Actor, roles: Collection[Role], path: _Path) -> Q:
    if not (wanted := [permission for role, permission in _ON_REPOSITORY.items() if role in roles]):
        return _NOBODY
    grants = RepositoryUserPermission.objects.filter(user=actor.user_id, permission__codename__in=wanted)
    return Q(Exists(grants.filter(content_object=OuterRef(path.repository or "pk"))))
