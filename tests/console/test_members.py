"""Members of projects and organizations: confirmation before a role ends, and Undo afterwards."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import organizations
from accounts.models import OrganizationMembership, OrganizationRole, ProjectRole, RepositoryRole
from registry import members, repositories
from registry.models import Event
from tests.support.pages import Page, see
from tests.support.personas import make_key

MEMBERS = "/projects/demo/members"
ACME = "/organizations/acme/"
HOST = {"Host": "localhost:8080"}
PERMISSIONS = "/projects/demo/repositories/web/-/permissions"


def press(browser, page: Page, *names: str, **fields: str) -> Page:
    """Submit a form of the page and follow the redirects."""
    form = page.form(*names, **fields)
    answer = browser.post(
        form.action, form.filled(**fields), headers=HOST | {"Referer": f"http://localhost:8080{page.path}"}, follow=True
    )
    assert answer.status_code == 200
    return Page(answer.content.decode(), answer.request["PATH_INFO"])


def undo(browser, page: Page) -> Page:
    """Press Undo in the message of the page."""
    (form,) = [form for form in page.forms if "/undo" in form.action]
    answer = browser.post(
        form.action, form.filled(), headers=HOST | {"Referer": f"http://localhost:8080{page.path}"}, follow=True
    )
    return Page(answer.content.decode(), answer.request["PATH_INFO"])


@pytest.fixture
def used(world):
    """Set the last use of the member's key to five hours ago."""
    key = world.member.key
    key.last_used_at, key.last_used_address = timezone.now() - timedelta(hours=5), "10.0.3.7"
    key.save()
    return key


def test_removing_a_member_first_lists_the_ending_roles(console, world, used):
    browser = console("admin")
    menu = [link.href for link in see(browser, MEMBERS).links if "remove?" in link.href]
    assert f"{MEMBERS}/remove?email=member%40acme.test" in menu
    page = see(browser, f"{MEMBERS}/remove?email=member@acme.test")
    assert page.headings == ["Remove member@acme.test from demo?"]
    assert "The role Member ends, and with it the access to 3 repositories" in page.text
    assert "1 access key stops working here: tests, last used 5 h ago from 10.0.3.7" in page.text
    assert members.role_of(world.projects["demo"], world.member.user) == ProjectRole.MEMBER, "asking changes nothing"
    after = press(browser, page, "email", role="")
    assert "member@acme.test has been removed from demo." in after.text
    assert members.role_of(world.projects["demo"], world.member.user) is None


def test_removing_a_member_is_undone_from_the_message(console, world):
    browser = console("admin")
    after = press(browser, see(browser, f"{MEMBERS}/remove?email=member@acme.test"), role="")
    back = undo(browser, after)
    assert "The change has been undone." in back.text
    assert back.path == MEMBERS
    assert members.role_of(world.projects["demo"], world.member.user) == ProjectRole.MEMBER
    newest = Event.objects.filter(action="project.member").latest("pk")
    assert newest.detail["undoes"] == [newest.pk - 1]


@pytest.mark.parametrize(
    ("role", "lost"),
    [
        ("member", ["change members, settings"]),
        ("reader", ["change members, settings", "push, delete"]),
        ("", ["change members, settings", "push, delete", "see its pages"]),
    ],
)
def test_an_admin_who_gives_up_the_own_role_is_asked(console, world, role, lost):
    browser, project, user = console("admin"), world.projects["demo"], world.admin.user
    listed = see(browser, "/projects/demo/members")
    if role:
        answer = listed.form("role", email=user.email).submit(browser, role=role)
        question = Page(answer.content.decode(), "/projects/demo/members")
    else:
        question = see(browser, f"/projects/demo/members/remove?email={user.email}")
    assert members.role_of(project, user) == "admin", "nothing has changed"
    assert question.headings == ["Give up your role Admin in demo?"]
    said = ["change members, settings", "push, delete", "see its pages"]
    assert [words for words in said if words in question.text] == lost
    assert "You cannot undo it yourself. These people can give the role back: owner@acme.test." in question.text
    after = question.form("sure").submit(browser, role=role)
    assert (members.role_of(project, user) or "") == role
    shown = see(browser, after.url)
    assert not [form for form in shown.forms if form.action.endswith("/undo")]


def test_an_admin_who_owns_the_organization_or_raises_another_role_is_not_asked(console, world):
    members.set_role(world.owner.actor, world.projects["demo"], world.owner.user, ProjectRole.ADMIN)
    browser = console("owner")
    for email, role in (("owner@acme.test", "reader"), ("reader@acme.test", "admin"), ("admin@acme.test", "reader")):
        form = see(browser, "/projects/demo/members").form("role", email=email)
        assert form.submit(browser, role=role).status_code == 302


