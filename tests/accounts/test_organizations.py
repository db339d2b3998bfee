"""Organizations, projects and users: repeatable creation, and refusals with a reason."""

from __future__ import annotations

import pytest
from django.db import IntegrityError, transaction

from accounts import organizations
from accounts.actors import SYSTEM
from accounts.errors import Refusal
from accounts.models import (
    Organization,
    OrganizationMembership,
    OrganizationRole,
    Project,
    ProjectMembership,
    ProjectRole,
    RepositoryRole,
    User,
)
from registry import errors, members, projects, repositories
from registry.models import Event, RepositoryUserPermission
from tests.support import PASSWORD


@pytest.mark.parametrize("name", ["a", "", "x" * 65, "a b", "acme!", "ácme", "a/b", "--", "acme\n", "__"])
def test_invalid_organization_names_are_refused(db, name):
    with pytest.raises(Refusal, match="2 to 64 letters"):
        organizations.create_organization(name)


@pytest.mark.parametrize("name", ["ab", "Acme", "acme-2", "a_b", "x" * 64, "42"])
def test_organization_is_created_once(db, name):
    first, created = organizations.create_organization(name, "Acme Inc.")
    again, created_again = organizations.create_organization(name, "Another name")
    assert (created, created_again) == (True, False)
    assert (first.pk, again.display_name, str(again)) == (again.pk, "Another name", "Another name")
    assert organizations.find_organization(name) == first


def test_project_is_created_once_and_its_id_is_unique_in_the_installation(world):
    acme, other = Organization.objects.get(name="acme"), Organization.objects.get(name="other")
    project, created = projects.create(SYSTEM, acme, "shop", display_name="The shop")
    again, created_again = projects.create(SYSTEM, acme, "shop", display_name="Another")
    assert (created, created_again, again.pk, again.display_name) == (True, False, project.pk, "The shop")
    with pytest.raises(Refusal, match="is taken"):
        projects.create(SYSTEM, other, "shop")
    assert Project.objects.get(name="shop").organization == acme


def test_missing_organizations_projects_and_users_are_refused_with_a_reason(db):
    with pytest.raises(Refusal, match="createorganization nothing"):
        organizations.find_organization("nothing")
    with pytest.raises(Refusal, match="there is no project nothing"):
        organizations.find_project("nothing")
    with pytest.raises(Refusal, match=r"adduser nobody@acme\.test"):
        organizations.find_user("nobody@acme.test")


def test_spellings_of_an_address_are_one_user(world):
    acme = Organization.objects.get(name="acme")
    user, created = organizations.add_user(acme, "Mina@Acme.test", name="Mina")
    again, created_again = organizations.add_user(acme, "mina@acme.TEST", name="Somebody else")
    assert (created, created_again) == (True, False)
    assert (user.pk, again.email, again.name) == (again.pk, "mina@acme.test", "Mina")
    assert organizations.find_user("MINA@acme.test") == user


def test_user_created_without_a_password_has_no_usable_password(world):
    user, _ = organizations.add_user(Organization.objects.get(name="acme"), "mina@acme.test")
    assert not user.has_usable_password()
    assert not user.check_password("")


def test_existing_user_keeps_the_password(world):
    acme = Organization.objects.get(name="acme")
    organizations.add_user(acme, "mina@acme.test", password=PASSWORD)
    organizations.add_user(acme, "mina@acme.test", password="another good password")
    assert User.objects.get(email="mina@acme.test").check_password(PASSWORD)


@pytest.mark.parametrize(
    "email", ["", "mina", "mina@", "@acme.test", "mina@acme", "mina acme@acme.test", "a@b.test\n", "a\0@b.test"]
)
def test_invalid_addresses_are_refused(world, email):
    with pytest.raises(Refusal, match=r"(?i)valid email"):
        organizations.add_user(Organization.objects.get(name="acme"), email)


@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("short", "too short"),
        ("password123", "too common"),
        ("4715926350", "entirely numeric"),
        ("mina@acme.test", "too similar"),
        ("", "too short"),
    ],
)
def test_user_with_a_weak_password_is_not_created(world, password, words):
    with pytest.raises(Refusal, match=words):
        organizations.add_user(Organization.objects.get(name="acme"), "mina@acme.test", password=password)
    assert not User.objects.filter(email="mina@acme.test").exists()


