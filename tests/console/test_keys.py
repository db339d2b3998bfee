"""Pages of access keys: in the profile, the organization and the project."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone

from accounts import tasks as account_tasks
from accounts.models import AccessKey, AuditEvent
from tests.support.docker_client import DockerClient
from tests.support.pages import Page, see
from tests.support.personas import Persona, make_key


def form(**more: object) -> dict[str, object]:
    return {"form_id": str(uuid.uuid4()), "name": "laptop", "expires": "90", **more}


def made(answer) -> tuple[str, str]:
    page = answer.content.decode()
    return re.search(r"KCRK\w+", page)[0], re.search(r"kcrs_\w+", page)[0]


def test_the_secret_is_shown_once_and_works(console, world):
    browser = console("member")
    answer = browser.post("/profile/keys/new", form())
    assert answer.headers["Cache-Control"] == "no-store"
    identifier, secret = made(answer)
    assert f"docker login localhost:8080 --username {identifier}" in answer.content.decode()
    key = AccessKey.objects.get(identifier=identifier)
    DockerClient(Persona(world.member.user, key, secret)).push("web/app", "1")
    listed = browser.get("/profile/keys").content.decode()
    assert identifier in listed
    assert "kcrs_" not in listed
    assert timedelta(days=89) < key.expires_at - timezone.now() < timedelta(days=91)


def test_a_form_that_is_sent_twice_makes_one_key(console, world):
    browser, sent = console("member"), form()
    before = AccessKey.objects.count()
    browser.post("/profile/keys/new", sent)
    answer = browser.post("/profile/keys/new", sent)
    assert "created already" in answer.content.decode()
    assert "kcrs_" not in answer.content.decode()
    assert AccessKey.objects.count() == before + 1


def test_limits_of_a_new_key_are_set_and_validated(console, world):
    browser = console("member")
    identifier, _ = made(browser.post("/profile/keys/new", form(project="demo", pull_only="on", expires="")))
    key = AccessKey.objects.get(identifier=identifier)
    assert (key.project.name, key.pull_only, key.expires_at) == ("demo", True, None)
    refused = browser.post("/profile/keys/new", form(project="rival"))
    assert "Select a valid choice" in refused.content.decode()
    past = browser.post("/profile/keys/new", form(expires_on="2020-01-01"))
    assert "has passed" in past.content.decode()
    assert 'value="laptop"' in past.content.decode()


def test_a_key_whose_pulls_are_not_counted_is_marked(console, world):
    browser = console("member")
    answer = see(browser, "/profile/keys/new").form("uncounted").submit(browser, name="scanner", uncounted="on")
    identifier, _ = made(answer)
    assert not AccessKey.objects.get(identifier=identifier).counts_pulls
    (row,) = [row for row in see(browser, "/profile/keys").table("ID", "Limits") if identifier in row["ID"]]
    assert row["Limits"] == "pulls not counted"
    line = f"Created the access key “scanner” ({identifier}) of member@acme.test, pulls not counted"
    assert line in see(browser, "/profile/activity").text
    assert "pulls not counted" in see(console("owner"), f"/organizations/acme/keys/{identifier}").text


def test_a_key_for_the_management_api_is_marked(console, world):
    browser = console("member")
    page = see(browser, "/profile/keys/new").form("management")
    plain, _ = made(page.submit(browser, name="laptop"))
    identifier, _ = made(
        see(browser, "/profile/keys/new").form("management").submit(browser, name="ci", management="on")
    )
    assert not AccessKey.objects.get(identifier=plain).management
    assert AccessKey.objects.get(identifier=identifier).management
    (row,) = [row for row in see(browser, "/profile/keys").table("ID", "Limits") if identifier in row["ID"]]
    assert row["Limits"] == "management API"
    line = f"Created the access key “ci” ({identifier}) of member@acme.test, management API"
    assert line in see(browser, "/profile/activity").text
    both = form(pull_only="on", management="on")
    assert "cannot use the management API" in browser.post("/profile/keys/new", both).content.decode()


def test_viewer_may_limit_a_key_to_a_project_with_a_repository_role(console, world):
    identifier, _ = made(console("viewer").post("/profile/keys/new", form(project="demo")))
    assert AccessKey.objects.get(identifier=identifier).project.name == "demo"


def test_ten_keys_at_most(console, world):
    for number in range(9):
        make_key(world.member.user, f"key {number}")
    assert "already: revoke one first" in console("member").post("/profile/keys/new", form()).content.decode()


def test_users_revoke_only_their_own_keys_with_immediate_effect(console, world):
    other = make_key(world.admin.user)
    browser = console("member")
    browser.post("/profile/keys", {"key": other.key.identifier})
    other.key.refresh_from_db()
    assert other.key.revoked_at is None
    client = DockerClient(world.member)
    client.push("web/app", "1")
    browser.post("/profile/keys", {"key": world.member.key.identifier})
    assert client.raw("GET", "/v2/web/app/manifests/1", headers=client.basic()).status == 401


# ── Keys of others ───────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def mailing(monkeypatch, django_capture_on_commit_callbacks):
    """Mails about keys are sent at the end of the block."""
    monkeypatch.setattr(account_tasks.tell_of_revoked_key, "delay", account_tasks.tell_of_revoked_key)
    return lambda: django_capture_on_commit_callbacks(execute=True)


def listed(browser, address: str) -> set[str]:
    return set(re.findall(r"KCRK\w{16}", browser.get(address).content.decode()))


def test_owners_see_keys_of_their_organization_only(console, world):
    here = make_key(world.member.user, "of demo", project=world.projects["demo"])
    elsewhere = make_key(world.member.user, "of another organization", project=world.projects["rival"])
    ended = make_key(world.member.user, "revoked")
    ended.key.revoked_at = timezone.now()
    ended.key.save()
    found = listed(console("owner"), "/organizations/acme/keys")
    people = {persona.key.identifier for name, persona in world.people.items() if name != "outsider"}
    assert found == people | {here.key.identifier}
    assert not found & {elsewhere.key.identifier, ended.key.identifier, world.outsider.key.identifier}


def test_admins_see_every_key_with_access_to_their_project(console, world):
    """Keys of members, of users with a repository role, and of owners, except keys limited to another project."""
    here = make_key(world.viewer.user, "of demo", project=world.projects["demo"])
    lab = make_key(world.member.user, "of lab", project=world.projects["lab"])
    found = listed(console("admin"), "/projects/demo/keys")
    roles = ("owner", "admin", "member", "reader", "pusher", "viewer")
    assert found == {world.people[name].key.identifier for name in roles} | {here.key.identifier}
    assert not found & {lab.key.identifier, world.stranger.key.identifier, world.outsider.key.identifier}
    assert "kcrs_" not in console("admin").get("/projects/demo/keys").content.decode()


def test_owner_revokes_a_leaked_key(console, docker, world, mailing):
    client, key = docker("pusher"), world.pusher.key
    token = {"Authorization": f"Bearer {client.token()}"}
    there, browser = f"/organizations/acme/keys/{key.identifier}", console("owner")
    assert key.identifier in browser.get(there).content.decode()
    assert client.raw("GET", "/v2/", headers=token).status == 200, "looking changes nothing"
    with mailing():
        assert browser.post(there).url == "/organizations/acme/keys"
    for headers in (client.basic(), token):
        assert client.raw("GET", "/v2/", headers=headers).status == 401
    (letter,) = mail.outbox
    assert letter.to == ["pusher@acme.test"]
    assert "owner@acme.test" in letter.body
    event = AuditEvent.objects.get(action="key.revoke", organization__name="acme")
    assert (event.actor, event.subject, event.detail["key"]) == ("owner@acme.test", "pusher@acme.test", key.identifier)
    assert "Access key “tests” has been revoked." in browser.get("/organizations/acme/keys").content.decode()
    assert key.identifier not in listed(browser, "/organizations/acme/keys")
    browser.post(there)
    assert len(mail.outbox) == 1, "it was revoked already"


def test_revocation_asks_first_and_shows_the_last_use(console, world):
    key = world.member.key
    key.last_used_at, key.last_used_address = timezone.now() - timedelta(hours=5), "10.0.3.7"
    key.last_used_client = "docker/27.3.1 go/go1.22"
    key.save()
    for name, there in (
        ("member", f"/profile/keys/revoke?key={key.identifier}"),
        ("admin", f"/projects/demo/keys/{key.identifier}/revoke"),
        ("owner", f"/organizations/acme/keys/{key.identifier}/revoke"),
    ):
        page = see(console(name), there)
        assert page.headings == ["Revoke the access key “tests”?"]
        assert "was last used 5 h ago from 10.0.3.7 (docker/27.3.1)" in page.text
        assert "You can restore it for 10 minutes. It does not work until you do." in page.text
    key.refresh_from_db()
    assert key.revoked_at is None
    page.form("key").submit(console("owner"))
    key.refresh_from_db()
    assert key.revoked_at


def test_a_revocation_is_undone_within_ten_minutes(console, docker, world):
    browser, client, key = console("member"), docker("member"), world.member.key
    answer = browser.post("/profile/keys", {"key": key.identifier}, follow=True)
    assert client.raw("GET", "/v2/", headers=client.basic()).status == 401, "it does not work until it is restored"
    back = Page(answer.content.decode(), "/profile/keys").form("key", act="restore")
    back.submit(browser, act="restore")
    assert client.raw("GET", "/v2/", headers=client.basic()).status == 200
    assert AuditEvent.objects.filter(action="key.restore", organization__name="acme").count() == 1
    browser.post("/profile/keys", {"key": key.identifier}, follow=True)
    AccessKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now() - timedelta(minutes=10))
    assert "act" not in {name for form in see(browser, "/profile/keys").forms for name in form.names}
    answer = browser.post("/profile/keys", {"key": key.identifier, "act": "restore"}, follow=True)
    assert "can be restored for 10 minutes, by the person who revoked it" in answer.content.decode()
    assert client.raw("GET", "/v2/", headers=client.basic()).status == 401


def test_only_the_person_who_revoked_a_key_restores_it(console, world):
    """A thief may use the account of the holder."""
    key = make_key(world.member.user, "ci", project=world.projects["demo"]).key
    browser, there = console("admin"), f"/projects/demo/keys/{key.identifier}"
    browser.post(there)
    console("member").post("/profile/keys", {"key": key.identifier, "act": "restore"})
    console("owner").post(f"/organizations/acme/keys/{key.identifier}", {"act": "restore"})
    key.refresh_from_db()
    assert key.revoked_at
    see(browser, there).form(act="restore").submit(browser, act="restore")
    key.refresh_from_db()
    assert key.revoked_at is None


def test_holder_is_notified_of_an_undone_revocation(console, world, mailing, monkeypatch):
    monkeypatch.setattr(account_tasks.tell_of_restored_key, "delay", account_tasks.tell_of_restored_key)
    there, browser = f"/organizations/acme/keys/{world.pusher.key.identifier}", console("owner")
    with mailing():
        browser.post(there)
        browser.post(there, {"act": "restore"})
    assert [letter.to for letter in mail.outbox] == [["pusher@acme.test"]] * 2
    assert "works again" in mail.outbox[1].subject


def test_restoring_an_eleventh_key_is_refused(console, world):
    browser, key = console("member"), world.member.key
    browser.post("/profile/keys", {"key": key.identifier})
    for number in range(10):
        make_key(world.member.user, f"key {number}")
    refused = browser.post("/profile/keys", {"key": key.identifier, "act": "restore"}, follow=True).content.decode()
    assert "already: revoke one first" in refused


def test_page_of_a_key_previews_the_undo_of_its_changes(console, docker, world):
    docker("member").push("web/app", "1")
    page = see(console("admin"), f"/projects/demo/keys/{world.member.key.identifier}")
    assert "remove demo/web/app:1" in page.text
    idle = see(console("admin"), f"/projects/demo/keys/{world.reader.key.identifier}")
    assert "It changed nothing that could be undone." in idle.text


def test_admin_revokes_only_keys_limited_to_their_project(console, docker, world, mailing):
    limited = make_key(world.owner.user, "ci", project=world.projects["demo"])
    browser = console("admin")
    refused = browser.post(f"/projects/demo/keys/{world.owner.key.identifier}", follow=True).content.decode()
    assert "Only an owner of the organization may revoke a key that is not limited to this project" in refused
    world.owner.key.refresh_from_db()
    assert world.owner.key.revoked_at is None
    page = browser.get(f"/projects/demo/keys/{world.owner.key.identifier}").content.decode()
    assert "Only an owner of the organization may revoke it" in page
    there = f"/projects/demo/keys/{world.owner.key.identifier}"
    assert not [form for form in Page(page, there).forms if form.action == there and form.method == "post"]
    with mailing():
        browser.post(f"/projects/demo/keys/{limited.key.identifier}")
    limited.key.refresh_from_db()
    assert limited.key.revoked_at
    assert mail.outbox[0].to == ["owner@acme.test"]


def test_owner_revokes_any_key_on_the_page_of_a_project(console, world):
    console("owner").post(f"/projects/demo/keys/{world.pusher.key.identifier}")
    world.pusher.key.refresh_from_db()
    assert world.pusher.key.revoked_at


def test_rows_of_keys_lead_to_the_question_only_where_the_viewer_may_revoke(console, world):
    limited = make_key(world.owner.user, "ci", project=world.projects["demo"])

    def offered(person: str, there: str) -> set[str]:
        links = [link.href for link in see(console(person), there).links]
        return {href.split("/")[-2] for href in links if href.endswith("/revoke")}

    everything = {row.key.identifier for row in (world.owner, world.admin, world.member, world.reader)}
    assert offered("admin", "/projects/demo/keys") == {limited.key.identifier}
    assert offered("owner", "/projects/demo/keys") >= everything | {limited.key.identifier}
    assert offered("owner", "/organizations/acme/keys") >= everything
    browser = console("owner")
    question = see(browser, f"/projects/demo/keys/{world.reader.key.identifier}/revoke")
    question.form("key").submit(browser)
    assert world.reader.key.identifier not in offered("owner", "/projects/demo/keys")


@pytest.mark.parametrize("person", ["member", "reader", "stranger", "outsider"])
def test_other_roles_cannot_see_or_revoke_keys(console, world, person):
    key = world.admin.key
    for there in ("/organizations/acme/keys", "/projects/demo/keys"):
        for address in (there, f"{there}/{key.identifier}"):
            assert console(person).get(address).status_code in {403, 404}
            assert console(person).post(address).status_code in {403, 404}
    key.refresh_from_db()
    assert key.revoked_at is None


def test_keys_of_other_organizations_are_not_found(console, world):
    """The same holds for keys of an own user that are limited to a project of another organization."""
    elsewhere = make_key(world.member.user, "theirs", project=world.projects["rival"])
    for identifier in (world.outsider.key.identifier, elsewhere.key.identifier, "KCRKNOTHING", "' OR 1=1"):
        for there in ("/organizations/acme/keys", "/projects/demo/keys"):
            assert console("owner").get(f"{there}/{identifier}").status_code == 404
            assert console("owner").post(f"{there}/{identifier}").status_code == 404


def test_keys_are_filtered_and_paged(console, world):
    for number in range(9):
        make_key(world.reader.user, f"runner {number}")
    browser = console("owner")
    assert len(listed(browser, "/organizations/acme/keys?q=runner")) == 9
    assert listed(browser, "/organizations/acme/keys?q=pusher@") == {world.pusher.key.identifier}
    assert listed(browser, f"/projects/demo/keys?q={world.viewer.key.identifier}") == {world.viewer.key.identifier}


def test_undo_page_links_to_the_keys_of_the_project(console, world):
    assert 'href="/projects/demo/keys"' in console("admin").get("/projects/demo/undo").content.decode()
    assert 'href="/projects/demo/keys"' not in console("member").get("/projects/demo/undo").content.decode()
    page = console("admin").get(f"/projects/demo/keys/{world.member.key.identifier}").content.decode()
    assert f"/projects/demo/undo?who={world.member.key.identifier}&amp;hours=24" in page
