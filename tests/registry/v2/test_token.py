"""The token service: logins, granted scopes, refresh tokens, guessing and forged tokens."""

from __future__ import annotations

import base64
import json
import logging
import re
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.db import OperationalError
from django.utils import timezone

from accounts import guesses, keys, tokens
from accounts.models import AccessKey, RefreshToken, SignInFailure, User
from tests.support import PASSWORD
from tests.support.docker_client import BARE_HOST, PROJECT_HOST, DockerClient
from tests.support.personas import Persona, make_key

if TYPE_CHECKING:
    from tests.support.registry_client import Answer


# ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def basic(name: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{secret}".encode()).decode()}


def get(client: DockerClient, *scopes: str, headers: dict[str, str] | None = None, **parameters: str) -> Answer:
    """GET /token with these scopes, each in a parameter of its own."""
    query = urlencode([*({"service": client.host} | parameters).items(), *(("scope", scope) for scope in scopes)])
    return client.raw("GET", f"/token?{query}", headers=client.basic() if headers is None else headers)


def post(client: DockerClient, *scopes: str, **form: str) -> Answer:
    """POST /token as an OAuth2 client does it; as the client's person unless the form says otherwise."""
    if client.persona and "grant_type" not in form:
        form = {
            "grant_type": "password",
            "username": client.persona.key.identifier,
            "password": client.persona.secret,
            **form,
        }
    body = urlencode([*({"service": client.host} | form).items(), *(("scope", scope) for scope in scopes)])
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    return client.raw("POST", "/token", body=body.encode(), headers=headers)


def part(token: str, index: int) -> dict[str, object]:
    text = token.split(".")[index]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def access_of(answer: Answer) -> dict[str, str]:
    """``{"repository:web/app": "pull,push"}``"""
    claims = part(answer.json()["token"], 1)
    return {f"{entry['type']}:{entry['name']}": ",".join(entry["actions"]) for entry in claims["access"]}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# ── The answer ───────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("ask", [get, post])
