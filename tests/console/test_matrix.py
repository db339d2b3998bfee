"""Permissions of every console route for every role.

PAGES is the specification. A route without a row fails, and so does a view without a permission decorator.
"""

from __future__ import annotations

import json
import re

import pytest
from django.urls import URLPattern, URLResolver, get_resolver, resolve, reverse

from accounts import issuers, organizations
from accounts.actors import SYSTEM
from accounts.models import IssuerKind, ProjectRole
from registry import projects, repositories, service_accounts, trash
from registry.models import CleanupRun, Event
from registry.oci.names import ImageName
from scanning import acceptances
from tests.support.database import rolled_back
from tests.support.factories import subscribe
from tests.support.issuers import SigningKey
from tests.support.pages import Page

PUBLIC, PERSONAL, ORGANIZATION, OPERATORS = "public", "personal", "organization", "operators"
VIEW, MANAGE, ADMINISTER = "view", "manage", "administer"
DEMO = {"project": "demo"}
WEB = {"project": "demo", "repository": "web"}
APP = WEB | {"image": "app"}
MACHINE = "key of a service account"
# name: roles that may GET it, the arguments of its address, the status for a manager
PAGES: dict[str, tuple[str, dict[str, object], int]] = {
    "sign_in": (PUBLIC, {}, 200),
    "sign_out": (PUBLIC, {}, 302),
    "forgotten": (PUBLIC, {}, 200),
    "password_link": (PUBLIC, {"uid": "MQ", "token": "none"}, 410),
    "new_password": (PUBLIC, {}, 410),
    "language": (PUBLIC, {}, 302),
    "invitation_link": (PUBLIC, {"token": "none"}, 410),
    "invitation": (PUBLIC, {}, 410),
    "unsubscribe": (PUBLIC, {"token": "none"}, 404),
    "confirm_notifications": (PUBLIC, {"token": "none"}, 404),
    "public_repository": (PUBLIC, WEB, 404),
    "public_image": (PUBLIC, APP, 404),
    "home": (PERSONAL, {}, 200),
    "search": (PERSONAL, {}, 200),
    "suggestions": (PERSONAL, {}, 200),
    "cve": (PERSONAL, {"name": "CVE-2026-0"}, 404),
    "cve_csv": (PERSONAL, {"name": "CVE-2026-0"}, 404),
    "appearance": (PERSONAL, {}, 302),
    "profile": (PERSONAL, {}, 200),
    "doctor": (OPERATORS, {}, 200),
    "password": (PERSONAL, {}, 200),
    "sessions": (PERSONAL, {}, 200),
    "uploads": (PERSONAL, {}, 200),
    "activity": (PERSONAL, {}, 200),
    "keys": (PERSONAL, {}, 200),
    "key_new": (PERSONAL, {}, 200),
    "key_revoke": (PERSONAL, {}, 302),
    "organization": (ORGANIZATION, {"organization": "acme"}, 200),
    "invite": (ORGANIZATION, {"organization": "acme"}, 403),
    "person": (ORGANIZATION, {"organization": "acme"}, 200),
    "organization_remove": (ORGANIZATION, {"organization": "acme"}, 403),
    "organization_undo_event": (ORGANIZATION, {"organization": "acme", "event": 0}, 403),
    "organization_audit_log": (ORGANIZATION, {"organization": "acme"}, 403),
    "organization_audit_log_csv": (ORGANIZATION, {"organization": "acme"}, 403),
    "organization_keys": (ORGANIZATION, {"organization": "acme"}, 403),
    "organization_key_revoke": (ORGANIZATION, {"organization": "acme", "identifier": "KCRK"}, 403),
    "organization_key": (ORGANIZATION, {"organization": "acme", "identifier": "KCRK"}, 403),
    "organization_service_accounts": (ORGANIZATION, {"organization": "acme"}, 403),
    "organization_service_account_new": (ORGANIZATION, {"organization": "acme"}, 403),
    "organization_service_account": (ORGANIZATION, {"organization": "acme", "account": "mirror"}, 200),
    "organization_service_account_edit": (ORGANIZATION, {"organization": "acme", "account": "mirror"}, 403),
    "organization_service_account_delete": (ORGANIZATION, {"organization": "acme", "account": "mirror"}, 403),
    "organization_service_account_key_new": (ORGANIZATION, {"organization": "acme", "account": "mirror"}, 403),
    "organization_service_account_rules": (ORGANIZATION, {"organization": "acme", "account": "mirror"}, 403),
    "organization_service_account_rule_new": (
        ORGANIZATION,
        {"organization": "acme", "account": "mirror", "issuer": 0},
        403,
    ),
    "organization_service_account_ci": (ORGANIZATION, {"organization": "acme", "account": "mirror"}, 403),
    "organization_issuers": (ORGANIZATION, {"organization": "acme"}, 403),
    "organization_issuer_new": (ORGANIZATION, {"organization": "acme"}, 403),
    "organization_issuer_keys": (ORGANIZATION, {"organization": "acme", "issuer": 0}, 403),
    "organization_key_rotate": (ORGANIZATION, {"organization": "acme", "identifier": MACHINE}, 403),
    "project_new": (ORGANIZATION, {"organization": "acme"}, 403),
    "overview": (VIEW, DEMO, 200),
    "repositories": (VIEW, DEMO, 200),
    "repository_new": (MANAGE, DEMO, 200),
    "images": (VIEW, DEMO, 200),
    "scans": (VIEW, DEMO, 200),
    "scans_log": (VIEW, DEMO, 200),
    "acceptances": (VIEW, DEMO, 200),
    "acceptance_withdraw": (MANAGE, DEMO | {"acceptance": 0}, 200),
    "audit_log": (VIEW, DEMO, 200),
    "audit_log_csv": (VIEW, DEMO, 200),
    "undo": (MANAGE, DEMO, 200),
    "undo_event": (MANAGE, DEMO | {"event": 0}, 200),
    "recovery": (VIEW, DEMO, 200),
    "restore": (VIEW, DEMO, 302),
    "purge": (MANAGE, DEMO | {"deletion": 0}, 200),
    "hold": (MANAGE, DEMO | {"deletion": 0}, 302),
    "garbage_collection": (VIEW, DEMO, 200),
    "members": (VIEW, DEMO, 200),
    "member_add": (ADMINISTER, DEMO, 200),
    "member_remove": (ADMINISTER, DEMO, 200),
    "service_accounts": (VIEW, DEMO, 200),
    "service_account_new": (ADMINISTER, DEMO, 200),
    "service_account": (VIEW, DEMO | {"account": "ci"}, 200),
    "service_account_edit": (ADMINISTER, DEMO | {"account": "ci"}, 200),
    "service_account_delete": (ADMINISTER, DEMO | {"account": "ci"}, 200),
    "service_account_key_new": (ADMINISTER, DEMO | {"account": "ci"}, 200),
    "service_account_rules": (ADMINISTER, DEMO | {"account": "ci"}, 200),
    "service_account_rule_new": (ADMINISTER, DEMO | {"account": "ci", "issuer": 0}, 200),
    "service_account_ci": (ADMINISTER, DEMO | {"account": "ci"}, 200),
    "project_key_rotate": (ADMINISTER, DEMO | {"identifier": MACHINE}, 200),
    "project_keys": (ADMINISTER, DEMO, 200),
    "project_key_revoke": (ADMINISTER, DEMO | {"identifier": "KCRK"}, 200),
    "project_key": (ADMINISTER, DEMO | {"identifier": "KCRK"}, 200),
    "notifications": (VIEW, DEMO, 200),
    "notification_new": (ADMINISTER, DEMO, 200),
    "notification": (VIEW, DEMO | {"subscription": 0}, 200),
    "notification_secret": (ADMINISTER, DEMO | {"subscription": 0}, 302),
    "notification_edit": (ADMINISTER, DEMO | {"subscription": 0}, 200),
    "delivery": (ADMINISTER, DEMO | {"subscription": 0, "delivery": 0}, 200),
    "usage": (VIEW, DEMO, 200),
    "project_settings": (VIEW, DEMO, 200),
    "tag_rules": (VIEW, DEMO, 200),
    "tag_rule_new": (ADMINISTER, DEMO, 200),
    "tag_rule": (ADMINISTER, DEMO | {"number": 1}, 200),
    "repository": (VIEW, WEB, 200),
    "repository_commands": (VIEW, WEB, 200),
    "repository_audit_log": (VIEW, WEB, 200),
    "repository_audit_log_csv": (VIEW, WEB, 200),
    "repository_recovery": (VIEW, WEB, 200),
    "repository_settings": (VIEW, WEB, 200),
    "permissions": (VIEW, WEB, 200),
    "permission_add": (MANAGE, WEB, 200),
    "permission_remove": (MANAGE, WEB, 200),
    "repository_notifications": (VIEW, WEB, 200),
    "repository_notification_new": (MANAGE, WEB, 200),
    "repository_notification": (VIEW, WEB | {"subscription": 0}, 200),
    "repository_notification_secret": (MANAGE, WEB | {"subscription": 0}, 302),
    "repository_notification_edit": (MANAGE, WEB | {"subscription": 0}, 200),
    "repository_delivery": (MANAGE, WEB | {"subscription": 0, "delivery": 0}, 200),
    "cleanup": (VIEW, WEB, 200),
    "cleanup_run": (VIEW, WEB | {"run": 0}, 200),
    "repository_tag_rules": (VIEW, WEB, 200),
    "repository_tag_rule_new": (MANAGE, WEB, 200),
    "repository_tag_rule": (MANAGE, WEB | {"number": 1}, 200),
    "repository_scan": (MANAGE, WEB, 302),
    "openvex": (VIEW, WEB, 200),
    "repository_delete": (MANAGE, WEB, 200),
    "images_delete": (MANAGE, WEB, 302),
    "image": (VIEW, APP, 200),
    "untagged": (VIEW, APP, 200),
    "tag_history": (VIEW, APP, 200),
    "image_audit_log": (VIEW, APP, 200),
    "image_audit_log_csv": (VIEW, APP, 200),
    "image_recovery": (VIEW, APP, 200),
    "image_commands": (VIEW, APP, 200),
    "image_settings": (VIEW, APP, 200),
    "tag_add": (MANAGE, APP, 200),
    "tags_delete": (MANAGE, APP, 302),
    "manifests_delete": (MANAGE, APP, 302),
    "image_delete": (MANAGE, APP, 200),
    "manifest": (VIEW, APP | {"reference": "1.0"}, 200),
    "manifest_delete": (MANAGE, APP | {"reference": "1.0"}, 200),
    "vulnerabilities": (VIEW, APP | {"reference": "1.0"}, 200),
    "compare": (VIEW, APP | {"reference": "1.0"}, 200),
    "vulnerabilities_csv": (VIEW, APP | {"reference": "1.0"}, 200),
    "vulnerabilities_json": (VIEW, APP | {"reference": "1.0"}, 200),
    "sbom": (VIEW, APP | {"reference": "1.0"}, 200),
    "vulnerability_accept": (MANAGE, APP | {"reference": "1.0"}, 302),
}
# The query strings of pages about a person.
QUERIES = {
    **dict.fromkeys(("member_remove", "organization_remove", "person"), "?email=member@acme.test"),
    "permission_remove": "?email=viewer@acme.test",
}
# The role that a POST needs, where it is more than for a GET.
POSTS = {
    **dict.fromkeys(
        ("repository_settings", "image_settings", "permissions", "cleanup", "garbage_collection", "restore"), MANAGE
    ),
    **dict.fromkeys(
        ("members", "project_settings", "tag_rules", "notification", "purge", "service_account"), ADMINISTER
    ),
    "repository_tag_rules": MANAGE,
    **dict.fromkeys(("cleanup_run", "repository_notification", "vulnerabilities", "scans", "acceptances"), MANAGE),
}
ROLES = {
    VIEW: {"owner", "admin", "member", "reader"},
    MANAGE: {"owner", "admin", "member"},
    ADMINISTER: {"owner", "admin"},
}
# From least to most permissions.
PEOPLE = ("reader", "pusher", "viewer", "stranger", "outsider", "member", "admin", "owner")


