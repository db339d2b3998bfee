"""Management commands: JSON on standard output, repeatable, refusals with a reason."""

from __future__ import annotations

import io
import json
import re
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.core import mail
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import CommandError
from django.utils import timezone

from accounts import keys, passwords, tokens
from accounts import tasks as account_tasks
from accounts.models import (
    AccessKey,
    AuditEvent,
    Organization,
    OrganizationMembership,
    Project,
    ProjectMembership,
    SigningKey,
    User,
)
from registry.management.commands.quickstart import Command as Quickstart
from registry.models import Event, Repository, RepositoryUserPermission
from tests.support import PASSWORD
from tests.support.docker_client import BARE_HOST, PROJECT_HOST, DockerClient
from tests.support.personas import Persona, make_key
from tests.support.programs import environment_for

SOURCE = Path(__file__).resolve().parents[2]
JSON_COMMANDS = {
    *("createorganization", "createproject", "adduser", "createrepository", "grant", "revoke", "createaccesskey"),
    *(
        "rotatesigningkey",
        "setquota",
        "setorganizationquota",
        "deactivateuser",
        "activateuser",
        "revokeaccesskey",
        "setoperator",
    ),
}
OTHERS = {
    *("collectgarbage", "copydatabase", "copystorage", "createbucket", "doctor", "quickstart", "serve"),
    "verifystorage",
}


def run(*arguments: str) -> dict[str, object]:
    """Run a command. Return the one JSON object that it prints."""
    output, errors = io.StringIO(), io.StringIO()
    call_command(*arguments, stdout=output, stderr=errors)
    assert errors.getvalue() == ""
    (line,) = output.getvalue().splitlines()
    document = json.loads(line)
    assert isinstance(document, dict)
    return document


def everything() -> dict[str, list[object]]:
    """Return all rows that a refused command must not change."""
    models = (
        *(Organization, Project, User, OrganizationMembership, ProjectMembership, AccessKey, SigningKey),
        *(Repository, RepositoryUserPermission, Event),
    )
    return {model.__name__: list(model.objects.order_by("pk").values()) for model in models}


# ── Effects ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_commands_of_the_first_push_can_be_repeated(db, monkeypatch):
    """Run the commands of docs/guide/first-push.md twice. The second time changes nothing."""
    identifiers = set()
    for created in (True, False):
        assert run("createorganization", "mill", "--display-name", "The Mill") == {
            "organization": "mill",
            "created": created,
        }
        assert run("createproject", "mill", "shop") == {
            "project": "shop",
            "created": created,
            "host": "shop.kr-central-2.kcr.localhost:8080",
        }
        assert run("adduser", "Mina@mill.test", "--organization", "mill", "--project", "shop:member") == {
            "user": "mina@mill.test",
            "created": created,
        }
        assert run("adduser", "omar@mill.test", "--organization", "mill") == {
            "user": "omar@mill.test",
            "created": created,
        }
        assert run("createrepository", "shop/web", "--no-tag-overwrite", "--scan", "manual") == {
            "repository": "shop/web",
            "created": created,
            "public": False,
            "tag_overwrite": False,
            "scan": "manual",
        }
        assert run("grant", "shop/web", "omar@mill.test", "viewer") == {
            "repository": "shop/web",
            "user": "omar@mill.test",
            "role": "viewer",
            "changed": created,
        }
        made = run("createaccesskey", "mina@mill.test", "--name", "laptop")
        assert made.keys() == {"id", "secret"}
        assert made["secret"].startswith(keys.SECRET_PREFIX)
        identifiers.add(made["id"])
    assert len(identifiers) == 2
    assert Event.objects.filter(path="shop/web").count() == 2
    push = DockerClient(
        Persona(User.objects.get(email="mina@mill.test"), AccessKey(identifier=made["id"]), made["secret"]), BARE_HOST
    )
    image = push.push("shop/web/app", "1.0")
    other = run("createaccesskey", "omar@mill.test")
    pull = DockerClient(
        Persona(User.objects.get(email="omar@mill.test"), AccessKey(identifier=other["id"]), other["secret"]), BARE_HOST
    )
    assert pull.pull("shop/web/app", "1.0")[0] == image.manifest
    for changed in (True, False):
        assert run("revoke", "shop/web", "omar@mill.test") == {
            "repository": "shop/web",
            "user": "omar@mill.test",
            "role": None,
            "changed": changed,
        }
    pull.get("shop/web/app/tags/list", 404)