def test_answer_has_the_fields_that_clients_read(docker, ask):
    before = datetime.now(UTC).replace(microsecond=0)
    answer = ask(docker("member"), "repository:web/app:pull,push")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert "no-store" in answer.headers["Cache-Control"]
    document = answer.json()
    assert document["token"] == document["access_token"]
    assert 60 <= document["expires_in"] <= 3600
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["issued_at"])
    assert before <= datetime.fromisoformat(document["issued_at"]) <= datetime.now(UTC)
    assert "refresh_token" not in document
    assert document.get("scope") == ("repository:web/app:pull,push" if ask is post else None)
    claims = part(document["token"], 1)
    assert {"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "access"} <= claims.keys()
    assert (claims["iss"], claims["aud"]) == ("http://localhost:8080", PROJECT_HOST)
    assert claims["exp"] - claims["iat"] == document["expires_in"]
    assert part(document["token"], 0).keys() == {"alg", "kid", "typ"}
    assert ask(docker("member")).json()["token"] != document["token"]


@pytest.mark.parametrize("ask", [get, post])
def test_login_needs_no_scope(docker, ask):
    """``docker login``"""
    for scopes in ((), ("",)):
        answer = ask(docker("member"), *scopes)
        assert (answer.status, access_of(answer)) == (200, {})
        assert docker("member").raw("GET", "/v2/", headers=bearer(answer.json()["token"])).status == 200


SCOPES = [
    # persona, scopes (repeated parameters), granted scopes
    ("member", ["repository:web/app:pull"], {"repository:web/app": "pull"}),
    ("member", ["repository:web/app:push,pull"], {"repository:web/app": "pull,push"}),
    ("member", ["repository:web/app:*"], {"repository:web/app": "delete,pull,push"}),
    ("member", ["repository:web/app:pull,*"], {"repository:web/app": "delete,pull,push"}),
    ("pusher", ["repository:web/app:*"], {"repository:web/app": "pull,push"}),
    ("reader", ["repository:web/app:*"], {"repository:web/app": "pull"}),
    ("viewer", ["repository:web/app:pull,push,delete"], {"repository:web/app": "pull"}),
    ("viewer", ["repository:web/app:push"], {}),
    ("viewer", ["repository:web/app:view,manage,administer"], {}),
    ("owner", ["repository:web/app:manage,administer,view,pull"], {"repository:web/app": "pull"}),
    ("stranger", ["repository:web/app:pull"], {}),
    ("stranger", ["repository:public/app:pull,push"], {"repository:public/app": "pull"}),
    (None, ["repository:public/app:pull,push"], {"repository:public/app": "pull"}),
    (None, ["repository:web/app:pull"], {}),
    (
        "pusher",
        ["repository:web/app:pull,push", "repository:public/app:pull,push", "repository:fixed/app:pull"],
        {"repository:web/app": "pull,push", "repository:public/app": "pull"},
    ),
    (
        "pusher",
        ["repository:web/app:pull,push repository:public/app:pull"],
        {"repository:web/app": "pull,push", "repository:public/app": "pull"},
    ),
    (
        "member",
        ["repository:web/app:pull  repository:fixed/app:pull", "", " ", "repository:web/app:push"],
        {"repository:web/app": "pull,push", "repository:fixed/app": "pull"},
    ),
    ("member", ["repository(plugin):web/app:pull"], {"repository:web/app": "pull"}),
    ("member", ["registry:catalog:*"], {"registry:catalog": "*"}),
    ("member", ["registry:catalog:pull", "registry:other:*"], {}),
    ("member", ["repository:web/app:pull,conquer,PULL"], {"repository:web/app": "pull"}),
    ("member", ["repository:web/app:"], {}),
    ("member", ["repository:registry.example.com:5000/web/app:pull"], {}),
    ("member", ["repository:localhost:8080/demo/web/app:pull repository:web/app:pull"], {"repository:web/app": "pull"}),
    ("member", ["repository:web:pull"], {}),
    ("member", ["repository:web/../fixed/app:pull"], {}),
    ("member", ["repository:WEB/app:pull"], {}),
    ("member", ["Repository:web/app:pull"], {}),
    ("member", ["namespace:web/app:pull"], {}),
    # Users who may know that a repository is missing get scopes for a future one.
    ("member", ["repository:missing/app:pull,push"], {"repository:missing/app": "pull,push"}),
    ("pusher", ["repository:missing/app:pull,push"], {}),
]


@pytest.mark.parametrize(
    ("ask", "name", "scopes", "expected"),
    [(get, *row) for row in SCOPES] + [(post, *row) for row in SCOPES if row[0]],  # POST needs credentials
)
def test_granted_scopes_are_the_requested_and_permitted_ones(docker, ask, name, scopes, expected):
    answer = ask(docker(name), *scopes)
    assert answer.status == 200
    assert access_of(answer) == expected
    if ask is post:
        assert answer.json()["scope"].split() == [f"{resource}:{actions}" for resource, actions in expected.items()]


def test_token_allows_exactly_the_granted_scopes(docker):
    for name in ("web", "fixed"):
        docker("member").push(f"{name}/app", "1.0")
    client = docker("member")
    both = bearer(get(client, "repository:web/app:pull", "repository:fixed/app:push").json()["token"])
    assert client.raw("GET", "/v2/web/app/tags/list", headers=both).status == 200
    assert client.raw("POST", "/v2/fixed/app/blobs/uploads/", headers=both).status == 202
    for method, path in (
        ("POST", "/v2/web/app/blobs/uploads/"),
        ("DELETE", "/v2/web/app/manifests/1.0"),
        ("GET", "/v2/fixed/app/tags/list"),
        ("GET", "/v2/web/other/tags/list"),
        ("GET", "/v2/web/app/more/tags/list"),
        ("GET", "/v2/_catalog"),
    ):
        answer = client.raw(method, path, headers=both)
        assert answer.status == 401, path
        assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
        assert "scope=" in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("ask", [get, post])
def test_token_has_the_first_scopes_that_fit_in_a_header(docker, ask):
    """A client that mirrors many images requests all scopes in one token."""
    short = [f"repository:missing/app{number}:*" for number in range(52)]
    long = [f"repository:missing/{number:02}{'a' * 180}:*" for number in range(52)]
    for scopes, least in ((short, 50), ([" ".join(short)], 50), (long, 18)):
        answer = ask(docker("member"), *scopes)
        assert answer.status == 200
        granted = list(access_of(answer))
        assert granted == [scope.removesuffix(":*") for text in scopes for scope in text.split()][: len(granted)]
        assert least <= len(granted) <= 50
        header = bearer(answer.json()["token"])
        assert len(f"Authorization: {header['Authorization']}") < 8_000
        name = granted[-1].removeprefix("repository:")
        assert docker("member").raw("POST", f"/v2/{name}/blobs/uploads/", headers=header).codes == ["NAME_UNKNOWN"]


@pytest.mark.parametrize("scope", ["pull", "repository", "repository:web", ":web/app:pull", "repository::pull"])
def test_invalid_scope_is_refused(docker, scope):
    answer = get(docker("member"), scope)
    assert answer.status == 400
    assert "type:name:actions" in answer.message


@pytest.mark.parametrize("ask", [get, post])
@pytest.mark.parametrize(
    "service",
    [
        *("", "registry.example.com", "localhost", "localhost:80", "LOCALHOST:8080", "localhost:8080/", "kcr"),
        *("demo.kr-central-2.kcr.localhost", "demo.kr-central-1.kcr.localhost:8080", "demo.localhost:8080"),
        *("demo.kr-central-2.kcr.localhost:8080.example.com", "abc.demo.kr-central-2.kcr.localhost:8080"),
        *("..kr-central-2.kcr.localhost:8080", ".kr-central-2.kcr.localhost:8080", "demo\0"),
    ],
)
def test_tokens_are_issued_for_known_services_only(docker, ask, service):
    answer = ask(docker("member"), service=service)
    assert answer.status == 400
    assert "service" in answer.message


def test_additional_parameters_of_clients_are_ignored(docker):
    """Parameters of docker, containerd and containers/image without an effect."""
    extra = {"account": "anybody", "client_id": "docker", "unknown": "x"}
    assert access_of(get(docker("member"), "repository:web/app:pull", **extra)) == {"repository:web/app": "pull"}
    assert access_of(post(docker("member"), "repository:web/app:pull", **extra)) == {"repository:web/app": "pull"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"grant_type=authorization_code&code=1", 400),
        (b"grant_type=client_credentials", 400),
        (b"grant_type=password", 401),
        (b"grant_type=refresh_token", 401),
        (b"grant_type=refresh_token&refresh_token=", 401),
        (b"grant_type=password&username=%00&password=%00", 401),
        (b"grant_type=password&username=%FF&password=%ED%A0%80", 401),
        (b"&".join(b"scope=repository:web/app:pull" for _ in range(65)), 400),
        (b'{"grant_type": "password"}', 400),
        (b"\xff\xfe", 400),
        (b"scope=" + b"a" * 70_000, 400),
    ],
)
def test_invalid_forms_are_refused(docker, body, status):
    text = f"service={PROJECT_HOST}&".encode() + body if body[:1] not in {b"{", b"\xff"} else body
    answer = docker(None).raw(
        "POST", "/token", body=text, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert answer.status == status
    assert answer.codes == ["UNAUTHORIZED" if status == 401 else "UNSUPPORTED"]


# ── Credentials ──────────────────────────────────────────────────────────────────────────────────────────────────────
def wrong_credentials(persona: Persona) -> dict[str, tuple[str, str]]:
    name, secret = persona.key.identifier, persona.secret
    last = "b" if secret[-1] == "a" else "a"
    return {
        "a wrong last character": (name, secret[:-1] + last),
        "one character more": (name, secret + "a"),
        "one character less": (name, secret[:-1]),
        "a newline at the end": (name, secret + "\n"),
        "a space at the end": (name, secret + " "),
        "another case": (name, secret.upper()),
        "no secret": (name, ""),
        "the stored hash": (name, persona.key.secret_hash),
        "the prefix": (name, keys.SECRET_PREFIX),
        "a long secret": (name, secret * 300),
        "an unknown key": ("KCRKAAAAAAAAAAAAAAAA", secret),
        "a name of another case": (name.lower(), secret),
        "a name that is cut": (name[:-1], secret),
        "a name with more behind": (name + "A" * 20, secret),
        "no name": ("", secret),
        "an e-mail address": (persona.user.email, secret),
        "lone surrogates": (name, "\udc80"),
        "NUL": (name + "\0", secret),
    }


@pytest.mark.parametrize("cause", wrong_credentials(Persona(User(), AccessKey(secret_hash="0" * 64), "kcrs_a")))
def test_refusal_of_wrong_credentials_reveals_nothing(world, docker, cause):
    name, secret = wrong_credentials(world.member)[cause]
    text = base64.b64encode(f"{name}:{secret}".encode(errors="surrogateescape")).decode()
    for path in (f"/token?service={PROJECT_HOST}", "/v2/"):
        answer = docker(None).raw("GET", path, headers={"Authorization": f"Basic {text}"})
        assert answer.status == 401
        assert answer.codes == ["UNAUTHORIZED"]
        assert answer.message in {
            "unknown access key, or wrong secret",
            "the Authorization header cannot be read",
            *(["the secret is empty"] if cause == "no secret" else []),
        }
    assert "WWW-Authenticate" in answer.headers


def test_key_identifier_of_another_user_does_not_authenticate(world, docker):
    for name, secret in (
        (world.member.key.identifier, world.owner.secret),
        (world.owner.key.identifier, world.member.secret),
    ):
        assert get(docker(None), headers=basic(name, secret)).status == 401


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (lambda persona: keys.revoke(persona.key), "was revoked"),
        (lambda persona: AccessKey.objects.update(expires_at=timezone.now()), "has expired"),
        (lambda persona: User.objects.update(is_active=False), "not active"),
    ],
)
def test_only_the_holder_is_told_why_a_key_ended(world, docker, end, words):
    end(world.member)
    identifier = world.member.key.identifier
    answer = get(docker("member"))
    assert answer.status == 401
    assert words in answer.message
    other = get(docker(None), headers=basic(identifier, "wrong"))
    assert other.message == "unknown access key, or wrong secret"


