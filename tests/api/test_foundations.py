"""Credentials, problems, bodies, pages, preconditions, Idempotency-Key and rates of the management API."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from accounts.errors import Refusal
from accounts.models import AccessKey, IdempotencyRecord, Project
from api import rates
from registry import repositories
from registry.models import Event, Repository
from tests.support.personas import make_key

from .conftest import APP, WEB, ApiClient, basic

PROJECTS = "/api/v1/projects"


# ── Credentials ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_key_says_who_asks(api, world):
    said = api("member").get("/api/v1/")
    assert said["user"] == "member@acme.test"
    assert said["project"] is None


def test_the_secret_alone_is_taken_as_bearer(api, world):
    key = make_key(world.member.user, "api", management=True)
    assert ApiClient(f"Bearer {key.secret}").get(PROJECTS)["items"][0]["name"] == "demo"
    wrong = ApiClient(f"Bearer {key.secret[:-1]}x").ask("GET", PROJECTS, expect=401)
    assert "unknown access key, or wrong secret" in wrong.json()["detail"].lower()


def test_without_credentials_the_answer_asks_for_them(api):
    answer = api().ask("GET", PROJECTS, expect=401)
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="kcr", Bearer realm="kcr"'


@pytest.mark.parametrize("authorization", ["Basic", "Basic !", "Bearer", "Bearer x", "Digest x", "Basic Og=="])
def test_other_credentials_are_refused(api, world, authorization):
    ApiClient(authorization).ask("GET", PROJECTS, expect=401)


def test_a_registry_token_is_refused(docker, world):
    docker("member").push("web/app", "1")
    token = docker("member").token("repository:web/app:pull,push")
    ApiClient(f"Bearer {token}").ask("GET", PROJECTS, expect=401)


def test_the_cookie_of_the_console_is_no_credential(world):
    browser = Client(SERVER_NAME="localhost", SERVER_PORT="8080")
    browser.force_login(world.owner.user, backend="django.contrib.auth.backends.ModelBackend")
    assert browser.get("/projects/demo/").status_code == 200
    assert browser.get(PROJECTS).status_code == 401
    assert browser.delete(WEB).status_code == 401


def test_an_ended_key_gets_nothing(world):
    key = make_key(world.member.user, "api", management=True)
    client = ApiClient(basic(key))
    client.get(PROJECTS)
    AccessKey.objects.filter(pk=key.key.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    client.ask("GET", PROJECTS, expect=401)


def test_too_many_wrong_secrets_are_slowed(world):
    for _ in range(10):
        ApiClient("Bearer kcrs_wrong").ask("GET", PROJECTS, expect=401)
    refused = ApiClient("Bearer kcrs_wrong").ask("GET", PROJECTS, expect=429)
    assert int(refused.headers["Retry-After"]) > 0
    right = make_key(world.member.user, "api", management=True)
    ApiClient(f"Bearer {right.secret}").get(PROJECTS)


def test_a_key_of_one_project_sees_that_project_only(api, world):
    client = api("owner", project=world.projects["lab"])
    assert [each["name"] for each in client.get(PROJECTS)["items"]] == ["lab"]
    client.get(WEB, expect=404)
    client.ask("PUT", f"{PROJECTS}/fresh", {"organization": "acme"}, expect=403)


def test_a_key_of_some_actions_cannot_be_for_the_api(world):
    with pytest.raises(Refusal, match="limited to some actions"):
        make_key(world.member.user, "api", management=True, actions=("pull",))


# ── Problems ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_problem_says_what_and_where(api):
    answer = api("member").ask("GET", f"{WEB}x", expect=404)
    problem = answer.json()
    assert problem["type"] == "http://localhost:8080/api/v1/docs#problem-not-found"
    assert problem["code"] == "not-found"
    assert problem["instance"] == f"{WEB}x"
    assert problem["request_id"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/v1", "/api/v2/", "/api/v1/nothing", f"{WEB}/", "/api/v1/%00"])
def test_unknown_paths_are_problems(api, path):
    api("member").ask("GET", path, expect=404)


@pytest.mark.parametrize("method", ["POST", "OPTIONS", "TRACE", "PURGE"])
def test_methods_that_a_path_does_not_have(api, method):
    answer = api("member").ask(method, WEB, expect=405)
    assert answer.headers["Allow"] == "GET, PUT, PATCH, DELETE"


def test_the_answer_is_json_or_nothing(api):
    api("member").ask("GET", WEB, expect=406, Accept="text/html")
    api("member").ask("GET", WEB, expect=200, Accept="application/*")


@pytest.mark.parametrize(
    ("body", "media_type", "status"),
    [
        (b"description=x", "application/x-www-form-urlencoded", 415),
        (b"{", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"description": NaN}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"[]", "application/json", 422),
        (b'{"descripton": "x"}', "application/json", 422),
        (b'{"description": 1}', "application/json", 422),
        (b'{"description": "\\u0000"}', "application/json", 422),
        (b'{"description": "\\ud800"}', "application/json", 422),
        (b'{"pull_policy": {"block_severity": "bad"}}', "application/json", 422),
        (b'"' + b"x" * 1_000_001 + b'"', "application/json", 413),
    ],
)
def test_bodies_that_are_refused(api, body, media_type, status):
    api("member").ask("PATCH", WEB, body, expect=status, **{"Content-Type": media_type})
    assert not Event.objects.filter(action="repository.update").exists()


def test_a_field_that_is_wrong_is_pointed_at(api):
    found = api("member").ask("PATCH", WEB, {"pull_policy": {"block_severity": "bad"}, "x/y": 1}, expect=422).json()
    assert {each["pointer"] for each in found["errors"]} & {"/x~1y", "/pull_policy/block_severity"}


def test_parameters_that_a_list_does_not_have(api):
    api("member").ask("GET", f"{PROJECTS}?sort=password", expect=400)
    api("member").ask("GET", f"{PROJECTS}?limit=501", expect=400)
    api("member").ask("GET", f"{PROJECTS}?limit=x", expect=400)


def test_project_hosts_do_not_serve_the_api(world):
    client = Client(SERVER_NAME="demo.kr-central-2.kcr.localhost", SERVER_PORT="8080")
    assert client.get(PROJECTS).status_code == 404


def test_an_unexpected_error_is_a_problem(api, monkeypatch, caplog):
    monkeypatch.setattr("registry.repositories.readme_of", lambda repository: 1 / 0)
    problem = api("member").ask("GET", WEB, expect=500).json()
    assert problem["code"] == "unexpected"
    assert "ZeroDivisionError" in caplog.text


# ── Pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_pages_follow_each_other(api, world):
    for number in range(7):
        repositories.create(world.member.actor, world.projects["demo"], f"page-{number}")
    client, names, there = api("member"), [], f"{PROJECTS}/demo/repositories?limit=3"
    while there:
        answer = client.ask("GET", there, expect=200)
        page = answer.json()
        names += [each["name"] for each in page["items"]]
        there = page["next"]
        assert answer.headers.get("Link") == (f'<{there}>; rel="next"' if there else None)
    assert names == sorted(Repository.objects.filter(project__name="demo").values_list("name", flat=True))


# ── Preconditions ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_if_match_refuses_what_has_changed(api):
    client, other = api("member"), api("admin")
    seen = client.ask("GET", WEB, expect=200).headers["ETag"]
    other.ask("PATCH", WEB, {"description": "faster"}, expect=200)
    problem = client.ask("PATCH", WEB, {"description": "slower"}, expect=412, If_Match=seen).json()
    assert problem["code"] == "changed"
    assert client.get(WEB)["description"] == "faster"
    now = client.ask("GET", WEB).headers["ETag"]
    client.ask("PATCH", WEB, {"description": "slower"}, expect=412, If_Match=f"W/{now}")
    client.ask("PATCH", WEB, {"description": "slower"}, expect=200, If_Match=f'"other", {now}')


def test_a_change_between_look_and_lock_is_a_failed_precondition(api, monkeypatch, world):
    client = api("member")
    seen = client.ask("GET", WEB).headers["ETag"]
    real = repositories.update

    def slow(actor, repository, **wanted):
        real(world.admin.actor, Repository.objects.get(pk=repository.pk), description="faster")
        return real(actor, repository, **wanted)

    monkeypatch.setattr("registry.repositories.update", slow)
    client.ask("PATCH", WEB, {"description": "slower"}, expect=412, If_Match=seen)
    assert Repository.objects.get(name="web").description == "faster"


def test_what_has_not_changed_is_not_sent_again(api):
    client = api("reader")
    etag = client.ask("GET", WEB).headers["ETag"]
    again = client.ask("GET", WEB, expect=304, If_None_Match=etag)
    assert again.content == b""


def test_head_is_a_get_without_body(api):
    answer = api("reader").ask("HEAD", WEB, expect=200)
    assert answer.headers["ETag"]
    assert answer.content == b""


# ── Rates ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_rates_are_counted_by_key(api, monkeypatch, settings):
    settings.API_RATE = 3
    monkeypatch.setattr(rates.time, "time", lambda: 1_800_000_010.0)
    client = api("member")
    for left in (2, 1, 0):
        answer = client.ask("GET", PROJECTS, expect=200)
        assert answer.headers["RateLimit"] == f'"key";r={left};t=50'
    assert answer.headers["RateLimit-Policy"] == '"key";q=3;w=60'
    refused = client.ask("GET", PROJECTS, expect=429)
    assert refused.headers["Retry-After"] == "50"
    assert refused.headers["RateLimit"] == '"key";r=0;t=50'
    api("admin").ask("GET", PROJECTS, expect=200)


# ── PUT by name ──────────────────────────────────────────────────────────────────────────────────────────────────────
FRESH = f"{PROJECTS}/demo/repositories/fresh"
WANTED = {
    "description": "the shop",
    "readme": "# Shop",
    "visibility": "public",
    "scan": "manual",
    "tag_overwrite": False,
    "pull_policy": {"block_severity": "high", "unscanned_grace_hours": 24},
}


def test_the_same_put_twice_changes_nothing(api):
    client = api("member")
    made = client.ask("PUT", FRESH, WANTED, expect=201)
    assert made.headers["Location"] == FRESH
    assert WANTED.items() <= made.json().items()
    events = Event.objects.count()
    again = client.ask("PUT", FRESH, WANTED, expect=200)
    assert again.headers["ETag"] == made.headers["ETag"]
    assert again.json() == made.json() == client.get(FRESH)
    assert Event.objects.count() == events


def test_put_sets_what_is_left_out_to_its_default(api):
    client = api("member")
    client.ask("PUT", FRESH, WANTED, expect=201)
    changed = client.ask("PUT", FRESH, {}, expect=200).json()
    assert (changed["description"], changed["readme"], changed["visibility"]) == ("", "", "private")
    assert changed["pull_policy"] == {"block_severity": "none", "unscanned_grace_hours": None}


def test_patch_leaves_what_is_left_out(api):
    client = api("member")
    client.ask("PUT", FRESH, WANTED, expect=201)
    changed = client.ask("PATCH", FRESH, {"pull_policy": {"block_severity": "critical"}}, expect=200).json()
    assert changed["pull_policy"] == {"block_severity": "critical", "unscanned_grace_hours": 24}
    assert changed["readme"] == "# Shop"


def test_if_none_match_creates_only(api):
    client = api("member")
    client.ask("PUT", FRESH, {}, expect=201, If_None_Match="*")
    client.ask("PUT", FRESH, {}, expect=412, If_None_Match="*")
    client.ask("PUT", f"{FRESH}-2", {}, expect=412, If_Match="*")


def test_a_name_that_is_none(api):
    assert api("member").ask("PUT", f"{PROJECTS}/demo/repositories/UPPER", {}, expect=422).json()["code"] == "invalid"


def test_an_owner_makes_a_project(api):
    client = api("owner")
    made = client.ask("PUT", f"{PROJECTS}/shop", {"organization": "acme", "description": "x"}, expect=201)
    assert made.json() == client.get(f"{PROJECTS}/shop")
    assert Project.objects.get(name="shop").organization.name == "acme"
    client.ask("PUT", f"{PROJECTS}/shop", {"organization": "acme", "description": "x"}, expect=200)
    client.ask("PUT", f"{PROJECTS}/shop", {"organization": "other"}, expect=422)
    client.ask("PUT", f"{PROJECTS}/shop-2", {}, expect=422)
    client.ask("PUT", f"{PROJECTS}/rival", {"organization": "acme"}, expect=409)
    client.ask("PUT", f"{PROJECTS}/shop-2", {"organization": "other"}, expect=404)
    api("member").ask("PUT", f"{PROJECTS}/shop-2", {"organization": "acme"}, expect=403)


def test_a_deleted_repository_says_until_when(api, pushed):
    client = api("member")
    gone = client.ask("DELETE", WEB, expect=200).json()
    assert gone["kind"] == "repository"
    assert gone["recoverable_until"] > gone["deleted_at"]
    client.get(WEB, expect=404)


# ── Tags ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_tag_is_added_and_moved(api, pushed):
    client, tag = api("member"), f"{APP}/-/tags/stable"
    made = client.ask("PUT", tag, {"digest": pushed["first"]}, expect=201)
    assert made.headers["ETag"] == f'"{pushed["first"]}"'
    client.ask("PUT", tag, {"digest": pushed["first"]}, expect=200)
    client.ask("PUT", tag, {"digest": pushed["second"]}, expect=428)
    client.ask("PUT", tag, {"digest": pushed["second"]}, expect=412, If_Match=f'"{pushed["arm"]}"')
    client.ask("PUT", tag, {"digest": pushed["second"]}, expect=412, If_None_Match="*")
    moved = client.ask("PUT", tag, {"digest": pushed["second"]}, expect=200, If_Match=made.headers["ETag"])
    assert moved.json()["digest"] == pushed["second"]
    history = client.get(f"{tag}/history")["items"]
    assert [each["digest"] for each in history] == [pushed["second"], pushed["first"]]
    client.ask("DELETE", tag, expect=412, If_Match=made.headers["ETag"])
    client.ask("DELETE", tag, expect=200)
    client.get(tag, expect=404)


def test_a_tag_of_a_digest_that_is_not_there(api, pushed):
    client = api("member")
    client.ask("PUT", f"{APP}/-/tags/new", {"digest": "sha256:" + "0" * 64}, expect=404)
    client.ask("PUT", f"{APP}/-/tags/new", {"digest": "latest"}, expect=422)
    client.ask("PUT", f"{APP}/-/tags/-bad", {"digest": pushed["first"]}, expect=422)


def test_images_with_slashes_in_their_names(api, docker):
    docker("member").push("web/team/app", "1")
    client = api("member")
    assert client.get(f"{WEB}/images/team/app")["path"] == "demo/web/team/app"
    assert client.get(f"{WEB}/images/team%2Fapp/-/tags")["items"][0]["name"] == "1"


def test_settings_of_an_image(api, pushed):
    client = api("member")
    wanted = {"description": "the app", "expires_at": "2030-01-01T00:00:00Z"}
    changed = client.ask("PUT", APP, wanted, expect=200)
    assert wanted.items() <= changed.json().items()
    assert client.ask("PUT", APP, wanted, expect=200).headers["ETag"] == changed.headers["ETag"]
    client.ask("PATCH", APP, {"expires_at": None}, expect=200)
    assert client.get(APP) | wanted | {"expires_at": None} == client.get(APP)


def test_the_document_is_json_and_needs_no_credentials(api):
    document = json.loads(api().ask("GET", "/api/v1/openapi.json", expect=200).content)
    assert document["openapi"].startswith("3.1")
    assert IdempotencyRecord.objects.count() == 0