@pytest.mark.parametrize("role", ["member", ""])
def test_an_owner_who_gives_up_the_own_role_is_asked(console, world, role):
    acme, browser = world.projects["demo"].organization, console("owner")
    organizations.add_user(acme, "second@acme.test", role=OrganizationRole.OWNER)
    there = "/organizations/acme/"
    if role:
        answer = see(browser, there).form("role", email="owner@acme.test").submit(browser, role=role)
        question = Page(answer.content.decode(), there)
    else:
        question = see(browser, f"{there}remove?email=owner@acme.test")
    assert question.headings == ["Give up your role as an owner of acme?"]
    assert "These people can give the role back: second@acme.test." in question.text
    held = OrganizationMembership.objects.filter(organization=acme, user=world.owner.user)
    assert held.get().role == "owner"
    see(browser, question.form("sure").submit(browser, role=role).url)
    assert [each.role for each in held.all()] == ([role] if role else [])


def test_last_owner_cannot_give_up_the_role(console, world):
    browser = console("owner")
    answer = see(browser, "/organizations/acme/").form("role", email="owner@acme.test").submit(browser, role="member")
    question = Page(answer.content.decode(), "/organizations/acme/")
    assert "You are the last owner: make another member an owner first." in question.text
    assert not question.form("sure").buttons


def test_later_changed_role_is_not_undone(console, world):
    browser = console("admin")
    after = press(browser, see(browser, MEMBERS), email="member@acme.test", role="reader")
    assert "member@acme.test is now Reader." in after.text
    members.set_role(world.owner.actor, world.projects["demo"], world.member.user, ProjectRole.ADMIN)
    assert "another user has changed the role since" in undo(browser, after).text
    assert members.role_of(world.projects["demo"], world.member.user) == ProjectRole.ADMIN


def test_undoing_a_project_role_restores_the_repository_role(console, world):
    browser, web = console("admin"), world.repository("web")
    after = press(browser, see(browser, f"{MEMBERS}/add"), email="viewer@acme.test", role="reader")
    assert "viewer@acme.test has been added to demo as Reader." in after.text
    assert repositories.role_of(web, world.viewer.user) is None
    undo(browser, after)
    assert members.role_of(web.project, world.viewer.user) is None
    assert repositories.role_of(web, world.viewer.user) == RepositoryRole.VIEWER


def test_readers_and_members_cannot_undo_project_roles(console, world):
    event = members.set_role(world.admin.actor, world.projects["demo"], world.stranger.user, ProjectRole.READER)
    assert console("reader").post(f"/projects/demo/audit-log/{event.pk}/undo").status_code == 403
    refused = console("member").post(f"/projects/demo/audit-log/{event.pk}/undo", follow=True).content.decode()
    assert "only an admin of the project may change the roles in it" in refused
    assert members.role_of(world.projects["demo"], world.stranger.user) == ProjectRole.READER


def test_events_of_other_projects_are_not_undone(console, world):
    event = members.set_role(world.owner.actor, world.projects["lab"], world.stranger.user, ProjectRole.READER)
    assert console("owner").post(f"/projects/demo/audit-log/{event.pk}/undo").status_code == 404


def test_removing_a_role_on_a_repository_asks_and_is_undone(console, world):
    browser, web = console("member"), world.repository("web")
    page = see(browser, f"{PERMISSIONS}/remove?email=pusher@acme.test")
    assert "The role Repository Member ends: no more pushing and pulling." in page.text
    assert "1 access key stops working here: tests, never used" in page.text
    after = press(browser, page, role="")
    assert "pusher@acme.test has no role on web any more." in after.text
    assert repositories.role_of(web, world.pusher.user) is None
    undo(browser, after)
    assert repositories.role_of(web, world.pusher.user) == RepositoryRole.MEMBER


def test_removing_a_person_from_the_organization_first_lists_the_ending_roles(console, world, used):
    browser = console("owner")
    page = see(browser, f"{ACME}remove?email=member@acme.test")
    assert page.headings == ["Remove member@acme.test from acme?"]
    assert "These roles end: demo: Member" in page.text
    assert "tests, last used 5 h ago from 10.0.3.7" in page.text
    pusher = see(browser, f"{ACME}remove?email=pusher@acme.test")
    assert "These roles end: demo/web: Member" in pusher.text


@pytest.mark.parametrize("name", ["member", "pusher", "viewer"])
def test_undoing_a_removal_restores_every_role(console, world, name):
    browser, user, web = console("owner"), world.people[name].user, world.repository("web")
    held = members.role_of(web.project, user), repositories.role_of(web, user)
    after = press(browser, see(browser, f"{ACME}remove?email={name}@acme.test"), role="")
    assert f"{name}@acme.test has been removed from acme." in after.text
    assert (members.role_of(web.project, user), repositories.role_of(web, user)) == (None, None)
    back = undo(browser, after)
    assert f"{name}@acme.test has the former roles again." in back.text
    assert OrganizationMembership.objects.get(user=user).role == OrganizationRole.MEMBER
    assert (members.role_of(web.project, user), repositories.role_of(web, user)) == held
    assert f"{name}@acme.test is a member already." in undo(browser, after).text


def test_a_role_in_the_organization_is_undone(console, world):
    browser = console("owner")
    after = press(browser, see(browser, ACME), email="member@acme.test", role="owner")
    assert "member@acme.test is now Owner." in after.text
    undo(browser, after)
    assert OrganizationMembership.objects.get(user=world.member.user).role == OrganizationRole.MEMBER