def test_console_password_is_refused_and_only_its_holder_is_told_why(world, docker):
    world.member.user.set_password(PASSWORD)
    world.member.user.save()
    email, client = world.member.user.email, docker(None)
    for ask in (lambda name, secret: get(client, headers=basic(name, secret)),
                lambda name, secret: post(client, grant_type="password", username=name, password=secret)):  # fmt: skip
        right, upper = ask(email, PASSWORD), ask(email.upper(), PASSWORD)
        assert {right.status, upper.status} == {401}
        assert "console password" in right.message
        assert "access key" in right.message
        assert right.message == upper.message
        wrong, unknown = ask(email, PASSWORD + "!"), ask("nobody@acme.test", PASSWORD)
        assert wrong.message == unknown.message == "unknown access key, or wrong secret"
    User.objects.update(is_active=False)
    assert get(client, headers=basic(email, PASSWORD)).message == "unknown access key, or wrong secret"


# ── Anonymous clients ────────────────────────────────────────────────────────────────────────────────────────────────
def test_anonymous_token_pulls_public_images(docker):
    image = docker("member").push("public/app", "1.0")
    assert docker(None).pull("public/app", "1.0")[0] == image.manifest


def test_anonymous_token_reads_nothing_private(docker):
    """CVE-2026-27771: an anonymous token pulled private images and read the catalog."""
    image = docker("member").push("web/app", "1.0")
    client = docker(None)
    answer = get(client, "repository:web/app:*", "registry:catalog:*", offline_token="true")
    assert (answer.status, access_of(answer)) == (200, {"registry:catalog": "*"})
    assert "refresh_token" not in answer.json()
    headers = bearer(answer.json()["token"])
    for path in (
        "tags/list",
        "manifests/1.0",
        f"manifests/{image.digest}",
        f"referrers/{image.digest}",
        f"blobs/{json.loads(image.manifest)['config']['digest']}",
    ):
        assert client.raw("GET", f"/v2/web/app/{path}", headers=headers).status == 401
    assert client.raw("GET", "/v2/_catalog", headers=headers).json() == {"repositories": []}