def test_adding_a_member_again_changes_no_role(world):
    acme = Organization.objects.get(name="acme")

    def role() -> str:
        return OrganizationMembership.objects.get(user=world.stranger.user).role

    assert role() == OrganizationRole.MEMBER
    for wanted in (OrganizationRole.OWNER, None, OrganizationRole.MEMBER):
        organizations.add_user(acme, "stranger@acme.test", role=wanted)
        assert role() == OrganizationRole.MEMBER


def test_one_person_may_belong_to_two_organizations(world):
    """A role in one organization gives no permission in the other."""
    other = Organization.objects.get(name="other")
    user, created = organizations.add_user(other, "stranger@acme.test", role=OrganizationRole.OWNER)
    assert not created
    assert organizations.belongs(user, other)
    assert organizations.belongs(user, Organization.objects.get(name="acme"))
    assert not organizations.belongs(world.outsider.user, Organization.objects.get(name="acme"))


# ── Roles in projects ────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_person_has_one_role_in_a_project(world):
    demo, user = world.projects["demo"], world.stranger.user
    for role in (ProjectRole.READER, ProjectRole.ADMIN, ProjectRole.MEMBER, ProjectRole.MEMBER):
        members.set_role(SYSTEM, demo, user, role)
        assert ProjectMembership.objects.get(project=demo, user=user).role == role
    members.set_role(SYSTEM, demo, user, None)
    members.set_role(SYSTEM, demo, user, None)
    assert not ProjectMembership.objects.filter(project=demo, user=user).exists()
    with pytest.raises(IntegrityError), transaction.atomic():
        ProjectMembership.objects.bulk_create([ProjectMembership(project=demo, user=user, role="admin")] * 2)


def test_outsiders_get_no_role_in_a_project(world):
    with pytest.raises(errors.Denied, match=r"outsider@other\.test is not in the organization acme"):
        members.set_role(SYSTEM, world.projects["demo"], world.outsider.user, ProjectRole.READER)


# ── Roles on single repositories ─────────────────────────────────────────────────────────────────────────────────────
def test_user_has_one_role_on_a_repository(world):
    web, user = world.repository("web"), world.stranger.user
    assert repositories.role_of(web, user) is None
    for role in (RepositoryRole.VIEWER, RepositoryRole.MEMBER, RepositoryRole.VIEWER):
        assert repositories.set_role(SYSTEM, web, user, role)
        assert repositories.role_of(web, user) == role
        assert not repositories.set_role(SYSTEM, web, user, role)
    assert repositories.set_role(SYSTEM, web, user, None)
    assert not repositories.set_role(SYSTEM, web, user, None)
    assert repositories.role_of(web, user) is None
    assert not RepositoryUserPermission.objects.filter(user=user).exists()


def test_a_change_of_role_is_in_the_history(world):
    repositories.set_role(world.admin.actor, world.repository("web"), world.viewer.user, RepositoryRole.MEMBER)
    event = Event.objects.latest("pk")
    assert (event.action, event.path, event.actor) == ("repository.role", "demo/web", "admin@acme.test")
    assert event.detail == {"user": "viewer@acme.test", "before": "viewer", "after": "member"}


@pytest.mark.parametrize("name", ["admin", "member", "reader"])
def test_role_on_a_repository_is_refused_when_the_project_role_gives_more(world, name):
    with pytest.raises(errors.Denied, match="change the role in the project instead"):
        repositories.set_role(SYSTEM, world.repository("web"), world.people[name].user, RepositoryRole.MEMBER)


def test_user_of_another_organization_gets_no_role(world):
    with pytest.raises(errors.Denied, match="is not in the organization acme"):
        repositories.set_role(SYSTEM, world.repository("web"), world.outsider.user, RepositoryRole.VIEWER)


def test_roles_are_deleted_with_the_repository_and_with_the_user(world):
    repositories.set_role(SYSTEM, world.repository("fixed"), world.stranger.user, RepositoryRole.MEMBER)
    Event.objects.filter(repository=world.repository("fixed")).delete()
    world.repository("fixed").delete()
    assert not RepositoryUserPermission.objects.filter(user=world.stranger.user).exists()
    world.viewer.user.delete()
    assert not RepositoryUserPermission.objects.filter(user_id=world.viewer.user.pk).exists()


def test_a_role_in_the_project_ends_the_roles_on_its_repositories(world):
    web, user = world.repository("web"), world.pusher.user
    assert members.set_role(SYSTEM, world.projects["demo"], user, ProjectRole.READER)
    assert repositories.role_of(web, user) is None
    assert members.set_role(SYSTEM, world.projects["demo"], user, None)
    assert repositories.role_of(web, user) is None
