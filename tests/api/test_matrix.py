"""Who may do what at the management API: every operation for every person. ROWS is the specification.

An operation without a row fails. So does a changing route of the console without a partner here (PARTNERS).
"""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from accounts import issuers, organizations
from accounts.actors import SYSTEM
from accounts.models import AccessKey, FederatedSession, IssuerKind, Organization, OrganizationRole, Project
from api import openapi
from registry import members, service_accounts, trash
from registry.models import CleanupRun, Collection, Event
from registry.oci.names import ImageName
from scanning import acceptances
from scanning.models import Scan
from tests.console.test_matrix import PEOPLE, ROLES, console_routes
from tests.support.database import rolled_back
from tests.support.factories import subscribe
from tests.support.issuers import SigningKey
from tests.support.personas import make_key

from .conftest import ApiClient, basic

PERSONAL, VIEW, MANAGE, ADMINISTER = "personal", "view", "manage", "administer"
MEMBER, OWNER, OPERATOR = "member of the organization", "owner of the organization", "operator"
NEW_KEY = {"name": "x"}
LATER = "2099-01-01T00:00:00Z"
# operation: who may do it, the body, the status when it is done
ROWS: dict[tuple[str, str], tuple[str, object, int]] = {
    ("GET", "root"): (PERSONAL, None, 200),
    ("GET", "search"): (PERSONAL, None, 200),
    ("GET", "keys"): (PERSONAL, None, 200),
    ("POST", "keys"): (PERSONAL, NEW_KEY, 201),
    ("GET", "key"): (PERSONAL, None, 200),
    ("DELETE", "key"): (PERSONAL, None, 204),
    ("POST", "key_restore"): (PERSONAL, None, 409),
    ("GET", "uploads"): (PERSONAL, None, 200),
    ("GET", "upload"): (PERSONAL, None, 404),
    ("DELETE", "upload"): (PERSONAL, None, 404),
    ("GET", "doctor"): (OPERATOR, None, 404),
    ("POST", "doctor"): (OPERATOR, None, 202),
    ("GET", "organizations"): (PERSONAL, None, 200),
    ("GET", "organization"): (MEMBER, None, 200),
    ("GET", "people"): (MEMBER, None, 200),
    ("GET", "person"): (MEMBER, None, 200),
    ("PUT", "person"): (OWNER, {"role": "owner"}, 200),
    ("DELETE", "person"): (OWNER, None, 204),
    ("GET", "invitations"): (OWNER, None, 200),
    ("POST", "invitations"): (OWNER, {"email": "new@acme.test"}, 201),
    ("GET", "invitation"): (OWNER, None, 200),
    ("DELETE", "invitation"): (OWNER, None, 204),
    ("GET", "organization_events"): (OWNER, None, 200),
    ("POST", "organization_event_undo"): (OWNER, None, 200),
    ("GET", "organization_keys"): (OWNER, None, 200),
    ("GET", "organization_key"): (OWNER, None, 200),
    ("DELETE", "organization_key"): (OWNER, None, 204),
    ("POST", "organization_key_restore"): (OWNER, None, 409),
    ("POST", "organization_key_rotate"): (OWNER, {}, 200),
    ("POST", "organization_key_end_former"): (OWNER, None, 200),
    ("GET", "issuers"): (OWNER, None, 200),
    ("POST", "issuers"): (OWNER, {"kind": "generic", "url": "https://issuer.invalid", "jwks": {"keys": []}}, 409),
    ("GET", "issuer"): (OWNER, None, 200),
    ("DELETE", "issuer"): (OWNER, None, 409),
    ("PUT", "issuer_keys"): (OWNER, {"jwks": {"keys": []}}, 409),
    ("POST", "issuer_fetch"): (OWNER, None, 409),
    **{
        (method, f"{of}{route}"): (OWNER if of and kind != VIEW else MEMBER if of else kind, body, status)
        for of in ("", "organization_")
        for method, route, kind, body, status in (
            ("GET", "service_accounts", ADMINISTER if of else VIEW, None, 200),
            ("GET", "service_account", VIEW, None, 200),
            ("PUT", "service_account", ADMINISTER, {"description": "x"}, 200),
            ("PATCH", "service_account", ADMINISTER, {"description": "x"}, 200),
            ("DELETE", "service_account", ADMINISTER, None, 204),
            ("POST", "service_account_restore", ADMINISTER, None, 409),
            ("GET", "service_account_keys", ADMINISTER, None, 200),
            ("POST", "service_account_keys", ADMINISTER, NEW_KEY, 201),
            ("GET", "trust_rules", ADMINISTER, None, 200),
            ("POST", "trust_rules", ADMINISTER, {"name": "x", "issuer": 0, "claims": {}}, 422),
            ("POST", "trust_rules_try", ADMINISTER, {"token": "none"}, 200),
            ("GET", "trust_rule", ADMINISTER, None, 200),
            ("DELETE", "trust_rule", ADMINISTER, None, 204),
            ("POST", "trust_rule_restore", ADMINISTER, None, 409),
            ("POST", "trust_rule_unpin", ADMINISTER, None, 200),
            ("GET", "sessions", ADMINISTER, None, 200),
            ("GET", "session", ADMINISTER, None, 200),
            ("DELETE", "session", ADMINISTER, None, 204),
        )
    },
    ("POST", "project_key_rotate"): (ADMINISTER, {}, 200),
    ("POST", "project_key_end_former"): (ADMINISTER, None, 200),
    ("GET", "projects"): (PERSONAL, None, 200),
    ("GET", "project"): (VIEW, None, 200),
    ("PUT", "project"): (ADMINISTER, {"description": "x"}, 200),
    ("PATCH", "project"): (ADMINISTER, {"description": "x"}, 200),
    ("GET", "usage"): (VIEW, None, 200),
    ("GET", "repositories"): (VIEW, None, 200),
    ("GET", "repository"): (VIEW, None, 200),
    ("PUT", "repository"): (MANAGE, {"description": "x"}, 200),
    ("PATCH", "repository"): (MANAGE, {"description": "x"}, 200),
    ("DELETE", "repository"): (MANAGE, None, 200),
    ("GET", "images"): (VIEW, None, 200),
    ("GET", "image"): (VIEW, None, 200),
    ("PUT", "image"): (MANAGE, {"description": "x"}, 200),
    ("PATCH", "image"): (MANAGE, {"description": "x"}, 200),
    ("DELETE", "image"): (MANAGE, None, 200),
    ("GET", "tags"): (VIEW, None, 200),
    ("GET", "tag"): (VIEW, None, 200),
    ("PUT", "tag"): (MANAGE, {"digest": "{digest}"}, 200),
    ("DELETE", "tag"): (MANAGE, None, 200),
    ("GET", "tag_history"): (VIEW, None, 200),
    ("GET", "manifests"): (VIEW, None, 200),
    ("GET", "manifest"): (VIEW, None, 200),
    ("DELETE", "manifest"): (MANAGE, None, 200),
    ("GET", "vulnerabilities"): (VIEW, None, 200),
    ("GET", "sbom"): (VIEW, None, 200),
    ("POST", "manifest_scans"): (MANAGE, None, 202),
    ("GET", "repository_roles"): (VIEW, None, 200),
    ("GET", "repository_role"): (VIEW, None, 200),
    ("PUT", "repository_role"): (MANAGE, {"role": "member"}, 200),
    ("DELETE", "repository_role"): (MANAGE, None, 204),
    ("GET", "tag_rules"): (VIEW, None, 200),
    ("PUT", "tag_rules"): (ADMINISTER, {"rules": [{"patterns": ["v*"]}]}, 200),
    ("POST", "tag_rules_preview"): (ADMINISTER, {"rules": [{"patterns": ["v*"]}]}, 200),
    ("GET", "repository_tag_rules"): (VIEW, None, 200),
    ("PUT", "repository_tag_rules"): (MANAGE, {"rules": [{"patterns": ["v*"]}]}, 200),
    ("POST", "repository_tag_rules_preview"): (MANAGE, {"rules": [{"patterns": ["v*"]}]}, 200),
    ("GET", "cleanup_policy"): (VIEW, None, 404),
    ("PUT", "cleanup_policy"): (MANAGE, {"tag_days": 30}, 201),
    ("POST", "cleanup_preview"): (MANAGE, {"tag_days": 30}, 200),
    ("GET", "cleanup_runs"): (VIEW, None, 200),
    ("POST", "cleanup_runs"): (MANAGE, None, 404),
    ("GET", "cleanup_run"): (VIEW, None, 200),
    ("PATCH", "cleanup_run"): (MANAGE, {"state": "dismissed"}, 200),
    ("POST", "repository_scans"): (MANAGE, None, 202),
    ("GET", "openvex"): (VIEW, None, 200),
    ("GET", "members"): (VIEW, None, 200),
    ("GET", "member"): (VIEW, None, 200),
    ("PUT", "member"): (ADMINISTER, {"role": "member"}, 200),
    ("DELETE", "member"): (ADMINISTER, None, 204),
    ("GET", "project_keys"): (ADMINISTER, None, 200),
    ("GET", "project_key"): (ADMINISTER, None, 200),
    ("DELETE", "project_key"): (ADMINISTER, None, 204),
    ("POST", "project_key_restore"): (ADMINISTER, None, 409),
    ("GET", "scans"): (VIEW, None, 200),
    ("POST", "scans"): (MANAGE, {}, 202),
    ("DELETE", "scans"): (MANAGE, None, 200),
    ("GET", "scan"): (VIEW, None, 200),
    ("GET", "acceptances"): (VIEW, None, 200),
    ("POST", "acceptances"): (MANAGE, {"vulnerability": "CVE-2026-2", "reason": "x"}, 201),
    ("GET", "acceptance"): (VIEW, None, 200),
    ("DELETE", "acceptance"): (MANAGE, None, 204),
    ("GET", "notifications"): (VIEW, None, 200),
    ("POST", "notifications"): (ADMINISTER, {"channel": "mail", "recipients": ["reader@acme.test"]}, 201),
    ("GET", "notification"): (VIEW, None, 200),
    ("PATCH", "notification"): (ADMINISTER, {"is_active": False}, 200),
    ("DELETE", "notification"): (ADMINISTER, None, 204),
    ("POST", "notification_test"): (ADMINISTER, None, 202),
    ("POST", "notification_secret"): (ADMINISTER, None, 422),
    ("GET", "deliveries"): (VIEW, None, 200),
    ("POST", "delivery_again"): (ADMINISTER, None, 202),
    ("GET", "deletions"): (VIEW, None, 200),
    ("GET", "deletion"): (VIEW, None, 200),
    ("PATCH", "deletion"): (MANAGE, {"hold": True}, 200),
    ("DELETE", "deletion"): (ADMINISTER, None, 204),
    ("POST", "restore"): (MANAGE, {}, 200),
    ("GET", "events"): (VIEW, None, 200),
    ("GET", "changes"): (VIEW, None, 200),
    ("POST", "event_undo"): (MANAGE, {}, 200),
    ("POST", "undo"): (MANAGE, {"user": "member@acme.test", "since": "2026-01-01T00:00:00Z", "dry_run": True}, 200),
    ("GET", "garbage_collections"): (VIEW, None, 200),
    ("POST", "garbage_collections"): (MANAGE, None, 202),
    ("GET", "garbage_collection"): (VIEW, None, 200),
    ("POST", "garbage_collection_stop"): (MANAGE, None, 202),
}
QUERIES = {"search": "?q=app"}