def test_anonymous_upload_to_a_public_repository_is_refused(docker):
    client = docker(None)
    headers = bearer(client.token("repository:public/app:pull,push"))
    assert client.raw("POST", "/v2/public/app/blobs/uploads/", headers=headers).status == 401
    assert client.raw("PUT", "/v2/public/app/manifests/1.0", headers=headers).status == 401


# ── Hosts ────────────────────────────────────────────────────────────────────────────────────────────────────────────
LAB_HOST = PROJECT_HOST.replace("demo", "lab")


@pytest.mark.parametrize(
    ("made_for", "used_at"),
    [
        (PROJECT_HOST, BARE_HOST),
        (BARE_HOST, PROJECT_HOST),
        (PROJECT_HOST, LAB_HOST),
        (LAB_HOST, PROJECT_HOST),
        (BARE_HOST, LAB_HOST),
    ],
)
def test_a_token_is_for_one_host(world, docker, made_for, used_at):
    scopes = ["repository:web/app:pull", "repository:demo/web/app:pull", "registry:catalog:*"]
    token = get(docker("owner", made_for), *scopes).json()["token"]
    assert docker("owner", made_for).raw("GET", "/v2/", headers=bearer(token)).status == 200
    for path in ("/v2/", "/v2/_catalog", "/v2/web/app/tags/list", "/v2/demo/web/app/tags/list", "/v2/none"):
        answer = docker("owner", used_at).raw("GET", path, headers=bearer(token))
        assert answer.status == 401
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]
        assert f'service="{used_at}"' in answer.headers["WWW-Authenticate"]


def test_tokens_for_each_host_are_issued_at_every_host(docker):
    """The realm is one address for the challenges of all hosts."""
    docker("member").push("web/app", "1.0")
    for asked_at in (BARE_HOST, PROJECT_HOST):
        for service, name in ((BARE_HOST, "demo/web/app"), (PROJECT_HOST, "web/app")):
            answer = get(docker("member", asked_at), f"repository:{name}:pull", service=service)
            client = docker("member", service)
            path = f"/v2/{name}/tags/list"
            assert client.raw("GET", path, headers=bearer(answer.json()["token"])).status == 200


# ── Refresh tokens ───────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def refresh_token(docker) -> str:
    return str(get(docker("member"), offline_token="true").json()["refresh_token"])


def redeem(client: DockerClient, token: str, *scopes: str, **form: str) -> Answer:
    return post(client, *scopes, grant_type="refresh_token", refresh_token=token, **form)


def test_refresh_token_is_issued_only_on_request(docker):
    assert get(docker("member"), offline_token="true").json()["refresh_token"]
    assert post(docker("member"), access_type="offline").json()["refresh_token"]
    for answer in (
        get(docker("member")),
        get(docker("member"), offline_token="false"),
        post(docker("member")),
        post(docker("member"), access_type="online"),
        get(docker(None), offline_token="true"),
    ):
        assert answer.status == 200
        assert "refresh_token" not in answer.json()


@pytest.mark.parametrize("how", [{"offline_token": "true"}, {"access_type": "offline"}])
def test_refresh_token_is_issued_for_usable_hosts_only(docker, how):
    """A user without a role in a project or its repositories gets the answer for a missing project."""
    ask = get if "offline_token" in how else post
    for name, project, is_kept in (
        *(("reader", "demo", True), ("viewer", "demo", True), ("stranger", "demo", True)),  # demo/public is public
        *(("owner", "lab", True), ("member", "lab", False), ("outsider", "lab", False)),
        *(("outsider", "rival", True), ("member", "rival", False), ("owner", "rival", False)),
        *((name, "nowhere", False) for name in ("owner", "member", "outsider")),
    ):
        answer = ask(docker(name), service=PROJECT_HOST.replace("demo", project), **how)
        assert answer.status == 200
        assert ("refresh_token" in answer.json()) == is_kept, (name, project)
    assert "refresh_token" in ask(docker("stranger", BARE_HOST), **how).json()


def test_token_is_issued_while_the_database_is_read_only(docker, monkeypatch, caplog):
    def fails(**fields):
        raise OperationalError("database or disk is full")

    monkeypatch.setattr(RefreshToken.objects, "create", fails)
    answer = get(docker("member"), "repository:web/app:pull", offline_token="true")
    assert answer.status == 200
    assert "refresh_token" not in answer.json()
    assert "could not be written" in caplog.text