def test_only_owners_undo_changes_in_the_organization(console, world):
    event = members.set_organization_role(
        world.owner.actor, world.projects["demo"].organization, world.member.user, OrganizationRole.OWNER
    )
    for name, status in (("admin", 403), ("outsider", 404)):
        assert console(name).post(f"{ACME}undo/{event.pk}").status_code == status
    assert console("owner").post(f"{ACME}undo/{event.pk + 1}").status_code == 404
    assert OrganizationMembership.objects.get(user=world.member.user).role == OrganizationRole.OWNER


def test_page_of_a_person_shows_roles_in_projects_that_the_viewer_may_see(console, world):
    members.set_role(world.owner.actor, world.projects["lab"], world.member.user, ProjectRole.READER)
    there = f"{ACME}person?email=member@acme.test"
    owner = see(console("owner"), there)
    assert [row["Project or repository"] for row in owner.table("Project or repository")] == ["demo", "lab"]
    assert world.member.key.identifier in owner.text
    reader = see(console("reader"), there)
    assert [row["Project or repository"] for row in reader.table("Project or repository")] == ["demo"]
    assert world.member.key.identifier not in reader.text
    assert "Last seen" not in reader.text
    stranger = see(console("stranger"), there)
    assert "No role in a project that you can see." in stranger.text
    assert console("owner").get(f"{ACME}person?email=outsider@other.test").status_code == 404


def test_an_admin_sees_the_keys_of_a_person_that_act_in_their_projects(console, world, used):
    lab = make_key(world.member.user, "of lab", project=world.projects["lab"]).key
    demo = make_key(world.member.user, "of demo", project=world.projects["demo"]).key
    there = f"{ACME}person?email=member@acme.test"
    rows = {row["Key"].split()[0]: row for row in see(console("admin"), there).table("Key", "Acts in")}
    assert set(rows) == {"tests", "of"}
    assert all(row["Acts in"] == "demo" for row in rows.values())
    assert "10.0.3.7" in rows["tests"]["Last used"]
    page = see(console("admin"), rows["of"]["Key"].links[0].href)
    assert page.path == f"/projects/demo/keys/{demo.identifier}"
    assert f"/projects/demo/keys/{demo.identifier}/revoke" in {link.href for link in page.links}
    assert f"{ACME}person?email=member%40acme.test" in {link.href for link in page.links}, "the holder"
    assert lab.identifier not in see(console("admin"), there).text
    members.set_role(world.owner.actor, world.projects["lab"], world.admin.user, ProjectRole.ADMIN)
    both = see(console("admin"), there)
    assert lab.identifier not in both.text, "its holder has no role in lab"
    for person in ("reader", "member", "stranger"):
        assert demo.identifier not in see(console(person), there).text


def test_a_leaked_key_from_the_list_to_its_undo_in_three_clicks(console, docker, world):
    docker("pusher").push("web/app", "1.0")
    browser = console("owner")
    listed = see(browser, f"{ACME}keys").table("Key", "Holder")
    (row,) = [row for row in listed if world.pusher.key.identifier in row["Key"]]
    key = see(browser, row["Actions"].links[0].href)
    assert "pusher@acme.test" in key.text
    assert [link.text.strip() for link in key.links if link.href.endswith("/revoke")] == ["Revoke …"]
    (project,) = [link.href for link in key.links if link.href.startswith("/projects/demo/keys/")]
    assert "demo: 2 changes" in key.text
    undoing = see(browser, project)
    assert "remove demo/web/app:1.0" in undoing.text
    (undo_all,) = [link.href for link in undoing.links if "/undo?who=" in link.href]
    assert "Undo all this" in see(browser, undo_all).text
    assert "It changed nothing" in see(browser, f"{ACME}keys/{world.viewer.key.identifier}").text


@pytest.mark.parametrize(("name", "may"), [("pusher", "push pull"), ("viewer", "pull")])
def test_user_with_a_repository_role_sees_only_its_address(console, docker, world, name, may):
    docker("member").push("web/secret-image", "1.0")
    page = see(console(name), "/")
    (row,) = page.table("Repository", "Address of an image")
    assert (row["Repository"], row["May"]) == ("demo/web", may)
    assert "localhost:8080/demo/web/IMAGE:TAG" in row["Address of an image"]
    assert row["Since"].endswith("system")
    assert "/profile/keys/new" in {link.href for link in page.links}
    assert "secret-image" not in page.text
    assert "fixed" not in page.text


def test_repositories_of_a_visible_project_are_not_listed_separately(console, world):
    for name in ("owner", "reader", "stranger"):
        assert "use with docker" not in see(console(name), "/?all=1").text
    repositories.set_role(world.owner.actor, world.repository("secret"), world.reader.user, RepositoryRole.VIEWER)
    assert "lab/secret" in see(console("reader"), "/").text


def test_signing_in_opens_the_only_project(console, world):
    answer = console("member").get("/", headers={"Referer": "http://localhost:8080/sign-in"})
    assert answer.url == "/projects/demo/"