# For each route of the console that changes something, the operation that does the same; or why there is none.
PEOPLE_ONLY = "a person does this for themselves, in a browser"
PARTNERS: dict[str, tuple[str, str] | str] = {
    **dict.fromkeys(("sign_in", "sign_out", "forgotten", "password_link", "new_password", "password"), PEOPLE_ONLY),
    **dict.fromkeys(("invitation", "invitation_link", "unsubscribe", "confirm_notifications"), PEOPLE_ONLY),
    **dict.fromkeys(("language", "appearance", "profile", "sessions"), PEOPLE_ONLY),
    "organization": ("PUT", "person"),
    "invite": ("POST", "invitations"),
    "organization_remove": ("DELETE", "person"),
    "organization_undo_event": ("POST", "organization_event_undo"),
    "organization_key": ("DELETE", "organization_key"),
    "organization_key_revoke": ("DELETE", "organization_key"),
    "organization_key_rotate": ("POST", "organization_key_rotate"),
    "project_key_rotate": ("POST", "project_key_rotate"),
    **{
        f"{of}{page}": (method, f"{of}{route}")
        for of in ("", "organization_")
        for page, method, route in (
            ("service_account", "PATCH", "service_account"),
            ("service_account_new", "PUT", "service_account"),
            ("service_account_edit", "PUT", "service_account"),
            ("service_account_delete", "DELETE", "service_account"),
            ("service_account_key_new", "POST", "service_account_keys"),
            ("service_account_rules", "DELETE", "trust_rule"),
            ("service_account_rule_new", "POST", "trust_rules"),
        )
    },
    "organization_issuers": ("POST", "issuer_fetch"),
    "organization_issuer_new": ("POST", "issuers"),
    "organization_issuer_keys": ("PUT", "issuer_keys"),
    **dict.fromkeys(("tag_rule", "tag_rule_new", "tag_rules"), ("PUT", "tag_rules")),
    **dict.fromkeys(
        ("repository_tag_rule", "repository_tag_rule_new", "repository_tag_rules"), ("PUT", "repository_tag_rules")
    ),
    "doctor": ("POST", "doctor"),
    "uploads": ("DELETE", "upload"),
    "keys": ("DELETE", "key"),
    "key_revoke": ("DELETE", "key"),
    "key_new": ("POST", "keys"),
    "project_new": ("PUT", "project"),
    "project_settings": ("PATCH", "project"),
    "repository_new": ("PUT", "repository"),
    "repository_settings": ("PUT", "repository"),
    "repository_delete": ("DELETE", "repository"),
    "permissions": ("PUT", "repository_role"),
    "permission_add": ("PUT", "repository_role"),
    "permission_remove": ("DELETE", "repository_role"),
    "cleanup": ("PUT", "cleanup_policy"),
    "cleanup_run": ("PATCH", "cleanup_run"),
    "repository_scan": ("POST", "repository_scans"),
    "images_delete": ("DELETE", "image"),
    "image_delete": ("DELETE", "image"),
    "image_settings": ("PUT", "image"),
    "tag_add": ("PUT", "tag"),
    "tags_delete": ("DELETE", "tag"),
    "manifests_delete": ("DELETE", "manifest"),
    "manifest_delete": ("DELETE", "manifest"),
    "vulnerabilities": ("POST", "manifest_scans"),
    "vulnerability_accept": ("POST", "acceptances"),
    "scans": ("POST", "scans"),
    "acceptances": ("DELETE", "acceptance"),
    "acceptance_withdraw": ("DELETE", "acceptance"),
    "undo": ("POST", "undo"),
    "undo_event": ("POST", "event_undo"),
    "restore": ("POST", "restore"),
    "purge": ("DELETE", "deletion"),
    "hold": ("PATCH", "deletion"),
    "garbage_collection": ("POST", "garbage_collections"),
    "members": ("PUT", "member"),
    "member_add": ("PUT", "member"),
    "member_remove": ("DELETE", "member"),
    "project_key": ("DELETE", "project_key"),
    "project_key_revoke": ("DELETE", "project_key"),
    **dict.fromkeys(("notification_new", "repository_notification_new"), ("POST", "notifications")),
    **dict.fromkeys(("notification", "repository_notification"), ("PATCH", "notification")),
    **dict.fromkeys(("notification_edit", "repository_notification_edit"), ("PATCH", "notification")),
    **dict.fromkeys(("notification_secret", "repository_notification_secret"), ("POST", "notification_secret")),
    **dict.fromkeys(("delivery", "repository_delivery"), ("POST", "delivery_again")),
}
# Routes of the console that only show something.
SHOWN = {
    "public_repository",
    "public_image",
    "home",
    "search",
    "suggestions",
    "cve",
    "cve_csv",
    "activity",
    "organization_audit_log",
    "organization_audit_log_csv",
    "organization_keys",
    "service_accounts",
    "service_account_ci",
    "organization_service_accounts",
    "organization_service_account_ci",
    "person",
    "overview",
    "repositories",
    "images",
    "scans_log",
    "audit_log",
    "audit_log_csv",
    "recovery",
    "project_keys",
    "notifications",
    "usage",
    "repository",
    "repository_commands",
    "repository_audit_log",
    "repository_audit_log_csv",
    "repository_recovery",
    "repository_notifications",
    "openvex",
    "image",
    "untagged",
    "tag_history",
    "image_audit_log",
    "image_audit_log_csv",
    "image_recovery",
    "image_commands",
    "manifest",
    "compare",
    "vulnerabilities_csv",
    "vulnerabilities_json",
    "sbom",
}