def test_refresh_token_authenticates_as_its_key(docker, refresh_token):
    for _ in range(2):
        answer = redeem(docker(None), refresh_token, "repository:web/app:*")
        assert access_of(answer) == {"repository:web/app": "delete,pull,push"}
        assert "refresh_token" not in answer.json()
    docker("member").push("web/app", "1.0")
    headers = bearer(answer.json()["token"])
    assert docker(None).raw("GET", "/v2/web/app/tags/list", headers=headers).status == 200


def test_a_refresh_token_keeps_the_limits_of_its_key(world):
    persona = make_key(world.owner.user, "limited", actions=["pull"], project=world.projects["demo"])
    client = DockerClient(persona, BARE_HOST)
    token = get(client, offline_token="true").json()["refresh_token"]
    answer = redeem(client, token, "repository:demo/web/app:*", "repository:lab/secret/app:*")
    assert access_of(answer) == {"repository:demo/web/app": "pull"}


def test_a_refresh_token_is_for_its_service_only(docker, refresh_token):
    assert redeem(docker(None, BARE_HOST), refresh_token).status == 401
    assert redeem(docker(None), refresh_token, service=LAB_HOST).status == 401
    assert redeem(docker(None), refresh_token).status == 200


def test_refresh_tokens_and_other_secrets_are_not_interchangeable(world, docker, refresh_token):
    client = docker("member")
    assert client.raw("GET", "/v2/", headers=bearer(refresh_token)).status == 401
    assert get(client, headers=basic(world.member.key.identifier, refresh_token)).status == 401
    assert redeem(client, world.member.secret).status == 401
    assert redeem(client, client.token()).status == 401
    assert redeem(client, refresh_token + "a").status == 401
    assert redeem(client, refresh_token[:-1]).status == 401
    assert redeem(client, RefreshToken.objects.get().token_hash).status == 401


@pytest.mark.parametrize(
    "end",
    [
        lambda persona: keys.revoke(persona.key),
        lambda persona: AccessKey.objects.filter(pk=persona.key.pk).update(expires_at=timezone.now()),
        lambda persona: AccessKey.objects.filter(pk=persona.key.pk).delete(),
        lambda persona: User.objects.filter(pk=persona.user.pk).update(is_active=False),
        lambda persona: RefreshToken.objects.update(expires_at=timezone.now()),
        lambda persona: RefreshToken.objects.all().delete(),
    ],
    ids=["key revoked", "key expired", "key deleted", "user deactivated", "run out", "revoked"],
)
def test_a_refresh_token_ends_with_its_key(world, docker, refresh_token, end):
    assert redeem(docker(None), refresh_token).status == 200
    end(world.member)
    answer = redeem(docker(None), refresh_token)
    assert answer.status == 401
    assert "log in again" in answer.message


def test_refresh_token_expires_with_its_key(world):
    soon = timezone.now() + timedelta(days=1)
    client = DockerClient(make_key(world.member.user, "short", expires_at=soon))
    assert get(client, offline_token="true").status == 200
    assert RefreshToken.objects.get().expires_at == soon
    assert RefreshToken.objects.get().expires_at < timezone.now() + tokens.REFRESH_LIFETIME


def test_a_refresh_token_is_stored_hashed(docker, refresh_token):
    row = RefreshToken.objects.get()
    assert len(refresh_token) >= 52  # 256 bits in base 32
    assert all(refresh_token[5:] not in str(value) for value in vars(row).values())
    assert row.service == PROJECT_HOST


# ── Guessing ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def guess(times: int, address: str, name: str = "KCRKAAAAAAAAAAAAAAAA", **headers: str) -> list[Answer]:
    client = DockerClient(None, address=address)
    return [get(client, headers=basic(name, f"wrong{number}") | headers) for number in range(times)]


def login(persona: Persona, address: str, **headers: str) -> Answer:
    client = DockerClient(persona, address=address)
    return get(client, headers=client.basic() | headers)


def test_ten_wrong_secrets_block_their_address_only(world):
    """Wrong secrets are refused at this address. A right secret is accepted: it has 256 random bits and cannot be guessed."""
    name = world.member.key.identifier
    assert {answer.status for answer in guess(10, "10.9.9.9", name)} == {401}
    for answer in (*guess(1, "10.9.9.9", name), *guess(1, "10.9.9.9")):
        assert answer.status == 429
        assert answer.codes == ["TOOMANYREQUESTS"]
        assert "wrong secret" in answer.message
        assert 1 <= int(answer.headers["Retry-After"]) <= 301
    assert guess(1, "10.9.9.8")[0].status == 401
    for persona in (world.member, world.viewer, world.outsider):
        assert login(persona, "10.9.9.9").status == 200
    client = DockerClient(world.member, address="10.9.9.9")
    assert client.raw("GET", "/v2/", headers=client.basic()).status == 200
    assert post(client).status == 200
    SignInFailure.objects.update(at=timezone.now() - guesses.WINDOW - timedelta(seconds=1))
    assert guess(1, "10.9.9.9", name)[0].status == 401