def routes(resolver: URLResolver) -> dict[str, URLPattern]:
    """Every named route below the console."""
    found: dict[str, URLPattern] = {}
    for pattern in resolver.url_patterns:
        if isinstance(pattern, URLResolver):
            found |= routes(pattern)
        elif pattern.name:
            found[pattern.name] = pattern
    return found


def console_routes() -> dict[str, URLPattern]:
    (console,) = (each for each in get_resolver().url_patterns if getattr(each, "namespace", "") == "console")
    return routes(console)


@pytest.fixture
def address(scanned, world):
    """Return the address of a page of existing objects."""
    name = ImageName("demo", "web", "app")
    deletion = trash.delete_references(world.member.actor, world.repository("web"), name, ["latest"])
    run = CleanupRun.objects.create(repository=world.repository("web"), state="held")
    event = Event.objects.filter(project=world.projects["demo"], action="tag.move").latest("pk")
    acceptance = acceptances.accept(world.member.actor, world.projects["demo"], "CVE-2026-2", reason="none")
    ci = service_accounts.create(SYSTEM, world.projects["demo"], "ci", role=ProjectRole.MEMBER)
    service_accounts.create(SYSTEM, world.projects["demo"].organization, "mirror")
    machine = service_accounts.make_key(SYSTEM, ci, "runner").key
    keys, acme = SigningKey().jwk, world.projects["demo"].organization
    issuer = issuers.create(SYSTEM, acme, IssuerKind.GITHUB, "https://ci.test", keys=json.dumps({"keys": [keys]}))
    for change, thing in ((projects.update, world.projects["demo"]), (repositories.update, world.repository("web"))):
        change(SYSTEM, thing, tag_rules=[{"patterns": ["v*"], "mode": "movable"}])
    notices = {}
    for repository in (None, world.repository("web")):
        notice = subscribe(world.projects["demo"], repository)
        notices[repository is None] = {"subscription": notice.pk, "delivery": notice.deliveries.create().pk}

    def make(page: str) -> str:
        words = dict(PAGES[page][1])
        words |= {name: pk for name, pk in notices["repository" not in words].items() if name in words}
        words |= {"deletion": deletion.pk} if "deletion" in words else {}
        words |= {"issuer": issuer.pk} if "issuer" in words else {}
        words |= {"acceptance": acceptance.pk} if "acceptance" in words else {}
        words |= {"run": run.pk} if "run" in words else {}
        words |= {"event": event.pk} if "event" in words else {}
        if "identifier" in words:
            chosen = machine if words["identifier"] == MACHINE else world.member.key
            words["identifier"] = chosen.identifier
        return reverse(f"console:{page}", kwargs=words) + QUERIES.get(page, "")

    return make


