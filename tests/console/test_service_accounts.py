"""Pages of service accounts and their keys, of a project and of an organization."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import keys
from accounts.actors import SYSTEM
from accounts.models import AccessKey, AuditEvent, Organization, ProjectRole, RepositoryRole, User
from registry import members, repositories, service_accounts
from tests.support.docker_client import BARE_HOST, DockerClient
from tests.support.pages import Page, see
from tests.support.personas import Persona

HERE = "/projects/demo/service-accounts"
THERE = "/organizations/acme/service-accounts"


@pytest.fixture
def ci(world, project):
    return service_accounts.create(
        SYSTEM, project, "ci", description="Builds the shop", contacts=["admin@acme.test"], role=ProjectRole.MEMBER
    )


@pytest.fixture
def mirror(world):
    return service_accounts.create(SYSTEM, Organization.objects.get(name="acme"), "mirror")


@pytest.fixture
def key(ci) -> AccessKey:
    return service_accounts.make_key(SYSTEM, ci, "runner").key


def of(answer) -> Page:
    """The page of an answer."""
    assert answer.status_code == 200
    return Page(answer.content.decode(), answer.request["PATH_INFO"])


def made(page) -> Persona:
    """The key and the secret that a page shows."""
    identifier, secret = re.search(r"KCRK\w+", page.text)[0], re.search(r"kcrs_\w+", page.text)[0]
    found = AccessKey.objects.select_related("user").get(identifier=identifier)
    return Persona(found.user, found, secret)


# ── Making and changing ──────────────────────────────────────────────────────────────────────────────────────────────
def test_admin_makes_an_account_and_a_key_that_pushes(console, world):
    browser = console("admin")
    form = see(browser, f"{HERE}/-/new").form("name", "role")
    answer = form.submit(browser, name="ci", description="Builds", contacts="owner@acme.test\nadmin@acme.test")
    assert answer.url == f"{HERE}/ci"
    account = User.objects.get(email="ci@demo.project.invalid")
    assert sorted(person.email for person in account.contacts.all()) == ["admin@acme.test", "owner@acme.test"]
    assert members.role_of(world.projects["demo"], account) == ProjectRole.MEMBER
    form = see(browser, f"{HERE}/ci/keys/new").form("networks")
    answer = form.submit(browser, name="runner", repositories="web\nteam-*", networks="10.0.0.0/8")
    assert answer.headers["Cache-Control"] == "no-store"
    persona = made(of(answer))
    DockerClient(persona).push("web/app", "1.0")
    assert (
        DockerClient(persona).delete("web/app/manifests/1.0", 403).json()["errors"][0]["detail"]["limit"] == "actions"
    )
    key = persona.key
    assert (key.actions, key.repositories, key.networks) == ("pull push", "demo/web demo/team-*", "10.0.0.0/8")
    assert timedelta(days=89) < key.expires_at - timezone.now() < timedelta(days=91)
    listed = see(browser, f"{HERE}/ci")
    assert "kcrs_" not in listed.text
    (row,) = listed.table("Key", "Limits")
    assert row["Limits"] == "may only pull, push demo/web demo/team-* 10.0.0.0/8"


@pytest.mark.parametrize("chosen", [True, False])
def test_key_may_use_the_management_api_if_that_is_chosen(console, ci, chosen):
    browser = console("admin")
    form = see(browser, f"{HERE}/ci/keys/new").form("networks")
    persona = made(of(form.submit(browser, name="terraform", delete="on", **({"management": "on"} if chosen else {}))))
    assert persona.key.management is chosen
    answer = browser.get("/api/v1/projects/demo", headers={"Authorization": f"Bearer {persona.secret}"})
    assert answer.status_code == (200 if chosen else 403)


def test_page_of_a_new_key_fills_in_the_commands(console, ci):
    browser = console("admin")
    page = of(see(browser, f"{HERE}/ci/keys/new").form("networks").submit(browser, name="runner"))
    identifier = made(page).key.identifier
    assert f"docker login localhost:8080 --username {identifier}" in page.text
    assert f"username: {identifier}" in page.text
    assert "localhost:8080/demo/REPOSITORY/IMAGE" in page.text
    assert "docker/login-action" in page.text


def test_owner_makes_an_account_of_the_organization(console, world):
    browser = console("owner")
    form = see(browser, f"{THERE}/-/new").form("name", "contacts")
    assert "role" not in form.names
    assert form.submit(browser, name="mirror").url == f"{THERE}/mirror"
    form = see(console("admin"), "/projects/demo/members/add").form("email")
    form.submit(console("admin"), email="mirror@acme.organization.invalid", role="reader")
    answer = (
        see(browser, f"{THERE}/mirror/keys/new")
        .form("networks")
        .submit(browser, name="sync", push=[], repositories="demo/web", expires="")
    )
    persona = made(of(answer))
    assert persona.key.actions == "pull"
    DockerClient(persona, BARE_HOST).get("demo/web/app/tags/list", 404)
    DockerClient(persona, BARE_HOST).get("demo/fixed/app/tags/list", 403)
    page = see(browser, f"{THERE}/mirror")
    assert page.table("Project or repository", "Role")[0]["Role"] == "Reader"
    assert page.table("Key", "Expires")[0]["Expires"] == "never"


@pytest.mark.parametrize(
    ("field", "typed", "words"),
    [
        ("name", "Not Good", "lower-case letters"),
        ("contacts", "outsider@other.test", "No member of acme has the address outsider@other.test"),
    ],
)
def test_refused_account_is_explained(console, world, field, typed, words):
    browser = console("admin")
    page = of(see(browser, f"{HERE}/-/new").form("name").submit(browser, **{"name": "ci", field: typed}))
    assert words in page.text
    assert not User.objects.filter(kind="service").exists()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pull": [], "push": []}, "Choose what the key may do"),
        ({"networks": "office"}, "is no network"),
        ({"repositories": "a/b/c"}, "is no name of a repository"),
        ({"expires_on": "2020-01-01"}, "has passed"),
    ],
)
def test_refused_key_is_explained(console, ci, fields, words):
    browser = console("admin")
    form = see(browser, f"{HERE}/ci/keys/new").form("networks")
    assert words.lower() in of(form.submit(browser, name="runner", **fields)).text.lower()
    assert not AccessKey.objects.filter(user=ci).exists()


def test_admin_edits_disables_and_enables(console, ci, key):
    browser = console("admin")
    form = see(browser, f"{HERE}/ci/edit").form("contacts")
    assert form.submit(browser, description="Ships", contacts="owner@acme.test").url == f"{HERE}/ci"
    page = see(browser, f"{HERE}/ci")
    assert "Ships" in page.text
    page.form(act="disable").submit(browser, act="disable")
    page = see(browser, f"{HERE}/ci")
    assert "its keys are refused" in page.text
    assert key.name in page.text
    page.form(act="enable").submit(browser, act="enable")
    assert User.objects.get(pk=ci.pk).is_active


def test_deleted_account_is_restored_from_the_message_and_from_the_list(console, world, ci, key):
    browser = console("admin")
    for path in ("message", "list"):
        question = see(browser, f"{HERE}/ci/delete")
        assert "1 access key stops working" in question.text
        answer = question.form(act="delete").submit(browser, act="delete")
        page = see(browser, answer.url)
        assert "has been deleted" in page.text
        assert browser.get(f"{HERE}/ci").status_code == 404
        if path == "list":
            page = see(browser, HERE + "/")
        page.form(act="restore").submit(browser, act="restore")
        assert members.role_of(world.projects["demo"], ci) == ProjectRole.MEMBER
        assert AccessKey.objects.get(pk=key.pk).state == "alive"
        assert "works again" in see(browser, f"{HERE}/ci").text


# ── Rotation ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("person", "home"), [("admin", "/projects/demo"), ("owner", "/organizations/acme")])
def test_rotated_key_has_two_secrets_until_the_former_is_ended(console, ci, person, home):
    first = service_accounts.make_key(SYSTEM, ci, "runner")
    browser, page = console(person), f"{home}/keys/{first.key.identifier}"
    client = DockerClient(Persona(ci, first.key, first.secret))
    client.push("web/app", "1.0")
    keys.last_used.flush()
    answer = see(browser, f"{page}/rotate").form("hours").submit(browser)
    assert answer.headers["Cache-Control"] == "no-store"
    persona = made(of(answer))
    assert "The former secret works until" in of(answer).text
    DockerClient(persona).push("web/app", "2.0")
    assert client.raw("GET", "/v2/", headers=client.basic()).status == 200
    newest, former = see(browser, page).table("Secret", "Last used")
    assert (newest["Secret"], former["Secret"]) == ("Newest", "Former")
    assert "10.0.0.1" in former["Last used"]
    shown = {link.text: link.href for link in see(browser, f"{HERE}/ci").links}
    assert shown["Secrets"].endswith(f"/keys/{first.key.identifier}")
    assert "New secret …" not in shown
    refused = of(see(browser, f"{page}/rotate").form("hours").submit(browser))
    assert "has two secrets that work" in refused.text
    see(browser, page).form(act="end-former").submit(browser, act="end-former")
    assert client.raw("GET", "/v2/", headers=client.basic()).status == 401
    assert len(see(browser, page).table("Secret", "Last used")) == 1


def test_key_of_a_person_is_not_rotated_by_others(console, world):
    path = f"keys/{world.member.key.identifier}/rotate"
    for person, home in (("admin", "projects/demo"), ("owner", "projects/demo"), ("owner", "organizations/acme")):
        assert console(person).get(f"/{home}/{path}").status_code == 404
        assert console(person).post(f"/{home}/{path}", {"hours": "0"}).status_code == 404


def test_admin_revokes_and_restores_a_key(console, ci, key):
    browser, page = console("admin"), f"/projects/demo/keys/{key.identifier}"
    (question,) = [form for form in see(browser, f"{page}/revoke").forms if form.action == page]
    question.submit(browser)
    assert AccessKey.objects.get(pk=key.pk).state == "revoked"
    see(browser, page).form(act="restore").submit(browser, act="restore")
    assert AccessKey.objects.get(pk=key.pk).state == "alive"


# ── Machines among people ────────────────────────────────────────────────────────────────────────────────────────────
def test_members_and_permissions_show_it_as_a_machine(console, world, web, ci, mirror):
    repositories.set_role(SYSTEM, web, mirror, RepositoryRole.VIEWER)
    browser = console("admin")
    for path, account in (("members", ci), ("repositories/web/-/permissions", mirror)):
        page = see(browser, f"/projects/demo/{path}")
        (row,) = [row for row in page.table("Person", "Role") if account.email in row["Person"]]
        assert row["Person"].startswith("Service account")
        (link,) = [link for link in row["Person"].links if account.email in link.text]
        assert browser.get(link.href, follow=True).resolver_match.url_name.endswith("service_account")
    check = see(browser, f"/projects/demo/repositories/web/-/permissions?who={ci.email}")
    assert f"{ci.email} may push and pull" in check.text
    assert "Member of the project" in check.text


def test_roles_of_it_change_in_the_list_of_members(console, world, ci):
    browser = console("admin")
    forms = [form for form in see(browser, "/projects/demo/members").forms if "role" in form.fields]
    (form,) = [form for form in forms if form.fields["email"].values == [ci.email]]
    form.submit(browser, role="reader")
    assert members.role_of(world.projects["demo"], ci) == ProjectRole.READER


def test_audit_log_and_history_name_it_as_a_machine(console, world, ci, key):
    client = DockerClient(Persona(ci, key, service_accounts.rotate(SYSTEM, key, former_ends_in=timedelta(0)).secret))
    client.push("web/app", "1.0")
    page = see(console("reader"), "/projects/demo/audit-log")
    assert f"Service account {ci.email}" in page.text
    shown = see(console("admin"), f"{HERE}/ci")
    assert "1.0" in shown.text
    assert "Undoing it would:" in shown.text
    undo = next(link.href for link in shown.links if "/undo?who=" in link.href)
    answer = see(console("admin"), undo).form("who", "hours").submit(console("admin"))
    assert "changes have been undone" in of(answer).text
    DockerClient(world.admin).get("web/app/manifests/1.0", 404)


def test_changes_of_it_are_in_the_log_in_words(console, world, ci, mirror):
    service_accounts.update(SYSTEM, ci, description="Ships", contacts=[])
    new = service_accounts.make_key(SYSTEM, ci, "runner", only=keys.limits.Limits(["pull"], "web", "10.0.0.0/8"))
    keys.record_refusal(keys.actor(new.key, address="192.0.2.1"), "networks")
    service_accounts.rotate(SYSTEM, new.key, former_ends_in=timedelta(hours=1))
    keys.end_former(new.key, by=SYSTEM)
    service_accounts.delete(SYSTEM, mirror)
    page = see(console("owner"), "/organizations/acme/audit-log")
    for words in (
        "Created the service account ci@demo.project.invalid",
        "Changed the description or contacts of ci@demo.project.invalid",
        f"Created the access key “runner” ({new.key.identifier}) of ci@demo.project.invalid, may only pull, demo/web, 10.0.0.0/8",
        "were refused by its limit of networks",
        "Made a new secret of the access key “runner”",
        "Ended the former secret of the access key “runner”",
        "Deleted the service account mirror@acme.organization.invalid",
    ):
        assert words in page.text, words
    csv = console("owner").get("/organizations/acme/audit-log.csv").getvalue().decode()
    assert "key.refused" in csv


def test_people_without_administration_see_the_account_and_no_keys(console, ci, key):
    page = see(console("reader"), f"{HERE}/ci")
    assert "Builds the shop" in page.text
    assert key.identifier not in page.text
    assert page.forms == [form for form in page.forms if "act" not in form.names]


def test_member_of_the_organization_sees_no_role_that_they_may_not_see(console, world, mirror):
    members.set_role(SYSTEM, world.projects["lab"], mirror, ProjectRole.READER)
    members.set_role(SYSTEM, world.projects["demo"], mirror, ProjectRole.READER)
    text = see(console("reader"), f"{THERE}/mirror").text
    assert "demo" in text
    assert "lab" not in text
    assert "lab" in see(console("owner"), f"{THERE}/mirror").text


# ── Two organizations ────────────────────────────────────────────────────────────────────────────────────────────────
PATHS = ("", "/edit", "/delete", "/keys/new")


def test_accounts_of_another_organization_are_not_found(console, world):
    other = Organization.objects.get(name="other")
    service_accounts.create(SYSTEM, other, "theirs")
    of_rival = service_accounts.create(SYSTEM, world.projects["rival"], "theirs", role=ProjectRole.MEMBER)
    key = service_accounts.make_key(SYSTEM, of_rival, "runner").key
    browser = console("owner")
    for home in (HERE, THERE, "/projects/rival/service-accounts", "/organizations/other/service-accounts"):
        for path in PATHS:
            assert browser.get(f"{home}/theirs{path}").status_code == 404, (home, path)
            assert browser.post(f"{home}/theirs{path}", {"act": "delete"}).status_code == 404, (home, path)
    for home in ("/projects/demo", "/organizations/acme"):
        for path in ("", "/rotate", "/revoke"):
            assert browser.get(f"{home}/keys/{key.identifier}{path}").status_code == 404
            assert browser.post(f"{home}/keys/{key.identifier}{path}", {"hours": "0"}).status_code == 404
    form = see(browser, "/projects/demo/members/add").form("email")
    assert "No member of acme" in of(form.submit(browser, email=of_rival.email)).text
    assert User.objects.get(pk=of_rival.pk).is_active
    assert "theirs" not in see(browser, f"{HERE}/").text + see(browser, f"{THERE}/").text
    assert browser.get(f"/organizations/acme/person?email={of_rival.email}").status_code == 404
    page = see(browser, f"/projects/demo/repositories/web/-/permissions?who={of_rival.email}")
    assert "No member of acme has this address" in page.text


def test_account_of_a_project_is_not_found_under_another_project(console, ci, key):
    browser = console("owner")
    for path in PATHS:
        assert browser.get(f"/projects/lab/service-accounts/ci{path}").status_code == 404
    assert browser.get(f"/projects/lab/keys/{key.identifier}/rotate").status_code == 404
    form = see(browser, "/projects/lab/members/add").form("email")
    assert "No member of acme" in of(form.submit(browser, email=ci.email)).text


def test_admin_makes_no_key_of_an_account_that_may_do_more(console, world, mirror):
    """The account has roles in a project that the admin does not see. Only owners have its pages."""
    members.set_role(SYSTEM, world.projects["lab"], mirror, ProjectRole.MEMBER)
    assert console("admin").get(f"{THERE}/mirror/keys/new").status_code == 403
    assert AuditEvent.objects.filter(action="key.create", person=mirror).count() == 0