def operations() -> list[tuple[str, str]]:
    return [(method, name) for _route, _path, name, view in openapi.routes() for method in view().allowed()]


def test_every_operation_has_a_row():
    assert sorted(operations()) == sorted(ROWS)


def test_every_changing_route_of_the_console_has_a_partner():
    assert set(console_routes()) == SHOWN | set(PARTNERS)
    assert not SHOWN & set(PARTNERS)
    for route, partner in PARTNERS.items():
        assert isinstance(partner, str) or partner in ROWS, route


def test_an_operation_without_a_declaration_is_refused():
    for _route, _path, name, view in openapi.routes():
        for method in view().allowed():
            declared = getattr(view, method.lower()).operation
            kind = ROWS[method, name][0]
            assert declared.is_operator == (kind == OPERATOR)
            if (method, name) == ("PUT", "project"):
                assert declared.action is None
            elif view_path(name).startswith("/api/v1/organizations/{organization}"):
                assert declared.organization == {MEMBER: "member", OWNER: "owner"}[kind]
            else:
                assert (declared.action is None) == (kind in {PERSONAL, OPERATOR})


def view_path(name: str) -> str:
    (found,) = {path for _route, path, each, _view in openapi.routes() if each == name}
    return found


@pytest.fixture
def address(scanned, world):
    """Return the path and the body of an operation on things that exist."""
    name = ImageName("demo", "web", "app")
    member, demo, web = world.member.actor, world.projects["demo"], world.repository("web")
    machines = {"": machine(demo, "ci"), "organization": machine(demo.organization, "mirror")}
    organizations.invite(SYSTEM, demo.organization, "guest@acme.test", OrganizationRole.MEMBER)
    members.set_organization_role(SYSTEM, demo.organization, world.stranger.user, OrganizationRole.OWNER)
    changed = members.set_organization_role(SYSTEM, demo.organization, world.stranger.user, OrganizationRole.MEMBER)
    deletion = trash.delete_references(member, web, name, ["latest"])
    notification = subscribe(demo)
    words = {
        "organization": "acme",
        "upload": "00000000-0000-4000-8000-000000000000",
        "project": "demo",
        "repository": "web",
        "image": "app",
        "tag": "1.0",
        "digest": scanned["first"],
        "deletion": deletion.pk,
        "run": CleanupRun.objects.create(repository=web, state="held").pk,
        "scan": Scan.objects.filter(project=demo).latest("pk").pk,
        "event": Event.objects.filter(project=demo, action="tag.move").latest("pk").pk,
        "acceptance": acceptances.accept(member, demo, "CVE-2026-2", reason="none").pk,
        "notification": notification.pk,
        "delivery": notification.deliveries.create(state="sent").pk,
    }
    collection = Collection.objects.create(project=demo, requested_by="x", state="done").pk
    paths = {each: path for _route, path, each, _view in openapi.routes()}

    def make(method: str, route: str, person: str):
        emails = {
            "member": "reader@acme.test",
            "repository_role": "viewer@acme.test",
            "person": "member@acme.test",
            "invitation": "guest@acme.test",
        }
        own = world.people[person].key if route in {"key", "key_restore"} else world.reader.key
        more = {"email": emails.get(route, ""), "identifier": own.identifier}
        home = "organization" if "{organization}" in paths[route] else ""
        if "{account}" in paths[route] or "{issuer}" in paths[route] or route.endswith(("_rotate", "_end_former")):
            more |= machines[home] | ({"identifier": machines[home]["session"]} if "session" in route else {})
        more |= {"event": changed.pk} if home else {}
        more |= {"run": collection} if "garbage" in route else {}
        body = ROWS[method, route][1]
        if body == {"digest": "{digest}"}:
            body = {"digest": scanned["first"]}
        return paths[route].format(**words | more) + QUERIES.get(route, ""), body

    return make


