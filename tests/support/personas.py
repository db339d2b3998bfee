"""The people of the tests and their roles. Use ``world.viewer`` for a user with pull permission.

organization acme
  project demo     repositories web (private), public (public), fixed (private, no tag overwrite)
                   owner (organization), admin, member, reader (project)
                   pusher (Repository Member of web), viewer (Repository Viewer of web)
                   stranger (same organization, no role)
  project lab      repository secret (private); of the people above only the owner has a role there
organization other, project rival, repository rivals (private)
                   outsider (member of project rival)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from accounts import keys, organizations
from accounts.actors import SYSTEM, Actor
from accounts.limits import Limits
from accounts.models import AccessKey, Organization, OrganizationRole, Project, ProjectRole, RepositoryRole, User
from registry import members, projects, repositories

if TYPE_CHECKING:
    from registry.models import Repository


@dataclass
class Persona:
    """A person with an access key. ``actor`` is used by permission checks; ``tokens`` are cached tokens by host."""

    user: User
    key: AccessKey
    secret: str
    tokens: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def actor(self) -> Actor:
        """The actor of a Basic login with the key."""
        return keys.actor(self.key)


@dataclass
class World:
    """The rows of the table above."""

    people: dict[str, Persona] = field(default_factory=dict)
    repositories: dict[str, Repository] = field(default_factory=dict)
    projects: dict[str, Project] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Persona:
        """``world.viewer``"""
        people: dict[str, Persona] = self.__dict__.get("people", {})
        if name not in people:
            raise AttributeError(name)
        return people[name]

    def repository(self, name: str) -> Repository:
        """Return the repository called ``name`` (names are unique in this world)."""
        return self.repositories[name]


def make_key(user: User, name: str = "tests", **limits: object) -> Persona:
    """Create another key of a person. ``limits``: those of ``Limits``, and further arguments of ``keys.create``."""
    only = Limits(**{field: limits.pop(field) for field in ("actions", "repositories", "networks") if field in limits})  # type: ignore[arg-type]
    new = keys.create(user, name, only=only, **limits)  # type: ignore[arg-type]
    return Persona(user, new.key, new.secret)


def make_world() -> World:
    """Create organizations, projects, repositories and people."""
    world = World()
    acme, _ = organizations.create_organization("acme")
    other, _ = organizations.create_organization("other")
    for organization, name in ((acme, "demo"), (acme, "lab"), (other, "rival")):
        world.projects[name], _ = projects.create(SYSTEM, organization, name)
    demo, lab, rival = (world.projects[name] for name in ("demo", "lab", "rival"))
    made = world.repositories
    made["web"], _ = repositories.create(SYSTEM, demo, "web")
    made["public"], _ = repositories.create(SYSTEM, demo, "public", is_public=True)
    made["fixed"], _ = repositories.create(SYSTEM, demo, "fixed", tag_overwrite=False)
    made["secret"], _ = repositories.create(SYSTEM, lab, "secret")
    made["rivals"], _ = repositories.create(SYSTEM, rival, "rivals")
    _add(world, acme, "owner", OrganizationRole.OWNER)
    for role in ProjectRole:
        members.set_role(SYSTEM, world.projects["demo"], _add(world, acme, role.value), role)
    repositories.set_role(SYSTEM, world.repository("web"), _add(world, acme, "pusher"), RepositoryRole.MEMBER)
    repositories.set_role(SYSTEM, world.repository("web"), _add(world, acme, "viewer"), RepositoryRole.VIEWER)
    _add(world, acme, "stranger")
    members.set_role(SYSTEM, world.projects["rival"], _add(world, other, "outsider"), ProjectRole.MEMBER)
    return world


def _add(world: World, organization: Organization, name: str, role: OrganizationRole | None = None) -> User:
    user, _ = organizations.add_user(organization, f"{name}@{organization.name}.test", role=role)
    world.people[name] = make_key(user)
    return user