def test_every_route_has_a_row_and_says_who_may_see_it():
    found = console_routes()
    assert set(found) == set(PAGES)
    for name, pattern in found.items():
        who = getattr(pattern.callback, "who", None)
        assert who, f"{name} was made by none of the decorators"
        kind = PAGES[name][0]
        assert (who in {"public", "personal"}) == (kind in {PUBLIC, PERSONAL, ORGANIZATION}), name


OF_PROJECTS = sorted(name for name, row in PAGES.items() if row[0] in ROLES)


@pytest.mark.parametrize("person", PEOPLE)
def test_pages_of_a_project(console, address, person, subtests):
    browser = console(person)
    for page in OF_PROJECTS:
        kind, _, good = PAGES[page]
        with subtests.test(page):
            status = browser.get(address(page)).status_code
            if person not in ROLES[VIEW]:
                assert status == 404
            elif person not in ROLES[kind]:
                assert status == 403
            else:
                assert status == good


def test_pages_of_a_project_need_a_sign_in(console, address, subtests):
    for page in OF_PROJECTS:
        with subtests.test(page):
            answer = console(None).get(address(page))
            assert answer.status_code == 302
            assert answer.url.startswith("/sign-in?next=")


@pytest.mark.parametrize("person", PEOPLE)
def test_changes_to_a_project(console, address, person, subtests):
    """An empty POST changes nothing. A user without permission is refused before the form is read."""
    browser = console(person)
    for page in OF_PROJECTS:
        needed = POSTS.get(page, PAGES[page][0])
        with subtests.test(page), rolled_back():  # a few pages are forms of one button
            status = browser.post(address(page)).status_code
            if person not in ROLES[VIEW]:
                assert status == 404
            elif person not in ROLES[needed]:
                assert status == 403
            else:
                assert status in {200, 302, 404}