@pytest.mark.parametrize("value", ["Basic", "Basic ", "Basic Og=="])
def test_empty_credentials_are_not_counted_as_a_guess(world, value):
    client = DockerClient(None, address="10.9.9.9")
    for _ in range(12):
        for path in (f"/token?service={PROJECT_HOST}", "/v2/"):
            answer = client.raw("GET", path, headers={"Authorization": value})
            assert (answer.status, answer.message) == (401, "the secret is empty")
    assert not SignInFailure.objects.exists()


def test_guesses_are_counted_at_every_endpoint(world):
    client = DockerClient(None, address="10.9.9.9")

    def guess_at(door: int, number: int) -> Answer:
        name = f"KCRK{number}"
        if door == 0:
            return get(client, headers=basic(name, "wrong"))
        if door == 1:
            return client.raw("GET", "/v2/", headers=basic(name, "wrong"))
        return post(client, grant_type="password", username=name, password="wrong")

    assert {guess_at(number % 3, number).status for number in range(10)} == {401}
    assert [guess_at(door, 10).status for door in range(3)] == [429] * 3


def test_guesses_from_other_addresses_block_no_one(world):
    """Many addresses guess at one account. Wrong secrets are refused, the right secret is accepted."""
    name = world.member.key.identifier
    statuses = [guess(1, f"10.1.0.{number}", name)[0].status for number in range(12)]
    assert statuses[:10] == [401] * 10
    assert statuses[10:] == [429] * 2
    assert login(world.member, "10.2.0.1").status == 200


def test_successful_login_is_not_counted_as_a_guess(world):
    for _ in range(12):
        assert login(world.member, "10.9.9.9").status == 200
    assert guess(1, "10.9.9.9")[0].status == 401


def test_x_forwarded_for_is_ignored_without_trusted_proxies(world):
    """Without trusted proxies the header neither hides the client's address nor blocks another one."""
    for number in range(10):
        guess(1, "10.9.9.9", **{"X-Forwarded-For": f"10.3.0.{number}"})
    other = "KCRKBBBBBBBBBBBBBBBB"
    assert guess(1, "10.9.9.9", other)[0].status == 429
    assert guess(1, "10.9.9.9", other, **{"X-Forwarded-For": "10.4.0.1"})[0].status == 429
    assert guess(1, "10.3.0.1", other)[0].status == 401


def test_x_forwarded_for_is_believed_from_trusted_proxies(world, settings):
    settings.TRUSTED_PROXIES = [ip_network("10.8.0.0/24"), ip_network("10.7.0.1/32")]
    assert {answer.status for answer in guess(10, "10.8.0.1", **{"X-Forwarded-For": "192.0.2.1"})} == {401}
    for proxy, header, status in (
        ("10.8.0.1", "192.0.2.1", 429),
        ("10.8.0.2", "192.0.2.1", 429),
        ("10.8.0.1", "192.0.2.1, 10.7.0.1", 429),  # two proxies in a row
        ("10.8.0.1", "198.51.100.1, 192.0.2.1", 429),  # the client sent the header itself
        ("10.8.0.1", " 192.0.2.1 ", 429),
        ("192.0.2.1", "198.51.100.1", 429),  # not through a proxy
        ("10.8.0.1", "192.0.2.2", 401),
        ("10.8.0.1", "192.0.2.1, 198.51.100.1", 401),
        ("10.8.0.1", "", 401),
        ("198.51.100.1", "192.0.2.1", 401),
        ("10.8.0.1", "192.0.2.1, nonsense", 401),
    ):
        (answer,) = guess(1, proxy, f"KCRK {proxy} {header}", **{"X-Forwarded-For": header} if header else {})
        assert answer.status == status, (proxy, header)


def test_credentials_are_never_logged(world, docker, caplog):
    """docs/design/security.md 20: no secret, token or refresh token, right or wrong, in any log record."""
    with caplog.at_level(logging.DEBUG):
        client = docker("member")
        answer = get(client, "repository:web/app:pull", offline_token="true").json()
        redeem(client, answer["refresh_token"])
        redeem(client, "kcrr_wrong-refresh-token")
        get(client, headers=basic(world.member.key.identifier, "wrong-secret"))
        post(client, username="x", password="wrong-password", grant_type="password")
        client.raw("GET", "/v2/web/app/tags/list", headers=bearer(answer["token"]))
        client.raw("GET", f"/v2/?access_token={answer['token']}", headers=bearer("wrong-bearer"))
        client.raw("GET", f"/token?service={PROJECT_HOST}&password=in-the-query&scope={quote('repository:a/b:pull')}")
    said = "\n".join(
        [caplog.text, *(str(vars(record)) for record in caplog.records if record.name != "django.db.backends")]
    )
    assert "/v2/web/app/tags/list" in said
    for word in (
        world.member.secret,
        client.basic()["Authorization"].split()[1],
        answer["token"],
        answer["refresh_token"],
        *("wrong-secret", "wrong-password", "wrong-bearer", "wrong-refresh-token", "in-the-query"),
    ):
        assert word not in said, word


# ── Forged tokens ────────────────────────────────────────────────────────────────────────────────────────────────────
LEFT_OUT = object()


