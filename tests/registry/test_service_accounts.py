"""Service accounts: what they can never do, who may give them what, and how they end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.core import mail
from django.db import IntegrityError, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from accounts import guesses, keys, mails, organizations, passwords, tasks
from accounts.actors import SYSTEM, Actor
from accounts.errors import Refusal
from accounts.limits import ACTIONS, Limits
from accounts.models import (
    AccessKey,
    AuditEvent,
    Organization,
    OrganizationMembership,
    OrganizationRole,
    ProjectMembership,
    ProjectRole,
    RepositoryRole,
    User,
)
from console.queries import members as member_queries
from console.queries import organizations as organization_queries
from console.queries import repositories as repository_queries
from registry import access, members, repositories, service_accounts, undo
from registry.access import Action
from registry.errors import Denied
from registry.models import Event, Repository
from registry.oci.names import ImageName
from tests.support import PASSWORD
from tests.support.database import rolled_back
from tests.support.docker_client import DockerClient
from tests.support.personas import Persona, World

WEB = ImageName("demo", "web", "app")


@pytest.fixture
def acme(world):
    return Organization.objects.get(name="acme")


@pytest.fixture
def ci(world, project):
    """A service account of the project demo, a Project Member there."""
    account = service_accounts.create(SYSTEM, project, "ci", description="Builds", contacts=["admin@acme.test"])
    members.set_role(SYSTEM, project, account, ProjectRole.MEMBER)
    return account


def key_of(account: User, by: Actor = SYSTEM) -> Persona:
    new = service_accounts.make_key(by, account, "runner")
    return Persona(account, AccessKey.objects.select_related("user").get(pk=new.key.pk), new.secret)


# ── What it is ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_service_account_pulls_and_pushes_by_its_role_only(world, ci):
    actor = key_of(ci).actor
    assert actor.label == "ci@demo.project.invalid"
    assert access.allowed_actions(actor, WEB)[WEB].actions == {
        Action.PULL,
        Action.PUSH,
        Action.DELETE,
        Action.VIEW,
        Action.MANAGE,
    }
    assert not access.may(actor, Action.PULL, world.repository("secret"))


@pytest.mark.parametrize("name", ["", "-ci", "ci-", "Ci", "c i", "c_i", "x" * 41, "ci@demo", "ci\n"])
def test_bad_names_are_refused(project, name):
    with pytest.raises(Refusal, match="1 to 40 lower-case letters"):
        service_accounts.create(SYSTEM, project, name)


def test_project_and_organization_may_each_have_an_account_of_one_name(acme, project, ci):
    other = service_accounts.create(SYSTEM, acme, "ci")
    assert other.email == "ci@acme.organization.invalid"
    assert list(service_accounts.of(acme)) == [other]
    assert list(service_accounts.of(project)) == [ci]
    with pytest.raises(Refusal, match="already"):
        service_accounts.create(SYSTEM, project, "ci")


def test_contacts_are_people_of_the_organization(world, project, ci):
    assert [person.email for person in ci.contacts.all()] == ["admin@acme.test"]
    for address in ("outsider@other.test", ci.email, "nobody@acme.test"):
        with pytest.raises(Refusal, match="no member of acme"):
            service_accounts.update(SYSTEM, ci, description="", contacts=[address])
    assert service_accounts.update(world.admin.actor, ci, description="Ships", contacts=["owner@acme.test"])
    assert not service_accounts.update(world.admin.actor, ci, description="Ships", contacts=["owner@acme.test"])
    event = AuditEvent.objects.filter(action="service-account.update", organization__name="acme").get()
    assert event.detail["after"] == {"description": "Ships", "contacts": ["owner@acme.test"]}


def test_a_project_has_so_many_service_accounts_at_most(project, ci, monkeypatch):
    monkeypatch.setattr(service_accounts, "ACCOUNTS", 2)
    service_accounts.create(SYSTEM, project, "second")
    with pytest.raises(Refusal, match="2 service accounts already"):
        service_accounts.create(SYSTEM, project, "third")


# ── What it never is ─────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    "change",
    [
        {"password": "argon2$something"},
        {"is_superuser": True},
        {"organization": None},
        {"email": "ci@acme.test"},
        {"kind": "person"},
    ],
    ids=str,
)
def test_database_keeps_service_accounts_apart_from_people(ci, change):
    with pytest.raises(IntegrityError, match="person_or_service_account"), transaction.atomic():
        User.objects.filter(pk=ci.pk).update(**change)


def test_service_account_cannot_sign_in(world, ci, client):
    with pytest.raises(guesses.WrongCredentials):
        passwords.authenticate(ci.email, PASSWORD, address="127.0.0.1")
    client.post("/sign-in", {"email": ci.email, "password": PASSWORD})
    assert "_auth_user_id" not in client.session
    assert not tasks.send_password_link(ci.email)
    assert mail.outbox == []
    with pytest.raises(Refusal, match="cannot sign in"):
        organizations.set_operator(SYSTEM, ci, is_operator=True)


def test_service_account_is_never_a_member_or_owner(acme, ci):
    for role in OrganizationRole:
        with pytest.raises(Refusal, match="invalid"):
            organizations.add_user(acme, ci.email, role=role)
        with pytest.raises(Refusal, match="invalid"):
            organizations.invite(SYSTEM, acme, ci.email, role)
        assert members.set_organization_role(SYSTEM, acme, ci, role) is None
    assert not OrganizationMembership.objects.filter(user=ci).exists()


def test_lists_of_people_leave_it_out_and_lists_of_roles_show_it(world, acme, project, web, ci, rf):
    deployer = service_accounts.create(SYSTEM, project, "deployer")
    repositories.set_role(SYSTEM, web, deployer, RepositoryRole.MEMBER)
    members.set_role(SYSTEM, project, ci, ProjectRole.ADMIN)
    wanted = rf.get("/", {"q": "invalid"}).GET
    assert [row.user for row in member_queries.project_members(project, wanted)["listing"].rows] == [ci]
    assert repository_queries.repository_permissions(web, wanted)["listing"].rows == [deployer]
    assert member_queries.candidates(project)[-1] == deployer.email
    assert organization_queries.organization(acme, wanted)["listing"].rows == []
    assert member_queries.administrators(project) == ["admin@acme.test"]
    assert members.find_person(acme, ci.email) is None


def test_it_gets_no_mail_itself(world, ci, mailoutbox):
    key = key_of(ci).key
    AccessKey.objects.filter(pk=key.pk).update(expires_at=key.created_at + timedelta(hours=12))
    assert not tasks.tell_of_revoked_key(key.pk, "admin@acme.test")
    assert tasks.warn_of_expiry() == 1
    assert [sent.to for sent in mailoutbox] == [["admin@acme.test"]]


# ── Mails to its contacts ────────────────────────────────────────────────────────────────────────────────────────────
def test_contacts_are_warned_14_3_and_1_days_before_a_key_ends(world, project, ci, mailoutbox):
    service_accounts.update(SYSTEM, ci, description="", contacts=["admin@acme.test", "owner@acme.test"])
    key = key_of(ci).key
    for days, number in ((15, 0), (13, 2), (12, 0), (4, 0), (2.5, 2), (2, 0), (0.5, 2), (0.4, 0)):
        AccessKey.objects.filter(pk=key.pk).update(expires_at=timezone.now() + timedelta(days=days))
        assert tasks.warn_of_expiry() == number, days
    first = mailoutbox[0]
    assert first.subject == "The access key “runner” of ci@demo.project.invalid expires soon"
    assert key.identifier in first.body
    assert "/projects/demo/service-accounts/ci" in first.body


def test_key_that_is_made_late_is_warned_of_once(world, ci, mailoutbox):
    key = key_of(ci).key
    AccessKey.objects.filter(pk=key.pk).update(expires_at=timezone.now() + timedelta(hours=3))
    assert [tasks.warn_of_expiry(), tasks.warn_of_expiry()] == [1, 0]


def test_without_contacts_the_admins_or_the_owners_are_warned(world, acme, project, ci):
    service_accounts.update(SYSTEM, ci, description="", contacts=["stranger@acme.test"])
    assert tasks.contacts_of(ci) == [world.stranger.user]
    members.set_organization_role(SYSTEM, acme, world.stranger.user, None)
    assert tasks.contacts_of(ci) == [world.admin.user]
    organizations.deactivate(SYSTEM, world.admin.user)
    assert tasks.contacts_of(ci) == [world.owner.user]
    assert tasks.contacts_of(service_accounts.create(SYSTEM, acme, "mirror")) == [world.owner.user]


def test_contacts_are_told_again_when_the_mail_server_was_away(world, ci, mailoutbox, monkeypatch):
    key = key_of(ci).key
    AccessKey.objects.filter(pk=key.pk).update(expires_at=timezone.now() + timedelta(days=2))

    def fail(*_args: object) -> None:
        raise OSError

    with monkeypatch.context() as away:
        away.setattr(mails, "send_expiry_warning", fail)
        assert tasks.warn_of_expiry() == 0
    assert [tasks.warn_of_expiry(), tasks.warn_of_expiry()] == [1, 0]


# ── Disabled, deleted, restored ──────────────────────────────────────────────────────────────────────────────────────
def test_disabled_account_is_refused_until_it_is_enabled(world, ci):
    client = DockerClient(key_of(ci))
    client.push("web/app", "1.0")
    assert service_accounts.set_active(world.admin.actor, ci, is_active=False)
    assert not service_accounts.set_active(world.admin.actor, ci, is_active=False)
    assert client.raw("GET", "/v2/web/app/manifests/1.0", headers=client.basic()).status == 401
    assert service_accounts.set_active(world.admin.actor, ci, is_active=True)
    client.get("web/app/manifests/1.0", 200)
    actions = AuditEvent.objects.filter(person=ci, organization__name="acme").values_list("action", flat=True)
    assert {"user.deactivate", "user.activate"} <= set(actions)


def test_restored_account_has_its_roles_contacts_and_keys_again(world, project, web, ci):
    repositories.set_role(SYSTEM, web, service_accounts.create(SYSTEM, project, "viewer"), RepositoryRole.VIEWER)
    persona = key_of(ci)
    client = DockerClient(persona)
    client.push("web/app", "1.0")
    service_accounts.delete(world.admin.actor, ci)
    assert client.raw("GET", "/v2/web/app/manifests/1.0", headers=client.basic()).status == 401
    ci.refresh_from_db()
    result = undo.restore_service_account(world.admin.actor, ci)
    assert [str(step.problem or "") for step in result.skipped] == []
    client.push("web/app", "2.0")
    ci.refresh_from_db()
    assert (ci.is_active, ci.deleted_at) == (True, None)
    assert [person.email for person in ci.contacts.all()] == ["admin@acme.test"]
    assert members.role_of(project, ci) == ProjectRole.MEMBER


def test_disabled_account_is_restored_disabled(world, ci):
    service_accounts.set_active(SYSTEM, ci, is_active=False)
    service_accounts.delete(world.admin.actor, ci)
    undo.restore_service_account(world.admin.actor, User.objects.get(pk=ci.pk))
    assert not User.objects.get(pk=ci.pk).is_active


def test_account_is_restored_by_the_person_who_deleted_it_within_ten_minutes(world, ci):
    service_accounts.delete(world.admin.actor, ci)
    deleted = User.objects.get(pk=ci.pk)
    with pytest.raises(Refusal, match="by the person who deleted it"):
        undo.restore_service_account(world.owner.actor, deleted)
    User.objects.filter(pk=ci.pk).update(deleted_at=timezone.now() - keys.RESTORE_TIME)
    deleted.refresh_from_db()
    assert not service_accounts.may_restore(world.admin.actor, deleted)
    with pytest.raises(Refusal, match="for 10 minutes"):
        undo.restore_service_account(world.admin.actor, deleted)


def test_restored_account_gets_no_role_that_its_restorer_lost(world, project, ci):
    service_accounts.delete(world.admin.actor, ci)
    members.set_role(SYSTEM, project, world.admin.user, ProjectRole.READER)
    result = undo.restore_service_account(world.admin.actor, User.objects.get(pk=ci.pk))
    assert [bool(step.problem) for step in result.skipped] == [True]
    assert members.role_of(project, ci) is None


def test_account_is_made_with_a_role_that_its_maker_holds(world, project):
    made = service_accounts.create(world.admin.actor, project, "ci", role=ProjectRole.ADMIN)
    assert members.role_of(project, made) == ProjectRole.ADMIN
    with pytest.raises(Denied, match="cannot give the role"):
        service_accounts.create(world.member.actor, project, "other", role=ProjectRole.ADMIN)
    assert not User.objects.filter(name="other").exists()


# ── Who gives what ───────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("giver", "role", "is_given"),
    [
        ("owner", ProjectRole.ADMIN, True),
        ("admin", ProjectRole.ADMIN, True),
        ("member", ProjectRole.ADMIN, False),
        ("member", ProjectRole.MEMBER, True),
        ("reader", ProjectRole.READER, True),
        ("reader", ProjectRole.MEMBER, False),
        ("pusher", ProjectRole.READER, False),
        ("stranger", ProjectRole.READER, False),
        ("outsider", ProjectRole.READER, False),
    ],
)
def test_role_in_a_project_is_given_by_those_who_hold_it(world, project, giver, role, is_given):
    account = service_accounts.create(SYSTEM, project, "ci")
    actor = world.people[giver].actor
    if is_given:
        assert members.set_role(actor, project, account, role)
    else:
        with pytest.raises(Denied, match="cannot give the role"):
            members.set_role(actor, project, account, role)
    assert members.role_of(project, account) == (role if is_given else None)


def test_account_of_a_project_has_roles_there_only(world, ci):
    for give in (
        lambda: members.set_role(SYSTEM, world.projects["lab"], ci, ProjectRole.READER),
        lambda: repositories.set_role(SYSTEM, world.repository("secret"), ci, RepositoryRole.VIEWER),
    ):
        with pytest.raises(Denied, match="its own project only"):
            give()


def test_account_of_an_organization_has_roles_in_its_projects(world, acme):
    account = service_accounts.create(SYSTEM, acme, "ci")
    assert members.set_role(world.owner.actor, world.projects["demo"], account, ProjectRole.MEMBER)
    assert members.set_role(world.owner.actor, world.projects["lab"], account, ProjectRole.READER)
    with pytest.raises(Denied, match="not in the organization"):
        members.set_role(world.outsider.actor, world.projects["rival"], account, ProjectRole.MEMBER)


def test_people_get_no_key_of_an_account_that_may_do_more_than_they(world, project, ci):
    assert service_accounts.make_key(world.member.actor, ci, "runner")
    for name in ("reader", "pusher", "stranger", "outsider"):
        with pytest.raises(Denied, match="may not do all"):
            service_accounts.make_key(world.people[name].actor, ci, "runner")
    with pytest.raises(Denied, match="may not do all"):
        service_accounts.make_key(replace(world.member.actor, actions=frozenset({"pull"})), ci, "runner")
    members.set_role(world.owner.actor, project, ci, ProjectRole.ADMIN)
    with pytest.raises(Denied, match="may not do all"):
        service_accounts.make_key(world.member.actor, ci, "runner")


def test_people_rotate_no_key_of_an_account_that_may_do_more_than_they(world, ci):
    key = key_of(ci).key
    assert service_accounts.rotate(world.member.actor, key, former_ends_in=timedelta(0)).secret
    with pytest.raises(Denied, match="may not do all"):
        service_accounts.rotate(world.reader.actor, key, former_ends_in=timedelta(0))


REPOSITORIES = ("web", "public", "fixed", "secret")
in_project = st.none() | st.sampled_from(list(ProjectRole))
on_repository = st.none() | st.sampled_from(list(RepositoryRole))


def with_pull(actions: frozenset[str] | None) -> frozenset[str] | None:
    """Everybody may pull public images, so a maker who may not is no measure."""
    return None if actions is None else actions | {"pull"}


limited_actions = st.none() | st.frozensets(st.sampled_from(ACTIONS), min_size=1)


@hypothesis_settings(max_examples=60, database=None)
@given(data=st.data())
def test_key_of_a_service_account_never_does_more_than_its_maker(world, data):
    """A person with any roles gives any roles, and makes any key: allowed(key) ⊆ allowed(account) ⊆ allowed(maker)."""
    with rolled_back():
        maker, acme = world.stranger, Organization.objects.get(name="acme")
        give(world, SYSTEM, maker.user, data, "maker")
        if data.draw(st.booleans(), "maker is an owner"):
            members.set_organization_role(SYSTEM, acme, maker.user, OrganizationRole.OWNER)
        limited = replace(maker.actor, actions=data.draw(limited_actions.map(with_pull), "actions of the maker's key"))
        owner = data.draw(st.sampled_from([acme, world.projects["demo"]]), "owner")
        account = service_accounts.create(limited, owner, "ci")
        give(world, limited, account, data, "account")
        project = data.draw(
            st.sampled_from([None, world.projects["demo"], world.projects["lab"]]), "project of the key"
        )
        actions = data.draw(limited_actions, "actions of the key") or ACTIONS
        names = data.draw(st.sampled_from(["", "demo/*", "demo/web lab/s*"]), "repositories of the key")
        new = service_accounts.make_key(limited, account, "runner", project=project, only=Limits(actions, names))
        key = keys.actor(AccessKey.objects.select_related("user").get(pk=new.key.pk))
        of_account = Actor(user_id=account.pk, label=account.email)
        for action in Action:
            found = [
                set(access.permitted(Repository.objects.all(), actor, action).values_list("name", flat=True))
                for actor in (key, of_account, limited)
            ]
            assert found[0] <= found[1] <= found[2], action
            for name in ("demo", "lab"):
                may = [access.may(actor, action, world.projects[name]) for actor in (key, of_account, limited)]
                assert may[0] <= may[1] <= may[2], (action, name)


def give(world: World, giver: Actor, user: User, data: st.DataObject, whose: str) -> None:
    """Try to give the user drawn roles; those that are refused are not held."""
    for name in ("demo", "lab"):
        role = data.draw(in_project, f"{whose} in {name}")
        attempt(members.set_role, giver, world.projects[name], user, role)
    for name in REPOSITORIES:
        granted = data.draw(on_repository, f"{whose} on {name}")
        attempt(repositories.set_role, giver, world.repository(name), user, granted)


def attempt(change, *arguments) -> None:
    try:
        with transaction.atomic():
            change(*arguments)
    except Denied:
        pass


# ── How it ends ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_deleted_account_is_refused_at_the_next_request(world, project, ci):
    persona = key_of(ci)
    docker = DockerClient(persona)
    docker.push("web/app", "1.0")
    path, token = "/v2/web/app/manifests/1.0", docker.token("repository:web/app:pull")
    bearer = {"Authorization": f"Bearer {token}"}
    assert docker.raw("GET", path, headers=bearer).status == 200
    service_accounts.delete(world.admin.actor, ci)
    assert docker.raw("GET", path, headers=bearer).status == 401
    docker.token("repository:web/app:pull", 401)
    with pytest.raises(guesses.WrongCredentials, match="revoked"):
        keys.authenticate(persona.key.identifier, persona.secret, address="127.0.0.1", client="")
    assert not ProjectMembership.objects.filter(user=ci).exists()
    assert list(service_accounts.of(project)) == []
    with pytest.raises(Refusal, match="deleted"):
        service_accounts.delete(SYSTEM, ci)
    with pytest.raises(Refusal, match="deleted"):
        service_accounts.make_key(SYSTEM, ci, "again")


def test_what_a_deleted_account_did_is_named_and_can_be_undone(world, project, ci):
    docker = DockerClient(key_of(ci))
    docker.push("web/app", "1.0")
    service_accounts.delete(world.admin.actor, ci)
    acts = undo.acts(project, ci.created_at, user_id=ci.pk)
    assert {event.actor for event in acts} == {"ci@demo.project.invalid"}
    result = undo.undo(world.admin.actor, acts)
    assert [step.problem for step in result.skipped] == []
    docker_of_admin = DockerClient(world.admin)
    docker_of_admin.get("web/app/manifests/1.0", 404)


def test_deletion_is_in_the_log_with_the_roles_that_ended(world, project, ci):
    service_accounts.delete(world.admin.actor, ci)
    event = AuditEvent.objects.get(action="service-account.delete", organization__name="acme")
    assert (event.subject, event.actor) == ("ci@demo.project.invalid", "admin@acme.test")
    ended = Event.objects.get(pk__in=event.detail["ended"])
    assert (ended.detail["user"], ended.detail["before"], ended.detail["after"]) == (ci.email, "member", "")


def test_account_of_a_deleted_name_is_the_same_one_without_roles_and_keys(world, project, ci):
    former = key_of(ci)
    service_accounts.delete(world.admin.actor, ci)
    again = service_accounts.create(world.admin.actor, project, "ci", description="Builds again")
    assert (again.pk, again.description, list(again.contacts.all())) == (ci.pk, "Builds again", [])
    assert members.role_of(project, again) is None
    with pytest.raises(guesses.WrongCredentials, match="revoked"):
        keys.authenticate(former.key.identifier, former.secret, address="127.0.0.1", client="")


def test_account_has_fifty_living_keys_at_most(ci, monkeypatch):
    monkeypatch.setattr(keys, "KEYS_PER_SERVICE_ACCOUNT", 12)
    for number in range(12):
        service_accounts.make_key(SYSTEM, ci, f"runner {number}")
    with pytest.raises(Refusal, match="12 access keys already"):
        service_accounts.make_key(SYSTEM, ci, "one more")


def test_admins_of_the_project_see_and_revoke_its_keys(world, acme, project, ci):
    key = key_of(ci).key
    assert key in members.keys_in_project(project)
    assert key in members.keys_in_organization(acme)
    assert members.revoke_key(world.admin.actor, project, key)