def logged_in(tmp_path: Path, *arguments: str) -> tuple[str, str]:
    """Run the printed line of createaccesskey with sh. Return the arguments and the input of docker."""
    docker = tmp_path / "docker"
    docker.write_text('#!/bin/sh\necho "$@" >arguments\ncat >secret\n')
    docker.chmod(0o700)
    output = io.StringIO()
    call_command("createaccesskey", *arguments, "--docker-login", stdout=output)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["sh"], input=output.getvalue(), env=environment, cwd=tmp_path, check=True, text=True, timeout=240)
    return (tmp_path / "arguments").read_text().strip(), (tmp_path / "secret").read_text()


def test_printed_login_keeps_the_secret_out_of_the_process_list(world, tmp_path):
    said, secret = logged_in(tmp_path, "stranger@acme.test")
    key = AccessKey.objects.latest("pk")
    assert said == f"login {BARE_HOST} --username {key.identifier} --password-stdin"
    assert keys.authenticate(key.identifier, secret, address="192.0.2.1", client="docker").key == key


def test_printed_login_uses_the_project_host_without_a_bare_host(world, tmp_path, settings):
    settings.BARE_HOST_NAMES = False
    said, _secret = logged_in(tmp_path, "stranger@acme.test", "--project", "demo")
    assert said.startswith(f"login {PROJECT_HOST} --username KCRK")
    before = AccessKey.objects.count()
    with pytest.raises(CommandError, match="give --project"):
        call_command("createaccesskey", "stranger@acme.test", "--docker-login", stdout=io.StringIO())
    assert AccessKey.objects.count() == before


def test_existing_repository_is_not_changed(world):
    for options in ((), ("--no-tag-overwrite", "--scan", "auto")):
        assert run("createrepository", "demo/fixed", *options) == {
            "repository": "demo/fixed",
            "created": False,
            "public": False,
            "tag_overwrite": False,
            "scan": "auto",
        }


@pytest.mark.parametrize(
    ("path", "options", "named"),
    [
        ("demo/fixed", ("--public", "--description", "other"), "--description, --public"),
        ("demo/web", ("--no-tag-overwrite", "--scan", "auto"), "--no-tag-overwrite"),
        ("demo/web", ("--scan", "manual"), "--scan"),
    ],
)
def test_other_settings_for_an_existing_repository_are_refused(world, path, options, named):
    before = everything()
    with pytest.raises(CommandError, match=rf"{path} exists with other settings \({named}\)"):
        run("createrepository", path, *options)
    assert everything() == before


def test_display_name_is_set_on_existing_objects(world):
    for name in ("Acme", "Acme Mills"):
        assert run("createorganization", "acme", "--display-name", name) == {"organization": "acme", "created": False}
        assert not run("createproject", "acme", "demo", "--display-name", f"{name} demo")["created"]
        assert Organization.objects.get(name="acme").display_name == name
        assert Project.objects.get(name="demo").display_name == f"{name} demo"
    run("createorganization", "acme")
    run("createproject", "acme", "demo")
    assert Organization.objects.get(name="acme").display_name == "Acme Mills"
    assert Project.objects.get(name="demo").display_name == "Acme Mills demo"
    assert Event.objects.filter(action="project.update", actor="manage.py createproject").count() == 2