class Forger:
    """Makes tokens with chosen defects, where needed with the private key of the installation."""

    def __init__(self, client: DockerClient) -> None:
        token = client.token("repository:web/app:pull")
        self.kid, self.private = tokens._keys.signing()
        self.header, self.claims = part(token, 0), part(token, 1)
        self.public_pem = self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.public_raw = self.private.public_key().public_bytes(
            serialization.Encoding.Raw, serialization.PublicFormat.Raw
        )
        self.foreign = Ed25519PrivateKey.generate()
        jwk = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(self.foreign.public_key()))
        self.foreign_jwk = {**jwk, "kid": self.kid, "alg": "EdDSA", "use": "sig"}

    def sign(self, signer=None, algorithm: str = "EdDSA", header: dict | None = None, **claims: object) -> str:
        """Return a token with these changes; LEFT_OUT removes a claim."""
        said = {name: value for name, value in (self.claims | claims).items() if value is not LEFT_OUT}
        return jwt.encode(said, signer or self.private, algorithm, headers={"kid": self.kid, **(header or {})})

    def raw(self, header: object, payload: object = None, key=None) -> str:
        """Return header and payload, signed with the key of the installation or another one."""

        def encoded(value: object) -> bytes:
            text = value if isinstance(value, bytes) else json.dumps(value).encode()
            return base64.urlsafe_b64encode(text).rstrip(b"=")

        text = encoded(header) + b"." + encoded(self.claims if payload is None else payload)
        return (text + b"." + base64.urlsafe_b64encode((key or self.private).sign(text)).rstrip(b"=")).decode()

    def hmac(self, key: bytes) -> str:
        """Sign with HS256 and a public key. (PyJWT itself refuses to sign with a PEM.)"""
        import hashlib
        import hmac

        header = {"alg": "HS256", "typ": "JWT", "kid": self.kid}
        text = ".".join(self.raw(header).split(".")[:2]).encode()
        signature = base64.urlsafe_b64encode(hmac.new(key, text, hashlib.sha256).digest()).rstrip(b"=")
        return (text + b"." + signature).decode()