@pytest.mark.parametrize("page", sorted(name for name, row in PAGES.items() if row[0] == PERSONAL))
def test_pages_of_a_person(console, address, page):
    for person in PEOPLE:
        allowed = {200, 302} if page == "home" else {PAGES[page][2]}  # home opens the only project
        assert console(person).get(address(page)).status_code in allowed
    assert console(None).get(address(page)).url.startswith("/sign-in?next=")


def test_pages_of_operators(console, address, world):
    """Other people get a 404. An operator has no right in projects by that."""
    for person in PEOPLE:
        assert console(person).get(address("doctor")).status_code == 404
        assert console(person).post(address("doctor")).status_code == 404
    assert console(None).get(address("doctor")).url.startswith("/sign-in?next=")
    organizations.set_operator(SYSTEM, world.outsider.user, is_operator=True)
    operator = console("outsider")
    assert operator.get(address("doctor")).status_code == 200
    assert {operator.get(address(page)).status_code for page in OF_PROJECTS} == {404}


@pytest.mark.parametrize("page", sorted(name for name, row in PAGES.items() if row[0] == ORGANIZATION))
def test_pages_of_an_organization(console, address, page):
    for_members = PAGES[page][2]
    for person in PEOPLE:
        owners = 302 if page == "organization_undo_event" else 200
        expected = {"outsider": 404, "owner": owners}.get(person, for_members)
        assert console(person).get(address(page)).status_code == expected, person
    assert console(None).get(address(page)).url.startswith("/sign-in?next=")


