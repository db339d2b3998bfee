"""The exchange of ID tokens: what it gives, hostile tokens that get nothing, and the keys of issuers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from datetime import timedelta
from ipaddress import ip_network
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives import serialization
from django.utils import timezone

from accounts import audit, federation, issuers, keys, tasks, trust_rules
from accounts.actors import SYSTEM
from accounts.errors import Refusal
from accounts.limits import Limits
from accounts.models import (
    AccessKey,
    AuditEvent,
    FederatedSession,
    Issuer,
    IssuerKind,
    Organization,
    ProjectRole,
    TrustRule,
    User,
)
from registry import members, service_accounts, undo
from registry.errors import Denied
from registry.models import Event
from tests.support.docker_client import BARE_HOST, DockerClient
from tests.support.issuers import AUDIENCE, SigningKey, base64url, serving
from tests.support.issuers import Issuer as Program
from tests.support.personas import Persona

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
REJECTED = {"error": "invalid_grant", "error_description": "no trust rule of this registry accepts this token"}
GITHUB = {"repository": "acme/web", "ref": "refs/heads/main"}


@pytest.fixture
def acme(world):
    return Organization.objects.get(name="acme")


@pytest.fixture
def ci(world, project):
    """A service account of the project demo, a Project Member there."""
    account = service_accounts.create(SYSTEM, project, "ci")
    members.set_role(SYSTEM, project, account, ProjectRole.MEMBER)
    return account


@pytest.fixture
def program(settings):
    """An issuer on loopback, in a network that the operator allows."""
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    with serving(Program()) as found:
        yield found


@pytest.fixture
def github(acme, program):
    return issuers.create(SYSTEM, acme, IssuerKind.GITHUB, program.url)


@pytest.fixture
def rule(ci, github):
    return service_accounts.add_trust_rule(SYSTEM, ci, github, "web on main", GITHUB)


def exchange(token, expect=None, *, address="10.0.0.1", **more):
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "subject_token": token,
        **more,
    }
    client = DockerClient(None, BARE_HOST, address=address)
    answer = client.raw("POST", "/token/exchange", body=urlencode(form).encode(), headers=FORM)
    assert expect is None or answer.status == expect, answer.body
    return json.loads(answer.body)


def client_of(answer):
    """A docker client that uses the credential of an exchange."""
    key = keys.find(answer["username"])
    return DockerClient(Persona(key.user, key, answer["password"]))


def age(issuer, **since):
    """Let the last fetch of the keys be so long ago."""
    then = timezone.now() - timedelta(**since)
    Issuer.objects.filter(pk=issuer.pk).update(fetched_at=then, attempted_at=then)


# ── What an accepted token gives ─────────────────────────────────────────────────────────────────────────────────────
def test_job_pushes_and_the_tag_says_where_it_came_from(program, rule, ci):
    answer = exchange(program.token(program.github()), 200, service_account="demo/ci")
    assert answer["username"].startswith("KCRT")
    assert answer["password"].startswith("kcrx_")
    assert 3590 <= answer["expires_in"] <= 3600
    assert answer["registry"] == BARE_HOST
    client_of(answer).push("web/app", "1.0")
    via = {
        "issuer": program.url,
        "subject": "repo:Acme/web:ref:refs/heads/main",
        "repository": "Acme/web",
        "ref": "refs/heads/main",
        "commit": "9d5e0c1b2f6a4e3d8c7b6a5f4e3d2c1b0a9f8e7d",
        "workflow": "Acme/web/.github/workflows/build.yml@refs/heads/main",
        "by": "mina",
        "run": f"{program.url}/Acme/web/actions/runs/8675309",
    }
    tagged = Event.objects.get(action=Event.Action.TAG_ADD, tag="1.0")
    assert tagged.detail["via"] == via
    assert tagged.user == ci
    session = FederatedSession.objects.get()
    assert session.provenance == via
    started = AuditEvent.objects.get(action=audit.Action.SESSION_START, organization=None)
    assert started.detail["via"] == via
    assert started.person == ci
    assert TrustRule.objects.get().last_used_at is not None


def test_id_token_is_the_password_of_docker_login(program, rule, ci):
    token = program.token(program.github())
    for name in ("demo/ci", "anything"):
        basic = base64.b64encode(f"{name}:{token}".encode()).decode()
        client = DockerClient(None)
        answer = client.raw(
            "GET",
            f"/token?service={client.host}&scope=repository:web/app:pull,push&offline_token=true",
            headers={"Authorization": f"Basic {basic}"},
        )
        assert answer.status == 200, answer.body
        assert json.loads(answer.body)["refresh_token"].startswith("kcrr_")
    assert FederatedSession.objects.count() == 1


def test_registry_token_of_a_session_carries_where_it_came_from(program, rule):
    client = client_of(exchange(program.token(program.github()), 200))
    client.push("web/app", "1.0")
    pushed = Event.objects.get(action=Event.Action.IMAGE_PUSH)
    assert pushed.detail["via"]["repository"] == "Acme/web"
    assert pushed.key.identifier.startswith("KCRT")


def test_session_is_limited_as_its_rule_says(program, ci, github):
    only = Limits(actions=("pull",), repositories="web")
    service_accounts.add_trust_rule(SYSTEM, ci, github, "pulls", GITHUB, only=only, lifetime=timedelta(minutes=15))
    answer = exchange(program.token(program.github()), 200)
    assert answer["actions"] == ["pull"]
    assert answer["expires_in"] <= 900
    client = client_of(answer)
    client.post("web/app/blobs/uploads/", expect=403)
    client.get("fixed/app/tags/list", expect=403)


def test_credential_of_an_exchange_opens_no_other_door(program, rule, client):
    answer = exchange(program.token(program.github()), 200)
    basic = base64.b64encode(f"{answer['username']}:{answer['password']}".encode()).decode()
    for credentials, status in ((f"Basic {basic}", 403), (f"Bearer {answer['password']}", 401)):
        assert client.get("/api/v1/projects", headers={"authorization": credentials}).status_code == status
    for name in (answer["username"], answer["service_account"]):
        client.post("/sign-in", {"email": name, "password": answer["password"]})
        assert "_auth_user_id" not in client.session


def test_networks_of_a_rule_hold_at_the_exchange(program, ci, github):
    service_accounts.add_trust_rule(SYSTEM, ci, github, "inside", GITHUB, only=Limits(networks="10.1.0.0/16"))
    token = program.token(program.github())
    exchange(token, 401)
    exchange(token, 200, address="10.1.2.3")


def test_token_is_exchanged_once(program, rule):
    token = program.token(program.github())
    exchange(token, 200)
    answer = exchange(token, 401)
    assert answer.items() >= REJECTED.items()
    with pytest.raises(federation.Rejected):
        federation.log_in(federation.Attempt(token))


def test_narrowest_rule_is_used(program, rule, ci, github):
    service_accounts.add_trust_rule(
        SYSTEM, ci, github, "production", GITHUB | {"environment": "production"}, only=Limits(actions=("pull",))
    )
    assert exchange(program.token(program.github()), 200)["actions"] == ["delete", "pull", "push"]
    assert exchange(program.token(program.github(environment="production")), 200)["actions"] == ["pull"]


def test_two_accounts_are_told_apart_by_name_only(program, rule, project, github):
    other = service_accounts.create(SYSTEM, project, "other")
    service_accounts.add_trust_rule(SYSTEM, other, github, "the same", GITHUB)
    token = program.token(program.github())
    exchange(token, 401)
    assert exchange(token, 200, service_account="demo/other")["service_account"] == "other@demo.project.invalid"


def test_shapes_of_gitlab_and_kubernetes(program, acme, ci, project):
    lab = issuers.create(SYSTEM, acme, IssuerKind.GITLAB, program.url)
    claims = {"project_path": "acme/tools/web", "ref": "main", "ref_protected": "true"}
    service_accounts.add_trust_rule(SYSTEM, ci, lab, "gitlab", claims)
    exchange(program.token(program.gitlab(ref_protected="false")), 401)
    exchange(program.token(program.gitlab(ref="dev")), 401)
    exchange(program.token(program.gitlab()), 200)
    session = FederatedSession.objects.get()
    assert session.provenance["run"] == f"{program.url}/acme/tools/web/-/jobs/302"
    assert session.rule.pinned == {"project_id": "22", "namespace_id": "72"}
    trust_rules.delete(SYSTEM, session.rule)
    issuers.delete(SYSTEM, lab)

    cluster = issuers.create(SYSTEM, acme, IssuerKind.KUBERNETES, program.url, audience="kcr")
    service_accounts.add_trust_rule(SYSTEM, ci, cluster, "pods", {"namespace": "ci", "service_account": "build*"})
    exchange(program.token(program.kubernetes()), 401)  # the audience of another registry
    assert exchange(program.token(program.kubernetes(aud=["kcr"])), 200)
    exchange(program.token(program.kubernetes(aud="kcr", sub="system:serviceaccount:ci2:builder")), 401)


def test_generic_issuer_asks_for_its_claims(program, acme, ci):
    issuer = issuers.create(SYSTEM, acme, IssuerKind.GENERIC, program.url)
    claims = {"sub": "org/acme/project/*", "claims": "branch = main\ntrusted = true"}
    service_accounts.add_trust_rule(SYSTEM, ci, issuer, "builds", claims)
    exchange(program.token(program.claims(sub="org/acme/project/7", branch="main", trusted=True)), 200)
    exchange(program.token(program.claims(sub="org/acme/project/7", branch="main")), 401)
    exchange(program.token(program.claims(sub="org/acme/project/7/x", branch="main", trusted=True)), 401)


# ── Who may make a rule ──────────────────────────────────────────────────────────────────────────────────────────────
def test_rule_is_made_only_by_those_who_may_do_what_its_account_may(world, ci, github):
    with pytest.raises(Denied):
        service_accounts.add_trust_rule(world.reader.actor, ci, github, "mine", GITHUB)
    service_accounts.add_trust_rule(world.member.actor, ci, github, "mine", GITHUB)


@pytest.mark.parametrize(
    ("kind", "claims"),
    [
        (IssuerKind.GITHUB, {}),
        (IssuerKind.GITHUB, {"repository": "acme/*"}),
        (IssuerKind.GITHUB, {"repository": "web"}),
        (IssuerKind.GITHUB, GITHUB | {"events": "pull_request_target"}),
        (IssuerKind.GITHUB, GITHUB | {"events": "pull_request"}),
        (IssuerKind.GITHUB, GITHUB | {"ref": "**"}),
        (IssuerKind.GITHUB, GITHUB | {"ref": "refs/**/x"}),
        (IssuerKind.GITHUB, GITHUB | {"ref": "a\nb"}),
        (IssuerKind.KUBERNETES, {"namespace": "*", "service_account": "*"}),
        (IssuerKind.KUBERNETES, {"namespace": "ci"}),
        (IssuerKind.GENERIC, {"sub": "*"}),
        (IssuerKind.GENERIC, {"sub": "ab*"}),
        (IssuerKind.GENERIC, {"sub": "job", "claims": "nothing"}),
        (IssuerKind.GENERIC, {"sub": "job", "claims": "\n".join(f"c{number} = 1" for number in range(9))}),
    ],
)
def test_loose_rules_are_refused(kind, claims):
    with pytest.raises(Refusal):
        trust_rules.read_claims(kind, claims, None)


@pytest.mark.parametrize("lifetime", [timedelta(minutes=15, seconds=-1), timedelta(hours=12, seconds=1)])
def test_session_lives_from_15_minutes_to_12_hours(ci, github, lifetime):
    with pytest.raises(Refusal):
        service_accounts.add_trust_rule(SYSTEM, ci, github, "mine", GITHUB, lifetime=lifetime)


@pytest.mark.parametrize(
    ("wanted", "found", "holds"),
    [
        ("refs/heads/main", "refs/heads/main", True),
        ("refs/heads/main", "refs/heads/main2", False),
        ("refs/heads/main", "xrefs/heads/main", False),
        ("refs/tags/v*", "refs/tags/v1.0", True),
        ("refs/tags/v*", "refs/tags/v1/x", False),
        ("repo:acme/*", "repo:acme/web:pull_request", False),
        ("refs/heads/release/**", "refs/heads/release/1/x", True),
        ("refs/heads/release/**", "refs/heads/release/", False),
        ("refs/heads/release/**", "refs/heads/released", False),
        ("a.c", "abc", False),
        ("main", "main\n", False),
        ("*", "", False),
    ],
)
def test_patterns(wanted, found, holds):
    assert trust_rules.matches(wanted, found) is holds


# ── Ids that are pinned ──────────────────────────────────────────────────────────────────────────────────────────────
def test_repository_of_the_same_name_with_another_id_is_refused(world, program, rule):
    exchange(program.token(program.github()), 200)
    for other in ({"repository_id": "7"}, {"repository_owner_id": "7"}):
        exchange(program.token(program.github(**other)), 401)
    exchange(program.token({k: v for k, v in program.github().items() if k != "repository_id"}), 401)
    refused = AuditEvent.objects.filter(action=audit.Action.TOKEN_REFUSED, organization=None)
    assert "was 1296269 at the first use" in refused.earliest("pk").detail["reason"]
    assert trust_rules.unpin(world.admin.actor, rule)
    exchange(program.token(program.github(repository_id="7")), 200)
    exchange(program.token(program.github()), 401)


# ── Sessions end ─────────────────────────────────────────────────────────────────────────────────────────────────────
def end_session(rule, ci):
    assert federation.end(SYSTEM, FederatedSession.objects.get())


def delete_rule(rule, ci):
    assert trust_rules.delete(SYSTEM, rule)


def disable_account(rule, ci):
    service_accounts.set_active(SYSTEM, ci, is_active=False)


def delete_account(rule, ci):
    service_accounts.delete(SYSTEM, ci)


def let_it_expire(rule, ci):
    AccessKey.objects.filter(session__rule=rule).update(expires_at=timezone.now() - timedelta(seconds=1))


@pytest.mark.parametrize("end", [end_session, delete_rule, disable_account, delete_account, let_it_expire])
def test_session_ends_at_the_next_request(program, rule, ci, end):
    client = client_of(exchange(program.token(program.github()), 200))
    image = client.push("web/app", "1.0")
    path = f"/v2/web/app/manifests/{image.digest}"
    held = {"Authorization": f"Bearer {next(iter(client.tokens.values()))}"}
    assert client.raw("GET", path, headers=held).status == 200
    end(rule, ci)
    assert client.raw("GET", path, headers=held).status == 401
    fresh = DockerClient(client.persona)
    fresh.tokens.clear()
    fresh.token(expect=401)


def test_restored_account_has_none_of_its_former_sessions(program, rule, ci, world):
    client = client_of(exchange(program.token(program.github()), 200))
    service_accounts.delete(world.admin.actor, ci)
    undo.restore_service_account(world.admin.actor, User.objects.get(pk=ci.pk))
    client.token(expect=401)
    ended = AuditEvent.objects.get(action=audit.Action.SESSION_END, organization=None)
    assert (ended.person, ended.actor) == (ci, world.admin.user.email)
    exchange(program.token(program.github()), 200)


def test_deleted_rule_is_restored_by_the_same_person_without_its_sessions(world, program, rule):
    exchange(program.token(program.github()), 200)
    trust_rules.delete(world.admin.actor, rule)
    exchange(program.token(program.github()), 401)
    deleted = TrustRule.objects.get()
    with pytest.raises(Refusal):
        service_accounts.restore_trust_rule(world.owner.actor, deleted)
    service_accounts.restore_trust_rule(world.admin.actor, deleted)
    assert not AccessKey.objects.alive().filter(session__isnull=False).exists()
    exchange(program.token(program.github()), 200)


def test_id_token_of_an_ended_session_makes_no_other_one(program, rule):
    attempt = federation.Attempt(program.token(program.github()))
    federation.log_in(attempt)
    federation.end(SYSTEM, FederatedSession.objects.get())
    with pytest.raises(federation.Rejected):
        federation.log_in(attempt)


def test_sessions_are_no_keys_in_lists_limits_and_mails(program, rule, ci, project, mailoutbox, monkeypatch):
    monkeypatch.setattr(keys, "KEYS_PER_SERVICE_ACCOUNT", 1)
    answer = exchange(program.token(program.github()), 200)
    service_accounts.make_key(SYSTEM, ci, "lasting")
    assert [key.name for key in members.keys_in_project(project).filter(user=ci)] == ["lasting"]
    assert tasks.warn_of_expiry() == 0
    client = client_of(answer)
    assert "Warning" not in client.get("", expect=200).headers


def test_an_account_has_so_many_sessions_at_most(program, rule, monkeypatch):
    monkeypatch.setattr(federation, "SESSIONS", 1)
    exchange(program.token(program.github()), 200)
    exchange(program.token(program.github()), 401)


def test_sessions_are_forgotten_with_the_audit_log(program, rule, settings):
    exchange(program.token(program.github()), 200)
    AccessKey.objects.filter(session__rule=rule).update(expires_at=timezone.now() - timedelta(days=31))
    assert federation.forget() == 0
    settings.HISTORY_DAYS = 30
    assert federation.forget()
    assert not FederatedSession.objects.exists()


# ── The keys of an issuer ────────────────────────────────────────────────────────────────────────────────────────────
def test_issuer_may_be_away_for_twelve_hours_and_no_longer_than_a_day(program, rule, github):
    program.answers = {"/keys": (500, b""), "/.well-known/openid-configuration": (500, b"")}
    age(github, hours=12)
    assert issuers.refresh_due() == 0
    assert Issuer.objects.get().problem == "127.0.0.1 answered with status 500"
    exchange(program.token(program.github()), 200)
    age(github, hours=25)
    exchange(program.token(program.github()), 401)
    program.answers = {}
    age(github, hours=25)
    exchange(program.token(program.github()), 200)


def test_new_key_of_the_issuer_works_within_one_request(program, rule, github):
    program.keys.append(SigningKey("key-2", "ES256"))
    age(github, minutes=2)
    exchange(program.token(program.github()), 200)
    exchange(program.keys[0].sign(program.github()), 200)


def test_token_may_leave_the_name_of_the_key_out_if_the_issuer_has_one(program, rule, github):
    nameless = raw(header='{"alg": "RS256", "typ": "JWT"}')
    exchange(nameless(program), 200)
    program.keys.insert(0, SigningKey("key-0", "ES256"))
    age(github, hours=2)
    assert issuers.refresh_due() == 1
    program.keys.reverse()
    exchange(nameless(program), 401)


def test_unknown_keys_cost_one_fetch_a_minute_and_lose_none(program, rule, github):
    age(github, minutes=2)
    program.requests.clear()
    for number in range(50):
        exchange(SigningKey(f"unknown-{number}").sign(program.github()), 401)
    assert program.requests == ["/.well-known/openid-configuration", "/keys"]
    exchange(program.token(program.github()), 200)


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"not json"),
        (200, b'{"keys": []}'),
        (200, b'{"keys": [{"kty": "oct", "kid": "key-1", "k": "c2VjcmV0"}]}'),
        (200, b'{"keys": "many"}'),
        (200, json.dumps({"keys": [SigningKey(str(number)).jwk for number in range(51)]}).encode()),
        (200, b" " * 300_000),
        (302, b""),
        (404, b""),
    ],
)
def test_bad_answer_of_the_issuer_leaves_the_keys(program, rule, github, answer):
    program.answers["/keys"] = answer
    age(github, minutes=2)
    assert issuers.refresh_due() == 0
    age(github, hours=1)
    issuers.refresh_due()
    assert Issuer.objects.get().problem
    exchange(program.token(program.github()), 200)


def test_configuration_has_to_name_the_issuer_itself(program, acme):
    configuration = {"issuer": program.url + "/", "jwks_uri": f"{program.url}/keys"}
    program.answers["/.well-known/openid-configuration"] = (200, json.dumps(configuration).encode())
    issuer = issuers.create(SYSTEM, acme, IssuerKind.GENERIC, program.url)
    assert issuer.problem == "the configuration of the issuer names another issuer"
    assert issuer.keys == []


def test_issuer_in_the_network_of_the_operator_is_refused(acme, settings):
    for url in ("http://127.0.0.1:8500", "https://10.0.0.1", "https://169.254.169.254", "http://93.184.215.14"):
        with pytest.raises(Refusal):
            issuers.create(SYSTEM, acme, IssuerKind.GENERIC, url)


def test_uploaded_keys_are_never_fetched(acme, ci):
    program = Program("https://cluster.internal")
    cluster = issuers.create(SYSTEM, acme, IssuerKind.KUBERNETES, program.url, keys=program.jwks)
    service_accounts.add_trust_rule(SYSTEM, ci, cluster, "pods", {"namespace": "ci", "service_account": "builder"})
    exchange(program.token(program.kubernetes()), 200)
    exchange(SigningKey("other").sign(program.kubernetes()), 401)
    program.keys = [SigningKey("newer", "ES384")]
    issuers.upload_keys(SYSTEM, cluster, program.jwks)
    assert exchange(program.token(program.kubernetes()), 200)
    assert FederatedSession.objects.first().rule.pinned == {"uid": "0c9a1d0e-5b1c-4f6f-9f51-0a3f0a4b1c2d"}


def test_keys_uploaded_by_one_organization_open_nothing_of_another(world, program, rule):
    forger = Program(program.url, [SigningKey("key-1", "ES256")])
    other = Organization.objects.get(name="other")
    issuers.create(SYSTEM, other, IssuerKind.GITHUB, program.url, keys=forger.jwks)
    exchange(forger.token(forger.github()), 401)
    exchange(forger.token(forger.github()), 401, service_account="demo/ci")


def test_rule_of_another_organization_brings_no_keys_for_this_one(world, program, rule):
    forger = Program(program.url, [SigningKey("key-1", "ES256")])
    rival = world.projects["rival"]
    issuer = issuers.create(SYSTEM, rival.organization, IssuerKind.GITHUB, program.url, keys=forger.jwks)
    account = service_accounts.create(SYSTEM, rival, "ci")
    service_accounts.add_trust_rule(SYSTEM, account, issuer, "own", GITHUB | {"repository": "rival/web"})
    exchange(forger.token(forger.github()), 401)
    with pytest.raises(Refusal):
        service_accounts.add_trust_rule(SYSTEM, rule.account, issuer, "foreign", GITHUB)


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"])
def test_algorithms_that_are_accepted(acme, ci, algorithm):
    program = Program(keys=[SigningKey("key", algorithm)])
    issuer = issuers.create(SYSTEM, acme, IssuerKind.GITHUB, program.url, keys=program.jwks)
    service_accounts.add_trust_rule(SYSTEM, ci, issuer, "rule", GITHUB)
    exchange(program.token(program.github()), 200)


# ── Hostile tokens ───────────────────────────────────────────────────────────────────────────────────────────────────
def signed(program, header, claims, algorithm="RS256"):
    """A token with exactly these JSON texts, signed by the issuer's own key."""
    text = f"{base64url(header.encode())}.{base64url(claims.encode())}"
    from jwt import get_algorithm_by_name

    return f"{text}.{base64url(get_algorithm_by_name(algorithm).sign(text.encode(), program.keys[0].private))}"


