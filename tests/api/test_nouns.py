"""What operations of the management API do, and what they answer about things of others."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import federation, issuers
from accounts.actors import SYSTEM
from accounts.models import AccessKey, AuditEvent, IdempotencyRecord, IssuerKind, Project
from api import openapi
from api.fields import SEVERITIES
from registry import audit, members, repositories, service_accounts, trash, uploads
from registry.doctor import runs
from registry.doctor.results import Result, State, Text
from registry.models import Deletion, Event, Image, Repository
from registry.oci.names import ImageName
from scanning import acceptances
from scanning.models import Acceptance, Subscription
from scanning.notifications import subscriptions
from tests.support.factories import high, make_manifest, make_report
from tests.support.issuers import Issuer, SigningKey
from tests.support.personas import make_key

from .conftest import APP, WEB, ApiClient, basic

DEMO, ACME = "/api/v1/projects/demo", "/api/v1/organizations/acme"


# ── Idempotency-Key ──────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_same_post_twice_acts_once(api):
    client, before = api("member"), AccessKey.objects.count()
    first = client.ask("POST", "/api/v1/keys", {"name": "ci"}, expect=201, Idempotency_Key="one")
    again = client.ask("POST", "/api/v1/keys", {"name": "ci"}, expect=201, Idempotency_Key="one")
    assert AccessKey.objects.count() == before + 1
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["Location"] == first.headers["Location"]
    assert again.json() == first.json() | {"secret": None}
    assert "kcrs_" not in json.dumps(list(IdempotencyRecord.objects.values_list("body", flat=True)))


def test_another_post_with_the_same_key_is_refused(api):
    client = api("member")
    client.ask("POST", "/api/v1/keys", {"name": "ci"}, expect=201, Idempotency_Key="one")
    client.ask("POST", "/api/v1/keys", {"name": "other"}, expect=422, Idempotency_Key="one")
    admin = api("admin")
    admin.ask("POST", f"{DEMO}/tag-rules/preview", {"rules": []}, expect=200, Idempotency_Key="two")
    admin.ask("POST", f"{WEB}/tag-rules/preview", {"rules": []}, expect=422, Idempotency_Key="two")
    api("admin").ask("POST", "/api/v1/keys", {"name": "other"}, expect=201, Idempotency_Key="one")
    client.ask("POST", "/api/v1/keys", {"name": "ci"}, expect=400, Idempotency_Key="x" * 65)


def test_a_refused_post_may_be_sent_again(api, world):
    client = api("member")
    client.ask("POST", f"{DEMO}/undo", {"since": "2026-01-01T00:00:00Z"}, expect=422, Idempotency_Key="one")
    assert not IdempotencyRecord.objects.exists()


def test_a_post_at_work_is_not_begun_again(api, world):
    client = api("member")
    client.ask("POST", "/api/v1/keys", {"name": "ci"}, expect=201, Idempotency_Key="one")
    IdempotencyRecord.objects.update(status=None)
    answer = client.ask("POST", "/api/v1/keys", {"name": "ci"}, expect=409, Idempotency_Key="one")
    assert answer.json()["code"] == "in-use"
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.parametrize(
    ("age", "status", "answer"),
    [
        (timedelta(minutes=4), None, 409),
        (timedelta(minutes=6), None, 201),
        (timedelta(hours=23), 201, 201),
        (timedelta(hours=25), 201, 201),
    ],
)
def test_an_idempotency_key_is_free_after_a_day_or_when_its_process_has_ended(api, age, status, answer):
    client = api("member")
    client.ask("POST", "/api/v1/keys", {"name": "ci"}, expect=201, Idempotency_Key="one")
    IdempotencyRecord.objects.update(status=status, created_at=timezone.now() - age)
    again = client.ask("POST", "/api/v1/keys", {"name": "ci"}, expect=answer, Idempotency_Key="one")
    is_replayed = "Idempotency-Replayed" in again.headers
    assert (is_replayed, AccessKey.objects.filter(name="ci").count()) == {
        409: (False, 1),
        201: (True, 1) if age == timedelta(hours=23) else (False, 2),
    }[answer]


# ── Rules of tags ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_rules_of_tags_are_set_and_previewed(api, pushed):
    admin, member = api("admin"), api("member")
    rule = {"patterns": ["1.*"], "mode": "write-once", "keep": True, "pushers": ["admins"], "locked": True}
    there = f"{DEMO}/tag-rules"
    seen = member.ask("GET", there, expect=200).headers["ETag"]
    made = admin.ask("PUT", there, {"rules": [rule]}, expect=200, If_Match=seen)
    assert made.json() == {"rules": [rule]}
    count = Event.objects.count()
    again = admin.ask("PUT", there, {"rules": [rule]}, expect=200)
    assert (again.headers["ETag"], Event.objects.count()) == (made.headers["ETag"], count)
    admin.ask("PUT", there, {"rules": []}, expect=412, If_Match=seen)
    member.ask("DELETE", f"{APP}/-/tags/1.0", expect=403)  # the rule keeps it
    for wrong in ({"patterns": []}, {"patterns": ["a b"]}, {"patterns": ["v*"], "mode": "frozen"}, {"pattern": "v*"}):
        admin.ask("PUT", there, {"rules": [wrong]}, expect=422)
    own = {"patterns": ["2.*"], "mode": "immutable"}
    member.ask("PUT", f"{WEB}/tag-rules", {"rules": [own | {"locked": True}]}, expect=422)
    answer = member.ask("PUT", f"{WEB}/tag-rules", {"rules": [own]}, expect=200).json()
    assert answer == {"rules": [{**own, "keep": False, "pushers": []}]}
    keep = {"patterns": ["latest"], "keep": True}
    preview = member.ask("POST", f"{WEB}/tag-rules/preview", {"rules": [keep]}, expect=200).json()
    assert [(each["of"], each["number"]) for each in preview["rules"]] == [
        ("demo", 1),
        ("demo/web", 1),
        ("demo/web", 0),
    ]
    assert preview["rules"][0]["tags"] == 1
    assert member.get(f"{WEB}/tag-rules") == answer  # a preview saves nothing
    refused = admin.ask("POST", f"{there}/preview", {"rules": [rule | {"patterns": ["*"]}]}, expect=200).json()
    assert refused["total"] == len(refused["refused"]) > 0


# ── Projects ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_create_on_push_and_the_settings_of_new_repositories_are_set(api, world):
    admin, given = api("admin"), {"visibility": "public", "scan": "manual", "tag_overwrite": False}
    before = admin.ask("GET", DEMO).json()
    assert (before["create_on_push"], before["new_repositories"]) == (
        False,
        {"visibility": "private", "scan": "auto", "tag_overwrite": True},
    )
    after = admin.ask("PATCH", DEMO, {"create_on_push": True, "new_repositories": given}).json()
    assert (after["create_on_push"], after["new_repositories"]) == (True, given)
    for part in ({}, {"scan": given["scan"]}):
        assert admin.ask("PATCH", DEMO, {"new_repositories": part}).json()["new_repositories"] == given
    kept = admin.ask("PATCH", DEMO, {"description": "shop"}).json()
    assert (kept["create_on_push"], kept["new_repositories"]) == (True, given)
    put = admin.ask("PUT", DEMO, {"create_on_push": True}).json()
    assert (put["create_on_push"], put["new_repositories"]) == (True, before["new_repositories"])
    api("owner").ask(
        "PUT", "/api/v1/projects/other-shop", {"organization": "acme", "new_repositories": given}, expect=201
    )
    project = Project.objects.get(name="other-shop")
    assert (project.create_on_push, project.new_is_public, project.new_auto_scan) == (False, True, False)


# ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_made_key_works_and_ends(api):
    client = api("member")
    made = client.ask("POST", "/api/v1/keys", {"name": "ci", "management": True, "project": "demo"}, expect=201)
    other = ApiClient(f"Bearer {made.json()['secret']}")
    assert other.get("/api/v1/")["project"] == "demo"
    client.ask("DELETE", made.headers["Location"], expect=204)
    other.ask("GET", "/api/v1/", expect=401)
    client.ask("POST", f"{made.headers['Location']}/restore", expect=200)
    other.ask("GET", "/api/v1/", expect=200)
    pulls = {"name": "pulls", "actions": ["pull"], "repositories": "demo/web", "networks": "10.0.0.0/8"}
    limited = client.ask("POST", "/api/v1/keys", pulls, expect=201).json()
    assert pulls.items() <= limited.items()
    client.ask("POST", "/api/v1/keys", pulls | {"networks": "x"}, expect=409)
    client.ask("POST", "/api/v1/keys", pulls | {"management": True}, expect=409)


def test_a_limited_key_makes_no_freer_one(api, world):
    demo = world.projects["demo"]
    client = api("member", project=demo)
    client.ask("POST", "/api/v1/keys", {"name": "free"}, expect=403)
    client.ask("POST", "/api/v1/keys", {"name": "same", "project": "demo"}, expect=201)
    near = api("member", networks="127.0.0.0/8")
    near.ask("POST", "/api/v1/keys", {"name": "free"}, expect=403)
    ending = make_key(world.member.user, "ends", management=True)
    AccessKey.objects.filter(pk=ending.key.pk).update(expires_at="2090-01-01T00:00:00Z")
    ends = ApiClient(basic(ending))
    ends.ask("POST", "/api/v1/keys", {"name": "longer"}, expect=403)
    ends.ask("POST", "/api/v1/keys", {"name": "longer", "expires_at": "2091-01-01T00:00:00Z"}, expect=403)
    ends.ask("POST", "/api/v1/keys", {"name": "shorter", "expires_at": "2089-01-01T00:00:00Z"}, expect=201)


def test_keys_of_others_are_not_there(api, world):
    api("member").get(f"/api/v1/keys/{world.admin.key.identifier}", expect=404)
    api("member").ask("POST", "/api/v1/keys", {"name": "x", "project": "rival"}, expect=422)


def test_an_event_names_the_key_that_acted(api, world):
    api("member").ask("PATCH", WEB, {"description": "x"}, expect=200)
    event = Event.objects.latest("pk")
    assert (event.actor, event.key.name) == ("member@acme.test", "api")
    assert AuditEvent.objects.filter(action="key.create", detail__management=True).exists()


# ── Members ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_roles_are_given_and_taken(api, world):
    client, there = api("admin"), f"{DEMO}/members/stranger@acme.test"
    made = client.ask("PUT", there, {"role": "reader"}, expect=201)
    client.ask("PUT", there, {"role": "member"}, expect=412, If_None_Match="*")
    client.ask("PUT", there, {"role": "member"}, expect=200, If_Match=made.headers["ETag"])
    client.ask("DELETE", there, expect=412, If_Match=made.headers["ETag"])
    client.ask("DELETE", there, expect=204)
    client.ask("DELETE", there, expect=404)
    assert members.role_of(world.projects["demo"], world.stranger.user) is None
    client.ask("PUT", f"{DEMO}/members/outsider@other.test", {"role": "reader"}, expect=404)


def test_roles_on_a_repository(api, world):
    client = api("member")
    assert [each["role"] for each in client.get(f"{WEB}/roles")["items"]] == ["member", "viewer"]
    client.ask("PUT", f"{WEB}/roles/stranger@acme.test", {"role": "viewer"}, expect=201)
    client.ask("PUT", f"{WEB}/roles/reader@acme.test", {"role": "viewer"}, expect=403)
    client.ask("DELETE", f"{WEB}/roles/viewer@acme.test", expect=204)
    assert repositories.role_of(world.repository("web"), world.viewer.user) is None


# ── Organizations ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_people_of_an_organization(api, world):
    client = api("owner")
    found = {each["email"]: each["role"] for each in client.get(f"{ACME}/people?limit=500")["items"]}
    assert (found["owner@acme.test"], found["member@acme.test"]) == ("owner", "member")
    assert "outsider@other.test" not in found
    assert [each["name"] for each in api("outsider").get("/api/v1/organizations")["items"]] == ["other"]
    there = f"{ACME}/people/member@acme.test"
    seen = client.ask("GET", there, expect=200).headers["ETag"]
    made = client.ask("PUT", there, {"role": "owner"}, expect=200, If_Match=seen)
    client.ask("PUT", there, {"role": "member"}, expect=412, If_Match=seen)
    client.ask("PUT", there, {"role": "member"}, expect=200, If_Match=made.headers["ETag"])
    client.ask("PUT", f"{ACME}/people/outsider@other.test", {"role": "member"}, expect=404)
    client.ask("DELETE", f"{ACME}/people/owner@acme.test", expect=409)  # the last owner
    client.ask("DELETE", there, expect=204)
    assert members.role_of(world.projects["demo"], world.member.user) is None
    (event,) = client.get(f"{ACME}/events?action=member.remove&person=member@acme.test")["items"]
    undone = client.ask("POST", f"{ACME}/events/{event['id']}/undo", {}, expect=200).json()
    assert [each["problem"] for each in undone["done"]] == [""]
    assert members.role_of(world.projects["demo"], world.member.user) == "member"


def test_people_are_invited(api, world, mailoutbox, django_capture_on_commit_callbacks):
    client, there = api("owner"), f"{ACME}/invitations"
    wanted = {"email": "New@Acme.test", "role": "owner"}
    made = client.ask("POST", there, wanted, expect=201, Idempotency_Key="one")
    assert (made.json()["email"], made.json()["role"]) == ("new@acme.test", "owner")
    again = client.ask("POST", there, wanted, expect=201, Idempotency_Key="one")
    assert again.headers["Idempotency-Replayed"] == "true"
    assert AuditEvent.objects.filter(action="invitation.send").count() == 1
    assert [each["email"] for each in client.get(there)["items"]] == ["new@acme.test"]
    client.ask("POST", there, {"email": "member@acme.test"}, expect=409)
    client.ask("POST", there, {"email": "not an address"}, expect=409)
    client.ask("DELETE", made.headers["Location"], expect=204)
    client.get(made.headers["Location"], expect=404)


def test_a_limited_key_does_nothing_in_organizations(api, world):
    demo = world.projects["demo"]
    for limits in ({"project": demo}, {"repositories": "demo/web"}):
        client = api("owner", **limits)
        client.get(ACME, expect=403)
        client.ask("PUT", f"{ACME}/people/member@acme.test", {"role": "owner"}, expect=403)
        client.ask("PUT", f"{ACME}/service-accounts/x", {}, expect=403)
    near = api("owner", networks="127.0.0.0/8")
    near.get(ACME)
    near.ask("POST", f"{ACME}/issuers", {"kind": "gitlab", "url": "https://gitlab.com"}, expect=403)


# ── Service accounts ─────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(("home", "person"), [(DEMO, "admin"), (ACME, "owner")])
def test_service_accounts(api, world, home, person):
    client, there = api(person), f"{home}/service-accounts/ci"
    wanted = {"description": "builds", "contacts": ["member@acme.test"]}
    made = client.ask("PUT", there, wanted, expect=201, If_None_Match="*")
    count = AuditEvent.objects.count()
    again = client.ask("PUT", there, wanted, expect=200)
    assert (again.headers["ETag"], AuditEvent.objects.count()) == (made.headers["ETag"], count)
    assert again.json() == made.json() == client.get(there)
    client.ask("PUT", there, wanted, expect=412, If_None_Match="*")
    client.ask("PUT", there, wanted | {"contacts": ["outsider@other.test"]}, expect=409)
    changed = client.ask("PATCH", there, {"is_active": False}, expect=200, If_Match=made.headers["ETag"])
    assert changed.json() == made.json() | {"is_active": False}
    client.ask("PATCH", there, {"description": "x"}, expect=412, If_Match=made.headers["ETag"])
    client.ask("PUT", there, wanted, expect=200)
    assert [each["name"] for each in client.get(f"{home}/service-accounts")["items"]] == ["ci"]
    email = made.json()["email"]
    client.ask("PUT", f"{DEMO}/members/{email}", {"role": "member"}, expect=201)
    key = client.ask("POST", f"{there}/keys", {"name": "runner", "actions": ["pull", "push"]}, expect=201)
    assert (key.json()["user"], key.json()["actions"]) == (email, ["pull", "push"])
    assert client.get(key.headers["Location"])["id"] == key.json()["id"]
    client.ask("DELETE", there, expect=204)
    client.get(there, expect=404)
    assert client.get(key.headers["Location"])["state"] == "revoked"
    undone = client.ask("POST", f"{there}/restore", {}, expect=200).json()
    assert len(undone["done"]) == 1
    assert client.get(f"{DEMO}/members/{email}")["role"] == "member"
    assert [each["state"] for each in client.get(f"{there}/keys")["items"]] == ["alive"]


def test_a_key_is_rotated(api, world):
    client = api("admin")
    client.ask("PUT", f"{DEMO}/service-accounts/terraform", {}, expect=201)
    client.ask("PUT", f"{DEMO}/members/terraform@demo.project.invalid", {"role": "reader"}, expect=201)
    there = f"{DEMO}/service-accounts/terraform/keys"
    made = client.ask("POST", there, {"name": "plan", "management": True}, expect=201)
    one, keys = made.headers["Location"], [made.json()["secret"]]
    rotated = client.ask("POST", f"{one}/rotate", {"former_seconds": 3600}, expect=200, Idempotency_Key="one").json()
    again = client.ask("POST", f"{one}/rotate", {"former_seconds": 3600}, expect=200, Idempotency_Key="one").json()
    assert again == rotated | {"secret": None}
    keys.append(rotated["secret"])
    for secret in keys:
        assert ApiClient(f"Bearer {secret}").get(DEMO)["name"] == "demo"
    assert client.get(one)["former_ends_at"] == rotated["former_ends_at"] is not None
    client.ask("POST", f"{one}/rotate", {}, expect=409)  # two secrets work
    client.ask("POST", f"{one}/end-former", {}, expect=200)
    ApiClient(f"Bearer {keys[0]}").ask("GET", DEMO, expect=401)
    ApiClient(f"Bearer {keys[1]}").get(DEMO)
    own = world.member.key.identifier
    client.ask("POST", f"{DEMO}/keys/{own}/rotate", {}, expect=404)  # a person's key
    client.ask("POST", f"{one}/rotate", {"former_seconds": 31 * 86_400}, expect=422)


def test_a_limited_key_makes_no_freer_credentials_of_an_account(api, world):
    admin, demo = api("admin"), world.projects["demo"]
    admin.ask("PUT", f"{DEMO}/service-accounts/ci", {}, expect=201)
    there = f"{DEMO}/service-accounts/ci"
    key = admin.ask("POST", f"{there}/keys", {"name": "runner"}, expect=201).headers["Location"]
    near = api("admin", networks="127.0.0.0/8")
    for path, body in ((f"{there}/keys", {"name": "x"}), (f"{key}/rotate", {})):
        near.ask("POST", path, body, expect=403)
    near.ask("POST", f"{there}/trust-rules", {"name": "x", "issuer": 1, "claims": {}}, expect=403)
    ending = make_key(world.admin.user, "ends", management=True, project=demo)
    AccessKey.objects.filter(pk=ending.key.pk).update(expires_at="2090-01-01T00:00:00Z")
    ends = ApiClient(basic(ending))
    ends.ask("POST", f"{there}/keys", {"name": "longer"}, expect=403)
    ends.ask("POST", f"{key}/rotate", {}, expect=403)
    shorter = ends.ask("POST", f"{there}/keys", {"name": "shorter", "expires_at": "2089-01-01T00:00:00Z"}, expect=201)
    ends.ask("POST", f"{shorter.headers['Location']}/rotate", {}, expect=200)


def test_a_role_that_the_actor_does_not_hold_is_not_given_to_an_account(api, world):
    owner, admin = api("owner"), api("admin")
    owner.ask("PUT", f"{ACME}/service-accounts/wide", {}, expect=201)
    email = "wide@acme.organization.invalid"
    owner.ask("PUT", f"/api/v1/projects/lab/members/{email}", {"role": "admin"}, expect=201)
    admin.ask("PUT", f"{DEMO}/members/{email}", {"role": "member"}, expect=201)
    key = owner.ask("POST", f"{ACME}/service-accounts/wide/keys", {"name": "x"}, expect=201).json()["id"]
    admin.ask("POST", f"{DEMO}/keys/{key}/rotate", {}, expect=404)  # it can act in demo, but is not of demo
    admin.ask("DELETE", f"{DEMO}/keys/{key}", expect=403)


# ── Keyless CI ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_issuers_trust_rules_and_sessions(api, world):
    owner, admin, issuer = api("owner"), api("admin"), Issuer()
    there = f"{ACME}/issuers"
    wanted = {"kind": "github", "url": issuer.url, "jwks": json.loads(issuer.jwks)}
    made = owner.ask("POST", there, wanted, expect=201)
    assert (made.json()["keys"], made.json()["is_uploaded"], made.json()["audience"]) == (
        ["key-1"],
        True,
        "http://localhost:8080",
    )
    owner.ask("POST", there, wanted, expect=409)
    one, second = made.headers["Location"], SigningKey("key-2")
    jwks = {"keys": [issuer.keys[0].jwk, second.jwk]}
    assert owner.ask("PUT", f"{one}/keys", {"jwks": jwks}, expect=200).json()["keys"] == ["key-1", "key-2"]
    admin.ask("PUT", f"{DEMO}/service-accounts/ci", {}, expect=201)
    admin.ask("PUT", f"{DEMO}/members/ci@demo.project.invalid", {"role": "member"}, expect=201)
    rules = f"{DEMO}/service-accounts/ci/trust-rules"
    rule = {"name": "main", "issuer": made.json()["id"], "claims": {"repository": "acme/web", "ref": "refs/heads/main"}}
    admin.ask("POST", rules, rule | {"claims": {"ref": "x"}}, expect=409)
    admin.ask("POST", rules, rule | {"issuer": 10**9}, expect=422)
    first = admin.ask("POST", rules, rule, expect=201)
    assert first.json()["actions"] == ["pull", "push"]
    token = issuer.token(issuer.github())
    looked = admin.ask("POST", f"{rules}/try", {"token": token}, expect=200).json()
    assert looked == {"problem": "", "rules": [{"rule": first.json()["id"], "problem": ""}]}
    session = federation.exchange(federation.Attempt(token, "demo/ci")).session
    sessions = f"{DEMO}/service-accounts/ci/sessions"
    (shown,) = admin.get(sessions)["items"]
    assert (shown["state"], shown["via"]["repository"]) == ("alive", "Acme/web")
    assert admin.get(first.headers["Location"])["pinned"]["repository_id"] == "1296269"
    admin.ask("DELETE", f"{sessions}/{shown['id']}", expect=204)
    assert admin.get(f"{sessions}/{session.key.identifier}")["state"] == "revoked"
    assert admin.ask("POST", f"{first.headers['Location']}/unpin", {}, expect=200).json()["pinned"] == {}
    owner.ask("DELETE", one, expect=409)  # it has a rule
    admin.ask("DELETE", first.headers["Location"], expect=204)
    admin.get(first.headers["Location"], expect=404)
    admin.ask("POST", f"{first.headers['Location']}/restore", {}, expect=200)
    admin.ask("DELETE", first.headers["Location"], expect=204)
    owner.ask("DELETE", one, expect=204)


# ── Uploads and the doctor ───────────────────────────────────────────────────────────────────────────────────────────
def test_open_uploads_are_listed_and_ended(api, world):
    own = [uploads.start(world.member.actor, world.repository(name), "app") for name in ("web", "public", "web")]
    uploads.start(world.admin.actor, world.repository("web"), "app")
    client, found, there = api("member"), [], "/api/v1/uploads?limit=2"
    while there:
        page = client.get(there)
        found, there = found + [each["id"] for each in page["items"]], page["next"]
    assert sorted(found) == sorted(str(each.pk) for each in own)
    limited = api("member", repositories="demo/public")
    assert [each["image"] for each in limited.get("/api/v1/uploads")["items"]] == ["demo/public/app"]
    limited.ask("DELETE", f"/api/v1/uploads/{own[0].pk}", expect=404)
    api("admin").ask("DELETE", f"/api/v1/uploads/{own[0].pk}", expect=404)
    client.ask("DELETE", f"/api/v1/uploads/{own[0].pk}", expect=204)
    client.get(f"/api/v1/uploads/{own[0].pk}", expect=404)
    client.get("/api/v1/uploads?after=x", expect=400)


def test_the_doctor_is_for_operators(api, world, monkeypatch):
    client = api("owner")
    client.ask("POST", "/api/v1/doctor", expect=404)
    world.owner.user.is_superuser = True
    world.owner.user.save()
    assert client.get("/api/v1/doctor", expect=404)["detail"].startswith("The doctor")
    monkeypatch.setattr(runs.threading.Thread, "start", lambda thread: None)
    started = client.ask("POST", "/api/v1/doctor", expect=202).json()
    assert (started["requested_by"], started["finished_at"], started["results"]) == ("owner@acme.test", None, [])
    client.ask("POST", "/api/v1/doctor", expect=409)
    found = Result("public-url", State.WARNING, Text("it is %(url)s", {"url": "x"}), Text("change it"))
    found = Result(runs.probes()[0].name, found.state, found.seen, found.change)
    runs.note(started["id"], [found], is_done=True)
    (shown,) = client.get("/api/v1/doctor")["results"]
    assert (shown["state"], shown["seen"], shown["change"]) == ("warning", "it is x", "change it")
    api("owner", project=world.projects["demo"]).get("/api/v1/doctor", expect=403)


# ── What scans found ─────────────────────────────────────────────────────────────────────────────────────────────────
def test_vulnerabilities_are_listed_and_accepted(api, scanned):
    client, there = api("member"), f"{APP}/-/manifests/{scanned['first']}"
    assert client.get(there)["report"]["critical"] == 1
    found = client.get(f"{there}/vulnerabilities?severity=high")["items"]
    assert {each["vulnerability"] for each in found} == {"CVE-2026-1", "CVE-2026-2"}
    assert [each["vulnerability"] for each in client.get(f"{there}/vulnerabilities?fixable=true")["items"]] == [
        "CVE-2026-1"
    ]
    assert client.get(f"{there}/sbom")["bomFormat"] == "CycloneDX"
    wanted = {"vulnerability": "CVE-2026-2", "repository": "web", "reason": "not reachable"}
    made = client.ask("POST", f"{DEMO}/acceptances", wanted, expect=201)
    (accepted,) = [each for each in client.get(f"{there}/vulnerabilities")["items"] if each["acceptance"]]
    assert accepted["acceptance"] == made.json()["id"]
    assert client.get(f"{WEB}/openvex")["statements"][0]["vulnerability"]["name"] == "CVE-2026-2"
    client.ask("DELETE", made.headers["Location"], expect=204)
    assert Acceptance.objects.get().withdrawn_at


def test_search_finds_vulnerabilities_and_packages(api, scanned):
    found = api("reader").get("/api/v1/search?q=cve-2026-1")
    place = next(each for each in found["vulnerability"]["places"] if each["digest"] == scanned["first"])
    assert (found["vulnerability"]["name"], found["images"]) == ("CVE-2026-1", [])
    assert (place["image"], place["severity"] in SEVERITIES, place["vulnerabilities"] > 0) == (
        "demo/web/app",
        True,
        True,
    )
    package = place["packages"][0]
    by_package = api("reader").get(f"/api/v1/search?q={package['name']}@{package['version']}&project=demo")["package"]
    assert scanned["first"] in {each["digest"] for each in by_package["places"]}
    assert api("reader").get("/api/v1/search?q=CVE-2026-1&project=lab")["vulnerability"]["total"] == 0
    assert api("stranger").get("/api/v1/search?q=CVE-2026-1")["vulnerability"] is None
    assert api("stranger").get(f"/api/v1/search?q={package['name']}")["package"] is None


def test_untagged_manifests(api, pushed):
    found = api("reader").get(f"{APP}/-/manifests?untagged=true")["items"]
    assert {each["digest"] for each in found} >= {pushed["untagged"]}
    assert all(not each["tags"] for each in found)
    api("member").ask("DELETE", f"{APP}/-/manifests/{pushed['arm']}", expect=409)  # an index names it
    gone = api("member").ask("DELETE", f"{APP}/-/manifests/{pushed['untagged']}", expect=200).json()
    assert gone["requested"] == [pushed["untagged"]]


# ── Notifications ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_notifications(api, world):
    client, there = api("member"), f"{DEMO}/notifications"
    wanted = {"channel": "mail", "repository": "web", "recipients": ["reader@acme.test"], "min_severity": "critical"}
    made = client.ask("POST", there, wanted, expect=201)
    assert made.json()["secret"] is None
    one = made.headers["Location"]
    changed = client.ask("PATCH", one, {"is_active": False, "min_severity": "low"}, expect=200).json()
    assert (changed["is_active"], changed["min_severity"], changed["recipients"]) == (
        False,
        "low",
        wanted["recipients"],
    )
    client.ask("POST", there, wanted | {"repository": None}, expect=403)
    client.ask("POST", there, {"channel": "mail", "repository": "web"}, expect=422)
    strange = {"channel": "mail", "repository": "web", "url": "https://x.test", "recipients": []}
    client.ask("POST", there, strange, expect=422)
    assert [each["id"] for each in client.get(there)["items"]] == [made.json()["id"]]
    client.ask("DELETE", one, expect=204)
    assert not Subscription.objects.live().exists()


def test_event_webhooks(api, world):
    client, there = api("admin"), f"{DEMO}/notifications"
    wanted = {
        "channel": "events",
        "url": "https://8.8.8.8/hook",
        "types": ["tag.moved"],
        "repositories": ["web", "x-*"],
    }
    made = client.ask("POST", there, wanted, expect=201)
    assert made.json()["secret"].startswith("whsec_")
    assert (made.json()["types"], made.json()["repositories"]) == (["tag.moved"], ["web", "x-*"])
    one = made.headers["Location"]
    changed = client.ask("PATCH", one, {"types": []}, expect=200).json()
    assert (changed["types"], changed["repositories"], changed["target"]) == ([], ["web", "x-*"], "8.8.8.8")
    renewed = client.ask("POST", f"{one}/secret", expect=200).json()["secret"]
    assert renewed.startswith("whsec_")
    assert renewed != made.json()["secret"]
    assert client.ask("POST", f"{one}/test", expect=202).json()["is_test"]
    client.ask("POST", there, wanted | {"repository": "web"}, expect=409)
    for wrong in ({"types": ["tag"]}, {"repositories": ["demo/web"]}, {"recipients": []}):
        client.ask("POST", there, wanted | wrong, expect=422)
    mail = {"channel": "mail", "recipients": ["reader@acme.test"], "types": []}
    client.ask("POST", there, mail, expect=422)


def test_the_change_feed_has_each_event_once_and_in_order(api, world):
    client, there = api("reader"), f"{DEMO}/changes"
    demo, rival = world.projects["demo"], world.projects["rival"]
    Event.objects.all().delete()
    seen, page = [], client.ask("GET", there, expect=200).json()
    assert page == {"items": [], "next": f"{there}?after=0"}
    for number in range(7):
        audit.record(world.member.actor, Event.Action.PROJECT_UPDATE, demo, after={"description": str(number)})
        audit.record(world.member.actor, Event.Action.PROJECT_UPDATE, rival, after={"description": "secret"})
    page = client.ask("GET", f"{there}?limit=3", expect=200).json()
    while page["items"]:
        seen += page["items"]
        page = client.ask("GET", page["next"], expect=200).json()
    assert [each["data"]["detail"]["after"]["description"] for each in seen] == list("0123456")
    assert [each["id"] for each in seen] == [
        f"evt_{event.pk}" for event in Event.objects.filter(project=demo).order_by("pk")
    ]
    assert seen == sorted(seen, key=lambda each: each["sequence"])
    assert {(each["type"], each["data"]["actor"]) for each in seen} == {("dev.kcr.project.updated", "member@acme.test")}
    audit.record(world.member.actor, Event.Action.PROJECT_UPDATE, demo, after={"description": "later"})
    (later,) = client.ask("GET", page["next"], expect=200).json()["items"]
    assert later["data"]["detail"]["after"] == {"description": "later"}
    api("outsider").ask("GET", there, expect=404)
    client.ask("GET", f"{there}?after=evt_1", expect=400)


# ── Recovery, audit log, cleanup ─────────────────────────────────────────────────────────────────────────────────────
def test_what_was_deleted_is_held_and_restored(api, pushed):
    client = api("member")
    gone = client.ask("DELETE", f"{APP}/-/tags/1.0", expect=200).json()
    there = f"{DEMO}/deletions/{gone['id']}"
    assert client.ask("PATCH", there, {"hold": True}, expect=200).json()["hold"]
    api("admin").ask("DELETE", there, expect=403)  # it is held
    restored = client.ask("POST", f"{there}/restore", {}, expect=200).json()
    assert (restored["tags"], restored["skipped"]) == (1, [])
    client.get(there, expect=404)
    assert not Deletion.objects.exists()


def test_events_are_filtered_and_undone(api, pushed):
    client = api("member")
    client.ask("DELETE", f"{APP}/-/tags/2.0", expect=200)
    (event,) = client.get(f"{DEMO}/events?action=tag.delete&repository=web&image=app&actor=member")["items"]
    assert (event["tag"], event["key"] is not None) == ("2.0", True)
    dry = client.ask("POST", f"{DEMO}/events/{event['id']}/undo", {"dry_run": True}, expect=200).json()
    assert len(dry["done"]) == 1
    client.get(f"{APP}/-/tags/2.0", expect=404)
    client.ask("POST", f"{DEMO}/events/{event['id']}/undo", {}, expect=200)
    client.get(f"{APP}/-/tags/2.0")
    assert client.get(f"{DEMO}/events?repository=nothing")["items"] == []


def test_events_are_read_once_each(api, world):
    for number in range(5):
        repositories.create(world.member.actor, world.projects["demo"], f"page-{number}")
    client, there, found = api("reader"), f"{DEMO}/events?limit=2", []
    while there:
        page = client.get(there)
        found += [each["id"] for each in page["items"]]
        there = page["next"]
    assert found == sorted(Event.objects.filter(project__name="demo").values_list("pk", flat=True), reverse=True)


def test_a_cleanup_policy_is_set_and_tried(api, pushed):
    client, there = api("member"), f"{WEB}/cleanup-policy"
    wanted = {"tag_days": 30, "keep_patterns": ["release-*"]}
    made = client.ask("PUT", there, wanted, expect=201)
    assert client.ask("PUT", there, wanted, expect=200).headers["ETag"] == made.headers["ETag"]
    client.ask("PUT", there, wanted, expect=412, If_None_Match="*")
    client.ask("PUT", there, {"tag_days": 0}, expect=422)
    assert client.ask("POST", f"{there}/preview", wanted, expect=200).json() == {"total": 0, "shown": []}


def test_search_finds_what_may_be_seen(api, pushed):
    assert api("reader").get("/api/v1/search?q=app")["images"] == ["demo/web/app"]
    assert {each["tag"] for each in api("reader").get("/api/v1/search?q=web/app:1.0")["tags"]} == {"1.0"}
    (found,) = api("reader").get(f"/api/v1/search?q={pushed['first']}")["manifests"]
    assert found == {"image": "demo/web/app", "digest": pushed["first"]}
    assert api("stranger").get(f"/api/v1/search?q={pushed['first']}")["manifests"] == []
    assert api("reader").get("/api/v1/search?q=secret")["repositories"] == []
    assert api("stranger").get("/api/v1/search?q=app")["images"] == []


# ── Tenants ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_projects_of_others_answer_as_absent_ones(world, pushed):
    """Each operation on demo and on a project that does not exist, by people without a role there."""
    for person in ("outsider", "stranger", "pusher", "viewer"):
        client = ApiClient(basic(make_key(world.people[person].user, "api", management=True)))
        for _route, path, _name, view in openapi.routes():
            if "{project}" not in path:
                continue
            for method in view().allowed():
                answers = []
                for project in ("demo", "nowhere"):
                    words = {"repository": "web", "image": "app", "tag": "1.0", "digest": pushed["first"]}
                    there = re.sub(
                        r"\{(\w+)\}",
                        lambda found, words=words: str(words.get(found[1], 1)),
                        path.replace("{project}", project),
                    )
                    with CaptureQueriesContext(connection) as queries:
                        answer = client.ask(method, there, {} if method != "GET" else None)
                    problem = answer.json()
                    problem.pop("request_id")
                    text = json.dumps(problem).replace(project, "PROJECT")
                    answers.append((answer.status_code, text, [each["sql"].count("SELECT") for each in queries]))
                assert answers[0] == answers[1], f"{method} {path} by {person}"


def test_organizations_of_others_answer_as_absent_ones(world):
    client = ApiClient(basic(make_key(world.outsider.user, "api", management=True)))
    for _route, path, _name, view in openapi.routes():
        if "{organization}" not in path:
            continue
        for method in view().allowed():
            answers = []
            for organization in ("acme", "nowhere"):
                there = path.replace("{organization}", organization)
                there = re.sub(r"\{(\w+)\}", lambda found: "1", there)
                with CaptureQueriesContext(connection) as queries:
                    problem = client.ask(method, there, {} if method != "GET" else None, expect=404).json()
                problem.pop("request_id")
                text = json.dumps(problem).replace(organization, "ORGANIZATION")
                answers.append((text, [each["sql"].count("SELECT") for each in queries]))
            assert answers[0] == answers[1], f"{method} {path}"


def test_things_of_another_parent_are_not_found(api, world, docker, pushed):
    docker("outsider", "rival.kr-central-2.kcr.localhost:8080").push("rivals/theirs", "1")
    client = api("owner")
    client.get(f"{DEMO}/repositories/rivals", expect=404)
    client.get(f"{DEMO}/repositories/public/images/app", expect=404)
    client.get(f"{WEB}/images/theirs", expect=404)
    theirs, issuer = world.projects["rival"].organization, Issuer("https://theirs.invalid")
    bot = service_accounts.create(SYSTEM, world.projects["rival"], "bot")
    key = service_accounts.make_key(SYSTEM, bot, "x").key.identifier
    trusted = issuers.create(SYSTEM, theirs, IssuerKind.GENERIC, issuer.url, keys=issuer.jwks)
    rule = service_accounts.add_trust_rule(SYSTEM, bot, trusted, "x", {"sub": "job"}).pk
    api("admin").ask("PUT", f"{DEMO}/service-accounts/ci", {}, expect=201)
    client.get(f"{DEMO}/service-accounts/bot", expect=404)
    client.get(f"{DEMO}/keys/{key}", expect=404)
    client.ask("POST", f"{ACME}/keys/{key}/rotate", {}, expect=404)
    client.get(f"{ACME}/issuers/{trusted.pk}", expect=404)
    client.get(f"{DEMO}/service-accounts/ci/trust-rules/{rule}", expect=404)
    wanted = {"name": "x", "issuer": trusted.pk, "claims": {"sub": "job"}}
    client.ask("POST", f"{DEMO}/service-accounts/ci/trust-rules", wanted, expect=422)
    client.ask("PUT", f"{DEMO}/members/bot@rival.project.invalid", {"role": "reader"}, expect=404)
    event = AuditEvent.objects.filter(organization=theirs).latest("pk").pk
    client.ask("POST", f"{ACME}/events/{event}/undo", {}, expect=404)


def test_ids_of_another_project_are_not_found(api, world, receiver):
    rivals = world.repository("rivals")
    manifest = make_manifest(rivals, "theirs", image="theirs", tag="1")
    scan = make_report(manifest, [high("CVE-1")])
    accepted = acceptances.accept(SYSTEM, rivals.project, "CVE-1", reason="why", covers_fixed=True)
    hook = subscriptions.create(SYSTEM, rivals.project, None, "events", {"url": receiver.url}).subscription
    updated = repositories.update(SYSTEM, rivals, description="x")
    deleted = trash.delete_references(SYSTEM, rivals, ImageName("rival", "rivals", "theirs"), ["1"])
    theirs, admin = "/api/v1/projects/rival", api("owner")
    for path in (
        f"scans/{scan.pk}",
        f"acceptances/{accepted.pk}",
        f"notifications/{hook.pk}",
        f"deletions/{deleted.pk}",
    ):
        api("outsider").get(f"{theirs}/{path}", expect=200)
        admin.get(f"{DEMO}/{path}", expect=404)
    admin.ask("POST", f"{DEMO}/events/{updated.pk}/undo", {}, expect=404)
    admin.ask("POST", f"{DEMO}/deletions/{deleted.pk}/restore", {}, expect=404)


# ── At once ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("count", [500])
def test_a_long_list_costs_few_queries(api, world, count):
    made = [Repository(project=world.projects["demo"], name=f"many-{number:03}") for number in range(count)]
    Repository.objects.bulk_create(made)
    Image.objects.bulk_create(
        Image(repository=world.repository("web"), name=f"i{number}", path=f"demo/web/i{number}")
        for number in range(count)
    )
    client = api("reader")
    for path in (f"{DEMO}/repositories", f"{WEB}/images", f"{DEMO}/events", f"{DEMO}/members"):
        with CaptureQueriesContext(connection) as queries:
            page = client.get(f"{path}?limit=500")
        assert page["items"]
        assert len(queries) <= 8, [each["sql"] for each in queries]