@pytest.mark.parametrize("page", sorted(name for name, row in PAGES.items() if row[0] == ORGANIZATION))
def test_changes_to_an_organization(console, address, page):
    for person in PEOPLE:
        with rolled_back():
            status = console(person).post(address(page), {"act": "invite"}).status_code
        expected = {"outsider": {404}, "owner": {200, 302, 404}}.get(person, {403})
        assert status in expected, person


@pytest.mark.parametrize("page", ["repository", "image", "manifest", "permissions", "image_audit_log"])
def test_objects_of_another_project_are_not_found_under_an_own_project(console, docker, world, pushed, page):
    docker("outsider", "rival.kr-central-2.kcr.localhost:8080").push("rivals/theirs", "1")
    words = {"project": "demo", "repository": "rivals", "image": "theirs", "reference": "1"}
    route = console_routes()[page]
    wanted = {name: words[name] for name in re.findall(r"<(?:\w+:)?(\w+)>", "".join(map(str, _parents(route))))}
    assert console("owner").get(reverse(f"console:{page}", kwargs=wanted)).status_code == 404


def _parents(route: URLPattern) -> list[str]:
    order = {"repository": 2, "permissions": 2, "image": 3, "image_audit_log": 3, "manifest": 4}
    return ["<p:project>", "<r:repository>", "<i:image>", "<f:reference>"][: order[route.name]]


@pytest.mark.parametrize("person", ["reader", "member", "admin"])
def test_pages_offer_only_permitted_links_and_forms(console, address, person):
    """Every link of every page opens, and the user may submit every form."""
    browser, seen = console(person), set()
    todo = {address(page) for page, row in PAGES.items() if row[0] in {VIEW, PERSONAL} and row[2] != 404}
    while todo:
        there = todo.pop()
        path = there.partition("?")[0]
        if path in seen or path.startswith("/static/"):
            continue
        seen.add(path)
        answer = browser.get(there)
        assert answer.status_code in {200, 302}, f"{there}: {answer.status_code}"
        if answer.status_code == 302 or "text/html" not in answer.headers["Content-Type"]:
            continue
        page = Page(answer.content.decode(), there)
        todo |= {link.href for link in page.links if link.href.startswith("/")}
        todo |= {form.action for form in page.forms if form.method == "get"}
        for form in page.forms:
            target = resolve(form.action.partition("?")[0])
            if form.method == "post" and target.func.who not in {"public", "personal"}:
                assert person in ROLES[target.func.who], f"{there} offers {form.action}"