def with_header(**more):
    return lambda program: program.keys[0].sign(program.github(), **more)


def with_claims(**more):
    return lambda program: program.token({k: v for k, v in program.github(**more).items() if v is not None})


def at(**moved):
    """Times moved by so many seconds from now."""
    return lambda program: program.token(program.github(**{k: int(time.time()) + v for k, v in moved.items()}))


def unsigned(algorithm):
    def make(program):
        header = {"alg": algorithm, "kid": "key-1", "typ": "JWT"}
        return f"{base64url(header)}.{base64url(program.github())}."

    return make


def with_public_key_as_secret(shape):
    def make(program):
        public = program.keys[0].private.public_key()
        secret = (
            json.dumps(program.keys[0].jwk).encode()
            if shape == "jwk"
            else public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        text = f"{base64url({'alg': 'HS256', 'kid': 'key-1', 'typ': 'JWT'})}.{base64url(program.github())}"
        return f"{text}.{base64url(hmac.new(secret, text.encode(), hashlib.sha256).digest())}"

    return make


def of_stranger(**header):
    """Signed by a key of the attacker, which the header brings along."""

    def make(program):
        key = SigningKey(header.pop("kid", "key-1"), "ES256")
        brought = {name: key.jwk if value == "own" else value for name, value in header.items()}
        return key.sign(program.github(), **brought)

    return make


def raw(header=None, claims=None):
    """The JSON of header or claims as text; {} stands for the right one."""

    def make(program):
        good_header = json.dumps({"alg": "RS256", "kid": "key-1", "typ": "JWT"})
        good_claims = json.dumps(program.github())
        return signed(
            program,
            (header or "{}").replace("{}", good_header, 1),
            (claims or "{}").replace("{}", good_claims, 1).replace("[inner]", good_claims[1:-1]),
        )

    return make


def broken(change):
    return lambda program: change(program.token(program.github()))


def flipped_signature(token):
    return token[:-10] + ("A" if token[-10] != "A" else "B") + token[-9:]


def swapped_claims(token):
    header, _claims, signature = token.split(".")
    return f"{header}.{base64url(Program().github())}.{signature}"


HOSTILE = {
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg nOnE": unsigned("nOnE"),
    "alg empty": unsigned(""),
    "no signature": broken(lambda token: token.rpartition(".")[0] + "."),
    "two parts": broken(lambda token: token.rpartition(".")[0]),
    "four parts": broken(lambda token: token + ".e30"),
    "five parts, encrypted": broken(lambda token: token + ".e30.e30"),
    "flipped signature": broken(flipped_signature),
    "claims of another token": broken(swapped_claims),
    "padding": broken(lambda token: token + "=="),
    "space": broken(lambda token: token + " "),
    "line end": broken(lambda token: token + "\n"),
    "17 KiB": with_claims(padding="x" * 17_000),
    "HS256 with the public key": with_public_key_as_secret("pem"),
    "HS256 with the JWK": with_public_key_as_secret("jwk"),
    "RS1": raw(header='{"alg": "RS1", "kid": "key-1", "typ": "JWT"}'),
    "ES512": lambda program: SigningKey("key-1", "ES512").sign(program.github()),
    "PS512": lambda program: SigningKey("key-1", "PS512").sign(program.github()),
    "alg is a list": raw(header='{"alg": ["RS256"], "kid": "key-1", "typ": "JWT"}'),
    "another algorithm of the same key": lambda program: SigningKey("key-1", "ES256").sign(program.github()),
    "key of a stranger": of_stranger(),
    "own jwk": of_stranger(jwk="own"),
    "own jwk and an unknown kid": of_stranger(jwk="own", kid="mine"),
    "jku": of_stranger(jku="https://evil.test/keys"),
    "x5u": of_stranger(x5u="https://evil.test/cert"),
    "x5c": of_stranger(x5c=["MIIB"]),
    "jku of the issuer": with_header(jku="https://evil.test/keys"),
    "crit": with_header(crit=["exp"], exp=1),
    "b64": with_header(b64=False, crit=["b64"]),
    "zip": with_header(zip="DEF"),
    "unknown header": with_header(epk={}),
    "nested token": with_header(cty="JWT"),
    "access token": with_header(typ="at+jwt"),
    "logout token": with_header(typ="logout+jwt"),
    "kid is null": raw(header='{"alg": "RS256", "kid": null, "typ": "JWT"}'),
    "kid empty": raw(header='{"alg": "RS256", "kid": "", "typ": "JWT"}'),
    "kid is a number": raw(header='{"alg": "RS256", "kid": 1, "typ": "JWT"}'),
    "kid is a path": with_header(kid="../../../../dev/null"),
    "kid is SQL": with_header(kid="' OR 1=1 --"),
    "kid with NUL": with_header(kid="key-1\0"),
    "kid of 300 characters": with_header(kid="k" * 300),
    "kid twice": raw(header='{"alg": "RS256", "kid": "x", "kid": "key-1", "typ": "JWT"}'),
    "header is a list": raw(header="[]"),
    "iss with a slash": lambda program: program.token(program.github(iss=program.url + "/")),
    "iss in capitals": lambda program: program.token(program.github(iss=program.url.upper())),
    "iss is a list": lambda program: program.token(program.github(iss=[program.url])),
    "iss of another": with_claims(iss="https://evil.test"),
    "iss with NUL": with_claims(iss="https://evil.test\0"),
    "iss missing": with_claims(iss=None),
    "iss twice": raw(claims='{"iss": "https://evil.test", [inner]}'),
    "aud of another service": with_claims(aud="https://pypi.test"),
    "aud with a slash": with_claims(aud=AUDIENCE + "/"),
    "aud is a prefix": with_claims(aud=AUDIENCE[:-1]),
    "two auds": with_claims(aud=[AUDIENCE, "https://pypi.test"]),
    "aud is an object": with_claims(aud={AUDIENCE: True}),
    "aud empty": with_claims(aud=[]),
    "aud missing": with_claims(aud=None),
    "expired": at(iat=-600, nbf=-600, exp=-61),
    "exp is a text": with_claims(exp="9999999999"),
    "exp is true": with_claims(exp=True),
    "exp missing": with_claims(exp=None),
    "exp is NaN": raw(claims='{"exp": NaN, [inner]}'),
    "exp is infinite": raw(claims='{"exp": 1e999, [inner]}'),
    "exp in the year 10000": with_claims(exp=10**400),
    "valid for a year": at(exp=365 * 24 * 3600),
    "issued in the future": at(iat=120, exp=300),
    "not valid yet": at(nbf=120),
    "iat missing": with_claims(iat=None),
    "iat is negative infinity": raw(claims='{"iat": -Infinity, [inner]}'),
    "sub missing": with_claims(sub=None),
    "sub is a number": with_claims(sub=7),
    "claims are a list": raw(claims="[1]"),
    "claims are deep": raw(claims='{"a": ' + "[" * 5_000 + "]" * 5_000 + "}"),
    "repository of a stranger": with_claims(repository="evil/web"),
    "repository with a prefix": with_claims(repository="acme/web2"),
    "repository with a line end": with_claims(repository="acme/web\n"),
    "repository is a list": with_claims(repository=["acme/web"]),
    "repository missing": with_claims(repository=None),
    "ref of a branch of the same beginning": with_claims(ref="refs/heads/main2"),
    "ref of a tag": with_claims(ref="refs/tags/main"),
    "pull_request_target": with_claims(event_name="pull_request_target"),
    "pull_request": with_claims(event_name="pull_request", ref="refs/heads/main"),
    "event missing": with_claims(event_name=None),
    "repository of another id": with_claims(repository_id="7"),
    "owner of another id": with_claims(repository_owner_id="7"),
    "id missing": with_claims(repository_id=None),
}


def test_the_list_of_hostile_tokens_is_long():
    assert len(HOSTILE) >= 60


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_token_gets_nothing(program, rule, name):
    exchange(program.token(program.github()), 200)  # pins the ids
    program.requests.clear()
    sessions = FederatedSession.objects.count()
    token = HOSTILE[name](program)
    for account in ({}, {"service_account": "demo/ci"}):
        answer = exchange(token, 401, **account)
        del answer["request_id"]
        assert answer == REJECTED
    basic = base64.b64encode(f"demo/ci:{token}".encode()).decode()
    said = DockerClient(None, BARE_HOST).raw(
        "GET", f"/token?service={BARE_HOST}", headers={"Authorization": f"Basic {basic}"}
    )
    assert said.status == 401
    assert FederatedSession.objects.count() == sessions
    assert program.requests == []  # the keys were fetched less than a minute ago


def test_refused_token_fetches_nothing_from_an_issuer_that_no_rule_names(program, github):
    age(github, hours=1)
    program.requests.clear()
    exchange(program.token(program.github()), 401)
    assert program.requests == []


@pytest.mark.parametrize(
    "form",
    [
        {"grant_type": "password"},
        {"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"},
        {"subject_token": ""},
    ],
)
def test_other_forms_are_requests_that_are_not_understood(rule, form):
    exchange(**{"token": "x", "expect": 400} | form)


def test_refusals_are_counted_in_the_log_of_the_account(program, rule, ci):
    for _ in range(3):
        exchange(program.token(program.github(ref="refs/heads/dev")), 401)
    event = AuditEvent.objects.get(action=audit.Action.TOKEN_REFUSED, organization=None)
    assert (event.person, event.count) == (ci, 3)
    assert event.detail["reason"] == "ref is refs/heads/dev, but the rule wants refs/heads/main"


def test_pasted_token_says_which_rule_accepts_it_and_starts_nothing(program, rule, ci, github):
    service_accounts.add_trust_rule(SYSTEM, ci, github, "tags", GITHUB | {"ref": "refs/tags/v*"})
    problem, looks = federation.look(list(trust_rules.of(ci)), program.token(program.github()))
    assert problem == ""
    assert [(each.rule.name, each.problem) for each in looks] == [
        ("web on main", ""),
        ("tags", "ref is refs/heads/main, but the rule wants refs/tags/v*"),
    ]
    expired = program.token(program.github(exp=int(time.time()) - 100, iat=int(time.time()) - 200))
    assert federation.look(list(trust_rules.of(ci)), expired) == ("it has expired", [])
    assert not FederatedSession.objects.exists()