FORGERIES = {
    "alg none": lambda f: f.raw({"alg": "none", "typ": "JWT", "kid": f.kid}).rpartition(".")[0] + ".",
    "alg None": lambda f: f.raw({"alg": "None", "typ": "JWT", "kid": f.kid}).rpartition(".")[0] + ".",
    "alg none with a signature": lambda f: f.raw({"alg": "none", "kid": f.kid}),
    "no alg": lambda f: f.raw({"typ": "JWT", "kid": f.kid}),
    "alg is a list": lambda f: f.raw({"alg": ["EdDSA"], "kid": f.kid}),
    "HS256 with the public key": lambda f: f.hmac(f.public_pem),
    "HS256 with the public key, stripped": lambda f: f.hmac(f.public_pem.strip()),
    "HS256 with the raw public key": lambda f: f.hmac(f.public_raw),
    "HS256 with nothing": lambda f: f.hmac(b""),
    "HS256 with the kid": lambda f: f.hmac(f.kid.encode()),
    "ES256 with a key of one's own": lambda f: f.sign(ec.generate_private_key(ec.SECP256R1()), "ES256"),
    "RS256 with a key of one's own": lambda f: f.sign(rsa.generate_private_key(65537, 2048), "RS256"),
    "a key of one's own under our kid": lambda f: f.sign(f.foreign),
    "a key of one's own under a kid of its own": lambda f: f.sign(f.foreign, header={"kid": "mine"}),
    "a key of one's own in jwk": lambda f: f.sign(f.foreign, header={"jwk": f.foreign_jwk}),
    "a key of one's own in jwk, no kid": lambda f: f.raw({"alg": "EdDSA", "jwk": f.foreign_jwk}, key=f.foreign),
    "a key of one's own at jku": lambda f: f.sign(f.foreign, header={"jku": "https://example.com/jwks.json"}),
    "a key of one's own at x5u": lambda f: f.sign(f.foreign, header={"x5u": "https://example.com/a.pem"}),
    "a key of one's own in x5c": lambda f: f.sign(f.foreign, header={"x5c": ["MIIB"]}),
    "an unknown kid": lambda f: f.sign(header={"kid": "0" * 16}),
    "an empty kid": lambda f: f.sign(header={"kid": ""}),
    "no kid": lambda f: f.raw({"alg": "EdDSA", "typ": "JWT"}),
    "a kid that is a path": lambda f: f.sign(header={"kid": "../../../../dev/null"}),
    "a kid that is SQL": lambda f: f.sign(header={"kid": "' OR '1'='1"}),
    "a kid that is a list": lambda f: f.raw({"alg": "EdDSA", "kid": [f.kid]}),
    "a kid that is null": lambda f: f.raw({"alg": "EdDSA", "kid": None}),
    "a kid with NUL": lambda f: f.sign(header={"kid": f.kid + "\0"}),
    "jku under our own signature": lambda f: f.sign(header={"jku": "https://example.com/jwks.json"}),
    "jwk under our own signature": lambda f: f.sign(header={"jwk": f.foreign_jwk}),
    "an unknown crit": lambda f: f.sign(header={"crit": ["exp2"], "exp2": 1}),
    "an empty crit": lambda f: f.sign(header={"crit": []}),
    "crit b64": lambda f: f.raw({"alg": "EdDSA", "kid": f.kid, "crit": ["b64"], "b64": False}),
    "alg twice": lambda f: f.raw(b'{"alg":"EdDSA","kid":"x","alg":"none"}').rpartition(".")[0] + ".",
    "a header that is a list": lambda f: f.raw(["EdDSA"]),
    "a header that is no JSON": lambda f: f.raw(b"{"),
    "a payload that is a list": lambda f: f.raw(f.header, [f.claims]),
    "a payload that is no JSON": lambda f: f.raw(f.header, b"{"),
    "another issuer": lambda f: f.sign(iss="https://example.com"),
    "another port of the issuer": lambda f: f.sign(iss="http://localhost:8081"),
    "another audience": lambda f: f.sign(aud="registry.example.com"),
    "the audience without its port": lambda f: f.sign(aud=PROJECT_HOST.partition(":")[0]),
    "expired": lambda f: f.sign(exp=int(time.time()) - 1),
    "expired long ago": lambda f: f.sign(exp=0),
    "valid for longer than we ever issue": lambda f: f.sign(exp=f.claims["iat"] + 15 * 60 + 1),
    "valid for years": lambda f: f.sign(exp=int(time.time()) + 10**8),
    "valid for ever": lambda f: f.sign(exp=float("inf")),
    "issued at no moment": lambda f: f.sign(iat=float("nan")),
    "exp is no number": lambda f: f.sign(exp="tomorrow"),
    "not valid before tomorrow": lambda f: f.sign(nbf=int(time.time()) + 86400),
    "issued tomorrow": lambda f: f.sign(iat=int(time.time()) + 86400),
    **{
        f"no {claim}": lambda f, claim=claim: f.sign(**{claim: LEFT_OUT})
        for claim in ("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "access", "user", "key")
    },
    "access that is no list": lambda f: f.sign(access={"type": "repository"}),
    "access of texts": lambda f: f.sign(access=["repository:web/app:pull"]),
    "access with half an entry": lambda f: f.sign(access=[{"type": "repository", "name": "web/app"}]),
    "a cut signature": lambda f: f.sign()[:-2],
    "no signature": lambda f: f.sign().rpartition(".")[0],
    "an empty signature": lambda f: f.sign().rpartition(".")[0] + ".",
    "other claims under our signature": lambda f: ".".join(
        [f.sign().split(".")[0], f.sign(user=1).split(".")[1], f.sign().split(".")[2]]
    ),
    "two tokens": lambda f: f"{f.sign()}.{f.sign()}",
    "two tokens with a comma": lambda f: f"{f.sign()},{f.sign()}",
    "two tokens with a space": lambda f: f"{f.sign()} {f.sign()}",
    "five parts": lambda f: f.sign() + "..",
    "nothing": lambda f: "",
    "points": lambda f: "..",
    "no base 64": lambda f: "%%%.%%%.%%%",
    "letters of other alphabets": lambda f: "ä.ö.ü",
    "a megabyte": lambda f: f.sign() + "A" * 1_000_000,
    "deeply nested": lambda f: f.raw(b"[" * 2_500),
    "deeply nested claims": lambda f: f.raw(f.header, b"[" * 2_500),
}


def test_unchanged_token_of_the_forger_is_accepted(docker):
    """Control: an unchanged token is accepted, so each refusal below is caused by its change."""
    forger = Forger(docker("viewer"))
    for token in (forger.sign(), forger.raw(forger.header)):
        assert docker("viewer").raw("GET", "/v2/", headers=bearer(token)).status == 200


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_token_is_refused(docker, name):
    docker("member").push("public/app", "1.0")
    client = docker("viewer")
    token = FORGERIES[name](Forger(client))
    for path in ("/v2/", "/v2/web/app/tags/list", "/v2/public/app/tags/list", "/v2/_catalog"):
        answer = client.raw("GET", path, headers=bearer(token))
        assert answer.status == 401, path
        assert answer.codes == ["UNAUTHORIZED"]
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


def test_a_forged_token_does_not_make_its_holder_the_system(docker):
    docker("member").push("web/app", "1.0")
    client = docker("viewer")
    forger = Forger(client)
    access = [grant | {"actions": ["pull", "push", "delete"]} for grant in forger.claims["access"]]
    token = forger.sign(user=None, key=None, system=True, access=access)
    assert client.raw("GET", "/v2/web/app/tags/list", headers=bearer(token)).status == 401
    assert client.raw("DELETE", "/v2/web/app/manifests/1.0", headers=bearer(token)).status == 401


def test_guessing_key_identifiers_costs_no_query_each(docker, django_assert_max_num_queries):
    client = docker("viewer")
    forger = Forger(client)
    guesses = [forger.sign(header={"kid": f"{number:016x}"}) for number in range(30)]
    with django_assert_max_num_queries(5):  # one query for each second of this loop
        for token in guesses:
            assert client.raw("GET", "/v2/", headers=bearer(token)).status == 401


def test_a_rotated_signing_key_leaves_tokens_in_use_alive(docker):
    client = docker("member")
    before = client.token()
    assert tokens.rotate_signing_key()
    after = client.token()
    assert part(before, 0)["kid"] != part(after, 0)["kid"]
    for token in (before, after):
        assert client.raw("GET", "/v2/", headers=bearer(token)).status == 200