def test_options_of_a_new_repository(world):
    run("createrepository", "demo/new", "--public", "--description", "The new one")
    repository = Repository.objects.get(name="new")
    assert (repository.is_public, repository.tag_overwrite, repository.auto_scan) == (True, True, True)
    assert repository.description == "The new one"
    event = Event.objects.latest("pk")
    assert (event.action, event.path, event.actor) == ("repository.create", "demo/new", "manage.py createrepository")


def test_projects_and_their_quotas_have_a_history(world):
    run("createproject", "acme", "shop")
    quotas = {"project": "shop", "repositories": 1_000, "images": 5, "tags": 1_000, "digests": 10_000, "bytes": None}
    for _ in range(2):
        assert run("setquota", "shop", "--images", "5") == quotas
    made, limited = Event.objects.filter(path="shop").order_by("pk")
    assert (made.action, made.actor) == ("project.create", "manage.py createproject")
    assert (limited.action, limited.actor) == ("project.update", "manage.py setquota")
    assert limited.detail == {"before": {"image_limit": 10_000}, "after": {"image_limit": 5}}


def test_a_user_gets_roles_and_a_password_from_standard_input(world, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{PASSWORD}\n"))
    roles = ("--project", "demo:reader", "--project", "lab:admin", "--role", "owner")
    run("adduser", "mina@acme.test", "--organization", "acme", "--name", "Mina", "--password-stdin", *roles)
    user = User.objects.get(email="mina@acme.test")
    assert user.check_password(PASSWORD)
    assert user.name == "Mina"
    assert OrganizationMembership.objects.get(user=user).role == "owner"
    given = ProjectMembership.objects.filter(user=user).values_list("project__name", "role")
    assert dict(given) == {"demo": "reader", "lab": "admin"}


def test_existing_user_gets_the_given_name_and_password(world, monkeypatch):
    """Checked for a user without and with a password. A repetition changes nothing."""
    for password, times in (
        ("First-Passw0rd-kestrel", 1),
        ("Second-Passw0rd-kestrel", 2),
        ("Second-Passw0rd-kestrel", 2),
    ):
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{password}\n"))
        again = run("adduser", "Member@acme.test", "--organization", "acme", "--name", "Mina", "--password-stdin")
        assert again == {"user": "member@acme.test", "created": False}
        user = User.objects.get(email="member@acme.test")
        assert user.name == "Mina"
        assert passwords.authenticate(user.email, password, address="192.0.2.1") == user
        events = AuditEvent.objects.filter(organization=None, action="password.change", subject="member@acme.test")
        assert {(event.actor, event.detail["by_operator"]) for event in events} == {("manage.py adduser", True)}
        assert events.count() == times
    run("adduser", "member@acme.test", "--organization", "acme")
    assert User.objects.get(email="member@acme.test").name == "Mina"


def test_a_new_password_ends_the_sessions_of_the_user(world, monkeypatch, client):
    client.force_login(world.member.user, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/profile").status_code == 200
    monkeypatch.setattr(sys, "stdin", io.StringIO("First-Passw0rd-kestrel\n"))
    run("adduser", "member@acme.test", "--organization", "acme", "--password-stdin")
    assert client.get("/profile").status_code == 302


def test_a_grant_can_be_changed(world):
    assert run("grant", "demo/web", "VIEWER@acme.test", "member")["changed"]
    assert not run("grant", "demo/web", "viewer@acme.test", "member")["changed"]
    event = Event.objects.latest("pk")
    assert (event.actor, event.detail["before"], event.detail["after"]) == ("manage.py grant", "viewer", "member")


def test_options_of_an_access_key(world):
    made = run(
        "createaccesskey", "owner@acme.test", "--name", "ci", "--project", "lab", "--pull-only", "--expires-days", "30",
        "--uncounted",
    )  # fmt: skip
    key = AccessKey.objects.get(identifier=made["id"])
    assert (key.name, key.project, key.pull_only, key.counts_pulls) == ("ci", world.projects["lab"], True, False)
    assert timedelta(days=29) < key.expires_at - timezone.now() <= timedelta(days=30)
    assert made["secret"] not in str(vars(key))
    limited = run(
        "createaccesskey", "owner@acme.test", "--project", "demo", "--actions", "push", "pull",
        "--repositories", "web", "team-*", "--networks", "10.0.0.0/8", "192.0.2.7",
    )  # fmt: skip
    key = AccessKey.objects.get(identifier=limited["id"])
    assert (key.actions, key.repositories, key.networks) == (
        "pull push",
        "demo/web demo/team-*",
        "10.0.0.0/8 192.0.2.7/32",
    )
    assert not key.pull_only
    forever = run("createaccesskey", "owner@acme.test")
    assert AccessKey.objects.get(identifier=forever["id"]).expires_at is None


def test_the_signing_key_is_rotated(world, docker):
    token = docker("member").token()
    before = SigningKey.objects.count()
    assert run("rotatesigningkey") == {"rotated": True}
    assert SigningKey.objects.count() == before + 1
    assert docker("member").raw("GET", "/v2/", headers={"Authorization": f"Bearer {token}"}).status == 200


def test_a_leaked_signing_key_is_withdrawn(world, docker):
    client = docker("member")
    token = client.token()
    run("rotatesigningkey")
    assert run("rotatesigningkey", "--forget-others") == {"rotated": True, "forgotten": 2}
    assert client.raw("GET", "/v2/", headers={"Authorization": f"Bearer {token}"}).status == 401
    assert client.raw("GET", "/v2/", headers={"Authorization": f"Bearer {client.token()}"}).status == 200
    assert SigningKey.objects.count() == 1


def statuses(client: DockerClient, **credentials: dict[str, str]) -> dict[str, int]:
    """Return the status of the registry for each of these headers."""
    return {name: client.raw("GET", "/v2/", headers=headers).status for name, headers in credentials.items()}


def test_user_is_deactivated_and_reactivated(world, docker, client):
    gone = make_key(world.member.user, "to be revoked")
    docker_client, refresh = docker("member"), tokens.issue_refresh(keys.Login(world.member.key, ""), "localhost:8080")
    bearer = {"Authorization": f"Bearer {docker_client.token()}"}
    client.force_login(world.member.user, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/profile").status_code == 200
    both = sorted([world.member.key.identifier, gone.key.identifier])

    ended = {"user": "member@acme.test", "active": False, "organizations_without_owner": []}
    assert run("deactivateuser", "Member@acme.test") == ended | {"changed": True, "stopped_access_keys": both}
    assert statuses(docker_client, basic=docker_client.basic(), bearer=bearer) == {"basic": 401, "bearer": 401}
    with pytest.raises(tokens.InvalidToken):
        tokens.redeem_refresh(refresh, "localhost:8080", address="", client="")
    assert client.get("/profile").status_code == 302
    assert run("deactivateuser", "member@acme.test") == ended | {"changed": False, "stopped_access_keys": []}

    run("revokeaccesskey", gone.key.identifier)
    again = {"user": "member@acme.test", "active": True, "access_keys": [world.member.key.identifier]}
    assert run("activateuser", "member@acme.test") == again | {"changed": True}
    assert run("activateuser", "member@acme.test") == again | {"changed": False}
    assert statuses(docker_client, basic=docker_client.basic(), bearer=bearer) == {"basic": 200, "bearer": 200}
    assert tokens.redeem_refresh(refresh, "localhost:8080", address="", client="") == world.member.key
    revoked = DockerClient(gone)
    assert statuses(revoked, basic=revoked.basic()) == {"basic": 401}
    assert client.get("/profile").status_code == 302, "the session is not there any more"


def test_an_operator_is_told_that_an_organization_has_no_active_owner(world):
    assert run("deactivateuser", "owner@acme.test")["organizations_without_owner"] == ["acme"]


def test_an_operator_revokes_a_key_of_any_user(world, docker, django_capture_on_commit_callbacks, monkeypatch):
    monkeypatch.setattr(account_tasks.tell_of_revoked_key, "delay", account_tasks.tell_of_revoked_key)
    client, key = docker("viewer"), world.viewer.key
    answer = {"id": key.identifier, "name": "tests", "user": "viewer@acme.test", "revoked": True}
    with django_capture_on_commit_callbacks(execute=True):
        assert run("revokeaccesskey", key.identifier) == answer | {"changed": True}
    assert client.raw("GET", "/v2/", headers=client.basic()).status == 401
    (letter,) = mail.outbox
    assert letter.to == ["viewer@acme.test"]
    assert key.identifier in letter.body
    with django_capture_on_commit_callbacks(execute=True):
        assert run("revokeaccesskey", key.identifier) == answer | {"changed": False}
    assert len(mail.outbox) == 1


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────────
REFUSALS = [
    # command line, text of the refusal
    ("createorganization a", "2 to 64 letters"),
    ("createorganization a/b", "2 to 64 letters"),
    ("deactivateuser nobody@acme.test", "there is no user nobody@acme.test"),
    ("activateuser nobody@acme.test", "there is no user nobody@acme.test"),
    ("revokeaccesskey KCRKNOTHING", "there is no access key KCRKNOTHING"),
    ("createproject nothing shop", "there is no organization nothing"),
    ("createproject acme ab", "a project's ID has 3 to 40"),
    ("createproject acme Shop", "a project's ID has 3 to 40"),
    ("createproject acme 1shop", "a project's ID has 3 to 40"),
    ("createproject acme shop-", "a project's ID has 3 to 40"),
    ("createproject acme xn--shop", "a project's ID has 3 to 40"),
    ("createproject other demo", "is taken"),
    ("adduser mina --organization acme", "valid email"),
    ("adduser owner@acme.test --organization acme --role member", "last owner"),
    ("adduser mina@acme.test --organization nothing", "there is no organization nothing"),
    ("adduser mina@acme.test --organization acme --project demo", "PROJECT:ROLE"),
    ("adduser mina@acme.test --organization acme --project demo:boss", "admin, member, reader"),
    ("adduser mina@acme.test --organization acme --project nothing:admin", "there is no project nothing"),
    ("adduser mina@acme.test --organization acme --project rival:admin", "is not in the organization other"),
    ("createrepository demo", "a repository's name has 2 to 64"),
    ("createrepository demo/", "a repository's name has 2 to 64"),
    ("createrepository demo/Web", "a repository's name has 2 to 64"),
    ("createrepository demo/team/web", "a repository's name has 2 to 64"),
    ("createrepository nothing/web", "there is no project nothing"),
    ("createrepository /web", "there is no project"),
    (f"createrepository demo/new --description {'x' * 101}", "at most 100"),
    ("grant demo/nothing viewer@acme.test viewer", "there is no repository demo/nothing"),
    ("grant demo viewer@acme.test viewer", "there is no repository demo"),
    ("grant demo/web nobody@acme.test viewer", "there is no user nobody@acme.test"),
    ("grant demo/web reader@acme.test member", "change the role in the project instead"),
    ("grant demo/web outsider@other.test viewer", "is not in the organization acme"),
    ("revoke demo/nothing viewer@acme.test", "there is no repository demo/nothing"),
    ("revoke demo/web nobody@acme.test", "there is no user nobody@acme.test"),
    ("createaccesskey nobody@acme.test", "there is no user nobody@acme.test"),
    ("createaccesskey viewer@acme.test --project nothing", "there is no project nothing"),
    ("createaccesskey viewer@acme.test --networks here", "here is no network: write an address"),
    ("createaccesskey viewer@acme.test --repositories web", "web is no name of a repository"),
    ("createaccesskey viewer@acme.test --management --actions pull", "cannot use the management API"),
    ("createaccesskey viewer@acme.test --expires-days 0", "after 1 to 36500 days"),
    ("createaccesskey viewer@acme.test --expires-days -10000000", "after 1 to 36500 days"),
    ("createaccesskey viewer@acme.test --expires-days 999999999", "expir"),
    (f"createaccesskey viewer@acme.test --name {'x' * 65}", "at most 64"),
    # Texts longer than their column.
    (f"createorganization mill --display-name {'x' * 101}", "100"),
    (f"createproject acme shop --display-name {'x' * 101}", "100"),
    (f"adduser mina@acme.test --organization acme --name {'x' * 101}", "100"),
    (f"adduser {'m' * 60}@{'acme.' * 50}test --organization acme", "(?i)email|254"),
]


@pytest.mark.parametrize(("line", "words"), REFUSALS, ids=lambda value: value[:60])
def test_refused_command_gives_the_reason_and_changes_nothing(world, line, words):
    before, output = everything(), io.StringIO()
    with pytest.raises(CommandError, match=words) as refused:
        call_command(*line.split(), stdout=output)
    assert refused.value.returncode == 1
    assert output.getvalue() == ""
    assert everything() == before


@pytest.mark.parametrize(
    "line",
    [
        *("createorganization", "createproject acme", "adduser", "adduser mina@acme.test", "createrepository"),
        *("createrepository demo/web --scan never", "grant demo/web viewer@acme.test boss", "grant demo/web"),
        *("revoke demo/web", "createaccesskey", "createaccesskey viewer@acme.test --expires-days soon"),
        "adduser mina@acme.test --organization acme --role boss",
    ],
)
def test_invalid_command_line_changes_nothing(world, line):
    before = everything()
    with pytest.raises(CommandError):
        call_command(*line.split())
    assert everything() == before


def test_a_weak_password_is_refused(world, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("password\n"))
    before = everything()
    with pytest.raises(CommandError, match="too common"):
        call_command("adduser", "mina@acme.test", "--organization", "acme", "--password-stdin")
    assert everything() == before


def test_an_eleventh_key_is_refused(world):
    for _ in range(keys.KEYS_PER_USER - 1):
        run("createaccesskey", "viewer@acme.test")
    with pytest.raises(CommandError, match="has 10 access keys already"):
        call_command("createaccesskey", "viewer@acme.test")


def test_full_project_refuses_a_new_repository(world):
    Project.objects.filter(name="demo").update(repository_limit=3)
    with pytest.raises(CommandError, match="3 of 3 repositories"):
        call_command("createrepository", "demo/one-more")
    assert not run("createrepository", "demo/web")["created"]


# ── The first start ──────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def no_users(db) -> None:
    """An installation without users."""
    for model in (RepositoryUserPermission, Event, Repository, User, Project, Organization):
        model.objects.all().delete()


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


def introduce(output: type[io.StringIO] = Terminal) -> str:
    said = output()
    Quickstart(stdout=said).introduce()
    return said.getvalue()


def test_secrets_are_written_to_a_file_without_a_terminal(no_users, settings, tmp_path):
    """The journal of a service keeps its standard output."""
    settings.DATA_DIR, file = tmp_path, tmp_path / "first-sign-in.txt"
    file.touch(0o644)
    file.write_text("of a former start")
    said = introduce(io.StringIO)
    password = re.search(r"console +admin@kcr\.localhost +(\S+)", file.read_text())[1]
    assert User.objects.get().check_password(password)
    assert re.search(r"registry +KCRK\S+ +kcrs_\S+", file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert str(file) in said
    assert password not in said
    assert "kcrs_" not in said
    assert "former" not in file.read_text()


def test_first_start_creates_an_owner_and_shows_the_secrets_once(no_users, settings, tmp_path):
    settings.DATA_DIR = tmp_path
    said = introduce()
    assert list(tmp_path.iterdir()) == []
    password = re.search(r"console +admin@kcr\.localhost +(\S+)", said)[1]
    identifier, secret = re.search(r"registry +(KCRK\S+) +(kcrs_\S+)", said).groups()
    owner = User.objects.get()
    assert owner.check_password(password)
    assert AccessKey.objects.get().identifier == identifier
    assert OrganizationMembership.objects.get(user=owner).role == "owner"
    run("createrepository", "demo/first")
    persona = Persona(owner, AccessKey(identifier=identifier), secret)
    DockerClient(persona, BARE_HOST).push("demo/first/app", "1.0")
    again = introduce()
    assert "docker login localhost:8080" in again
    assert "docker push localhost:8080/" in again
    assert password not in again
    assert "kcrs_" not in again
    assert (User.objects.count(), AccessKey.objects.count()) == (1, 1)


def test_two_installations_share_no_password(no_users):
    first = introduce()
    User.objects.all().delete()  # and start again
    second = introduce()
    secrets = [re.findall(r"(?:localhost +|kcrs_)(\S{20,})", said) for said in (first, second)]
    assert len(secrets[0]) == len(secrets[1]) == 2
    assert not set(secrets[0]) & set(secrets[1])


def test_the_first_owner_may_be_named(no_users, settings):
    settings.ADMIN_EMAIL, settings.ADMIN_PASSWORD = "Mina@acme.test", PASSWORD
    said = introduce()
    assert "mina@acme.test  (your password)" in said
    assert PASSWORD not in said
    assert User.objects.get(email="mina@acme.test").check_password(PASSWORD)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("ADMIN_PASSWORD", "password", "too common"), ("ADMIN_EMAIL", "mina", "valid email")],
)
def test_invalid_first_owner_is_refused_with_the_reason(no_users, settings, name, value, words):
    setattr(settings, name, value)
    with pytest.raises(CommandError, match=words):
        introduce()
    assert not User.objects.exists()


# ── All of them ──────────────────────────────────────────────────────────────────────────────────────────────────────
def ours() -> set[str]:
    return {name for name, app in get_commands().items() if app in {"accounts", "registry"}}


def test_every_command_is_in_the_list_of_this_module():
    assert ours() == JSON_COMMANDS | OTHERS


@pytest.mark.parametrize("name", sorted(JSON_COMMANDS | OTHERS))
def test_every_command_has_help(name):
    command = load_command_class(get_commands()[name], name)
    text = command.create_parser("manage.py", name).format_help()
    assert len(command.help) > 20
    assert f"manage.py {name}" in text


@pytest.mark.real
@pytest.mark.sqlite_only
def test_commands_print_json_or_an_error_with_its_status(tmp_path):
    """As real processes: one line of JSON and status 0, or a message on standard error and status 1, never a traceback."""
    environment = environment_for(tmp_path, KCR_DATA_DIR=str(tmp_path / "data"))

    def manage(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(SOURCE / "manage.py"), *line.split()],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip

    assert manage("migrate --verbosity 0").returncode == 0
    for line, status in (
        ("createorganization acme", 0),
        ("createorganization acme", 0),
        ("createproject acme demo", 0),
        ("createrepository demo/web --public", 0),
        ("createrepository nothing/web", 1),
        ("adduser mina@acme.test --organization acme", 0),
        ("grant demo/web mina@acme.test viewer", 0),
        ("grant demo/web nobody@acme.test viewer", 1),
        ("createaccesskey mina@acme.test", 0),
        ("rotatesigningkey", 0),
    ):
        ended = manage(line)
        assert ended.returncode == status, f"{line}: {ended.stderr}"
        assert "Traceback" not in ended.stderr
        if status == 0:
            assert len(ended.stdout.splitlines()) == 1
            assert json.loads(ended.stdout)
            assert ended.stderr == ""
        else:
            assert ended.stdout == ""
            assert ended.stderr.startswith("CommandError: there is no")