def machine(owner: Project | Organization, name: str) -> dict[str, object]:
    """A service account with a key, an issuer, a trust rule and a session: parameters of paths."""
    account = service_accounts.create(SYSTEM, owner, name)
    made = service_accounts.make_key(SYSTEM, account, "runner").key
    organization = account.organization
    jwks = json.dumps({"keys": [SigningKey().jwk]})
    issuer = issuers.create(SYSTEM, organization, IssuerKind.GENERIC, f"https://{name}.invalid", keys=jwks)
    rule = service_accounts.add_trust_rule(SYSTEM, account, issuer, "main", {"sub": "job"})
    ends = timezone.now() + timedelta(hours=1)
    key = AccessKey.objects.create(user=account, name="main", identifier=f"KCRT{name}", expires_at=ends)
    FederatedSession.objects.create(key=key, rule=rule, token_hash=name, is_exchanged=True)
    found = {"account": name, "issuer": issuer.pk, "rule": rule.pk}
    return found | {"identifier": made.identifier, "session": key.identifier}


@pytest.mark.parametrize("person", PEOPLE)
def test_every_operation_by_every_person(world, address, person):
    client = ApiClient(basic(make_key(world.people[person].user, "api", management=True)))
    wrong = {}
    for (method, route), (kind, _body, good) in ROWS.items():
        path, body = address(method, route, person)
        with rolled_back():
            answer = client.ask(method, path, body)
        expected = good
        if kind in ROLES:
            expected = 404 if person not in ROLES[VIEW] else good if person in ROLES[kind] else 403
        elif kind in {MEMBER, OWNER}:
            expected = 404 if person == "outsider" else good if kind == MEMBER or person == "owner" else 403
        elif kind == OPERATOR:
            expected = 404
        if (method, route) == ("PUT", "project") and person not in ROLES[VIEW]:
            expected = 422  # a project of this ID is to be made, without an organization
        if (method, route) == ("DELETE", "project_key") and person == "admin":
            expected = 403  # the key is not limited to the project
        if (method, route) == ("POST", "project_key_restore") and person == "admin":
            expected = 403
        if answer.status_code != expected:
            wrong[f"{method} {route}"] = (answer.status_code, expected, answer.content.decode()[:300])
    assert wrong == {}


def test_a_key_for_the_registry_only_gets_nothing(world, address):
    client = ApiClient(basic(world.owner))
    for method, route in ROWS:
        path, body = address(method, route, "owner")
        with rolled_back():
            assert client.ask(method, path, body, expect=403).json()["code"] == "registry-only"


def test_without_credentials_nothing_is_told(address):
    for method, route in ROWS:
        path, body = address(method, route, "owner")
        ApiClient().ask(method, path, body, expect=401)


def test_a_key_for_the_api_alone_does_not_push_more_than_its_holder(api, world, docker):
    """The option adds the API and nothing at the registry."""
    reader = make_key(world.reader.user, "api", management=True)
    ApiClient(basic(reader)).ask("DELETE", "/api/v1/projects/demo/repositories/web", expect=403)
