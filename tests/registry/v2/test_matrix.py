"""Permissions of the registry API: every route and method for every role and kind of repository.

TABLE is the specification, one status for each cell. Each row is requested with a token, as docker does, and with the access key
itself (Basic), those of manifests on the bare host as well. A route or method without a row fails.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest
from django.test import RequestFactory
from django.urls import URLPattern, get_resolver

from accounts import organizations
from accounts.actors import SYSTEM
from accounts.models import ProjectRole, User
from registry import members, uploads
from registry.v2.exchange import GRANT_TYPE, ID_TOKEN
from registry.v2.handler import Handler
from tests.support.database import rolled_back
from tests.support.docker_client import BARE_HOST, PROJECT_HOST, DockerClient
from tests.support.images import OCTETS, Image, sha256
from tests.support.personas import World, make_key

if TYPE_CHECKING:
    from tests.support.registry_client import Answer

# web is private, public is public, both in project demo; missing does not exist. "-": the route has no repository.
# anonymous has an anonymous token; deactivated was a member of the project when the token was issued.
TABLE = """
route     method repository anonymous owner admin member reader pusher viewer stranger outsider deactivated
root      GET    -                200   200   200    200    200    200    200      200      200         401
root      HEAD   -                200   200   200    200    200    200    200      200      200         401
catalog   GET    -                200   200   200    200    200    200    200      200      200         401
catalog   HEAD   -                200   200   200    200    200    200    200      200      200         401

tags      GET    web              401   200   200    200    200    200    200      404      404         401
tags      GET    public           200   200   200    200    200    200    200      200      200         401
tags      GET    missing          401   404   404    404    404    404    404      404      404         401
tags      HEAD   web              401   200   200    200    200    200    200      404      404         401
tags      HEAD   public           200   200   200    200    200    200    200      200      200         401
tags      HEAD   missing          401   404   404    404    404    404    404      404      404         401

uploads   POST   web              401   202   202    202    403    202    403      404      404         401
uploads   POST   public           401   202   202    202    403    403    403      403      403         401
uploads   POST   missing          401   404   404    404    404    404    404      404      404         401

upload    GET    web              401   204   204    204    403    204    403      404      404         401
upload    GET    public           401   204   204    204    403    403    403      403      403         401
upload    GET    missing          401   404   404    404    404    404    404      404      404         401
upload    HEAD   web              401   204   204    204    403    204    403      404      404         401
upload    HEAD   public           401   204   204    204    403    403    403      403      403         401
upload    HEAD   missing          401   404   404    404    404    404    404      404      404         401
upload    PATCH  web              401   202   202    202    403    202    403      404      404         401
upload    PATCH  public           401   202   202    202    403    403    403      403      403         401
upload    PATCH  missing          401   404   404    404    404    404    404      404      404         401
upload    PUT    web              401   201   201    201    403    201    403      404      404         401
upload    PUT    public           401   201   201    201    403    403    403      403      403         401
upload    PUT    missing          401   404   404    404    404    404    404      404      404         401
upload    DELETE web              401   204   204    204    403    204    403      404      404         401
upload    DELETE public           401   204   204    204    403    403    403      403      403         401
upload    DELETE missing          401   404   404    404    404    404    404      404      404         401

blob      GET    web              401   200   200    200    200    200    200      404      404         401
blob      GET    public           200   200   200    200    200    200    200      200      200         401
blob      GET    missing          401   404   404    404    404    404    404      404      404         401
blob      HEAD   web              401   200   200    200    200    200    200      404      404         401
blob      HEAD   public           200   200   200    200    200    200    200      200      200         401
blob      HEAD   missing          401   404   404    404    404    404    404      404      404         401
blob      DELETE web              401   202   202    202    403    403    403      404      404         401
blob      DELETE public           401   202   202    202    403    403    403      403      403         401
blob      DELETE missing          401   404   404    404    404    404    404      404      404         401

manifest  GET    web              401   200   200    200    200    200    200      404      404         401
manifest  GET    public           200   200   200    200    200    200    200      200      200         401
manifest  GET    missing          401   404   404    404    404    404    404      404      404         401
manifest  HEAD   web              401   200   200    200    200    200    200      404      404         401
manifest  HEAD   public           200   200   200    200    200    200    200      200      200         401
manifest  HEAD   missing          401   404   404    404    404    404    404      404      404         401
manifest  PUT    web              401   201   201    201    403    201    403      404      404         401
manifest  PUT    public           401   201   201    201    403    403    403      403      403         401
manifest  PUT    missing          401   404   404    404    404    404    404      404      404         401
manifest  DELETE web              401   202   202    202    403    403    403      404      404         401
manifest  DELETE public           401   202   202    202    403    403    403      403      403         401
manifest  DELETE missing          401   404   404    404    404    404    404      404      404         401

referrers GET    web              401   200   200    200    200    200    200      404      404         401
referrers GET    public           200   200   200    200    200    200    200      200      200         401
referrers GET    missing          401   200   200    200    200    404    404      404      404         401
referrers HEAD   web              401   200   200    200    200    200    200      404      404         401
referrers HEAD   public           200   200   200    200    200    200    200      200      200         401
referrers HEAD   missing          401   200   200    200    200    404    404      404      404         401

diagnostics GET  -                401   401   401    401    401    401    401      401      401         401
diagnostics PATCH -               401   401   401    401    401    401    401      401      401         401

unknown   GET    -                404   404   404    404    404    404    404      404      404         401
unknown   HEAD   -                404   404   404    404    404    404    404      404      404         401
unknown   POST   -                404   404   404    404    404    404    404      404      404         401
unknown   PUT    -                404   404   404    404    404    404    404      404      404         401
unknown   PATCH  -                404   404   404    404    404    404    404      404      404         401
unknown   DELETE -                404   404   404    404    404    404    404      404      404         401

token     GET    -                200   200   200    200    200    200    200      200      200         401
token     POST   -                401   200   200    200    200    200    200      200      200         401
exchange  POST   -                401   401   401    401    401    401    401      401      401         401
healthz   GET    -                200   200   200    200    200    200    200      200      200         200
readyz    GET    -                200   200   200    200    200    200    200      200      200         200
"""

PATHS = {
    "root": "/v2/",
    "catalog": "/v2/_catalog",
    "tags": "/v2/{name}/tags/list",
    "uploads": "/v2/{name}/blobs/uploads/",
    "upload": "/v2/{name}/blobs/uploads/{upload}",
    "blob": "/v2/{name}/blobs/{digest}",
    "manifest": "/v2/{name}/manifests/1.0",
    "referrers": "/v2/{name}/referrers/{digest}",
    "diagnostics": "/v2/_diagnostics/request",  # takes a pass of the doctor
    "unknown": "/v2/nothing/here",
    "token": "/token",
    "exchange": "/token/exchange",
    "healthz": "/healthz",
    "readyz": "/readyz",
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")
CODES = {
    *("BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN"),
    *("MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED"),
    *("UNSUPPORTED", "TOOMANYREQUESTS"),
}
ACTIONS = {"PUT": "pull,push", "DELETE": "delete"}  # scopes of the challenge; all other scopes are "pull"
SCOPES = {"catalog": "registry:catalog:*"}
PEOPLE, *_LINES = [line.split() for line in TABLE.split("\n") if line]
PEOPLE = PEOPLE[3:]


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    route: str
    method: str
    repository: str
    expected: dict[str, int]

    def __str__(self) -> str:
        return "-".join(filter(None, [self.route, self.method, self.repository.strip("-")]))


ROWS = [Row(line[0], line[1], line[2], dict(zip(PEOPLE, map(int, line[3:]), strict=True))) for line in _LINES]
REGISTRY_ROWS = [row for row in ROWS if row.route not in {"healthz", "readyz"}]


# ── Data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass
class Scene:
    """The world with an image app:1.0 in web and public, an unreferenced blob, and a deactivated user."""

    world: World
    image: Image
    loose: bytes = b"named by no manifest"
    tokens: dict[tuple[str, ...], str] = field(default_factory=dict)

    def body(self, row: Row, person: str) -> tuple[bytes, dict[str, str]]:
        """Return body and headers of the row's request."""
        if row.route == "manifest" and row.method == "PUT":
            return self.image.manifest, {"Content-Type": self.image.media_type}
        if row.route == "upload" and row.method in {"PATCH", "PUT"}:
            return b"some bytes", {"Content-Type": OCTETS}
        if row.route == "token" and row.method == "POST":
            persona = self.world.people.get(person)
            form = {
                "grant_type": "password",
                "service": PROJECT_HOST,
                "username": persona.key.identifier if persona else "",
                "password": persona.secret if persona else "",
            }
            return urlencode(form).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
        if row.route == "exchange" and row.method == "POST":  # credentials of users are no ID tokens
            persona = self.world.people.get(person)
            form = {"grant_type": GRANT_TYPE, "subject_token_type": ID_TOKEN}
            form["subject_token"] = persona.secret if persona else "none"
            return urlencode(form).encode(), {"Content-Type": "application/x-www-form-urlencoded"}
        return b"", {}

    def path(self, row: Row, person: str, prefix: str = "") -> str:
        """Return the path of the row's request. An upload belongs to the requesting user (or to the member)."""
        upload = ""
        if row.route == "upload":
            repository = self.world.repository("web" if row.repository == "missing" else row.repository)
            owner = self.world.people.get(person, self.world.member)
            upload = str(uploads.start(owner.actor, repository, "app").pk)
        digest = sha256(self.loose if row.method == "DELETE" else self.image.layers[0])
        path = PATHS[row.route].format(name=f"{prefix}{row.repository}/app", upload=upload, digest=digest)
        query = {
            "token": f"?service={PROJECT_HOST}&scope=repository:web/app:pull",
            "upload": f"?digest={sha256(b'some bytes')}",
        }
        return path + query.get(row.route, "")


@pytest.fixture
def scene(world, docker) -> Scene:
    image = Image(layers=[b"a layer of the matrix"])
    found = Scene(world, image)
    for repository in ("web", "public"):
        docker("member").push(f"{repository}/app", "1.0", image)
        docker("member").push_blob(f"{repository}/app", found.loose)
    user, _ = organizations.add_user(world.projects["demo"].organization, "deactivated@acme.test")
    members.set_role(SYSTEM, world.projects["demo"], user, ProjectRole.MEMBER)
    world.people["deactivated"] = make_key(user)
    return found


def deactivate(scene: Scene, person: str) -> None:
    if person == "deactivated":
        User.objects.filter(pk=scene.world.people[person].user.pk).update(is_active=False)


def client_of(scene: Scene, person: str, host: str = PROJECT_HOST) -> DockerClient:
    return DockerClient(scene.world.people.get(person), host)


# ── Requests ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def with_token(scene: Scene, row: Row, person: str, host: str = PROJECT_HOST) -> Answer:
    """Send the request as docker does: get a challenge, fetch a token for it, repeat the request."""
    client = client_of(scene, person, host)
    path = scene.path(row, person, "demo/" if host == BARE_HOST else "")
    body, headers = scene.body(row, person)
    if row.route in {"token", "exchange", "healthz", "readyz"}:
        deactivate(scene, person)
        return client.raw(row.method, path, body=body, headers=headers | ({} if body else client.basic()))
    refused = client.raw(row.method, path, body=body, headers=headers)
    assert refused.status == 401, f"{row} without any credentials"
    scope = re.search(r'scope="([^"]*)"', refused.headers["WWW-Authenticate"])
    kept = (person, host, scope[1] if scope else "")
    token = scene.tokens[kept] = scene.tokens.get(kept) or client.token(kept[-1])
    deactivate(scene, person)
    return client.raw(row.method, path, body=body, headers=headers | {"Authorization": f"Bearer {token}"})


def with_token_on_the_bare_host(scene: Scene, row: Row, person: str) -> Answer:
    return with_token(scene, row, person, BARE_HOST)


def with_key(scene: Scene, row: Row, person: str) -> Answer:
    """Send the request with Basic as curl does. An anonymous client sends no credentials."""
    client = client_of(scene, person)
    body, headers = scene.body(row, person)
    path = scene.path(row, person)
    deactivate(scene, person)
    return client.raw(row.method, path, body=body, headers=headers | client.basic())


WAYS = [with_token, with_token_on_the_bare_host, with_key]


def check_shape(row: Row, answer: Answer) -> None:
    """Check the common headers and the form of errors (distribution-spec, "Error Codes")."""
    if row.route in {"healthz", "readyz"}:
        return
    assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if answer.status < 400 or row.method == "HEAD":
        return
    assert answer.headers["Content-Type"] == "application/json"
    document = json.loads(answer.body)
    if row.route == "exchange" and answer.status == 401:  # RFC 6749, section 5.2
        assert document["error"] == "invalid_grant"
        assert document["request_id"] == answer.headers["X-Request-Id"]
        return
    assert set(document) == {"errors"}
    assert document["errors"]
    for error in document["errors"]:
        assert set(error) == {"code", "message", "detail"}
        assert error["code"] in CODES
        assert error["message"]
        assert error["detail"]["request_id"] == answer.headers["X-Request-Id"]
    if answer.status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Basic" if row.route == "token" else "Bearer")


# ── The tests ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("route", "way"),
    [(route, way) for route in PATHS for way in (with_token, with_key)] + [("manifest", with_token_on_the_bare_host)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_every_role_gets_the_answer_of_the_table(scene, route, way):
    wrong = {}
    for row in ROWS:
        if row.route != route:
            continue
        expected = dict(row.expected)
        if way is with_key and row in REGISTRY_ROWS and route not in {"token", "exchange"}:
            expected["anonymous"] = 401  # a request without credentials; public content needs an anonymous token
        for person in PEOPLE:
            with rolled_back():
                answer = way(scene, row, person)
            check_shape(row, answer)
            if answer.status != expected[person]:
                wrong[f"{row} by {person}"] = f"{answer.status}, not {expected[person]}"
    assert wrong == {}


def routes() -> dict[str, URLPattern]:
    """Return every route except those of the console and the management API, which have their own tests."""

    def walk(patterns, namespace):
        for pattern in patterns:
            if isinstance(pattern, URLPattern):
                yield f"{namespace}{pattern.name}", pattern
            elif pattern.namespace not in {"api", "console"}:
                yield from walk(pattern.url_patterns, f"{namespace}{pattern.namespace}:" if pattern.namespace else "")

    return dict(walk(get_resolver().url_patterns, ""))


def test_every_route_has_rows():
    assert {name.removeprefix("v2:") for name in routes()} == {row.route for row in ROWS} == set(PATHS)


@pytest.mark.parametrize("route", [route for route in PATHS if route not in {"healthz", "readyz"}])
def test_every_method_that_a_route_has_is_in_the_table(scene, route):
    rows = [row for row in ROWS if row.route == route]
    known = {row.method for row in rows}
    if route == "unknown":  # the route has no method and answers each in the same way
        known, status = set(), 404
    else:
        status = 405
    path = scene.path(Row(route, "GET", "web", {}), "member")
    for method in METHODS:
        if method not in known:
            row = Row(route, method, "web", {})
            answer = client_of(scene, "member").raw(method, path, headers=client_of(scene, "member").basic())
            check_shape(row, answer)
            assert answer.status == status, f"{method} {path} has no row"
            if method != "HEAD":
                assert answer.codes == ["UNSUPPORTED"]
            if status == 405:
                assert set(answer.headers["Allow"].split(", ")) == known


def test_refusals_of_head_have_no_body(scene):
    """Calls the handler directly, because Django's test client removes the body of HEAD."""
    for row in REGISTRY_ROWS:
        for person in ("anonymous", "stranger"):
            if row.method == "HEAD" and (person == "anonymous" or row.expected[person] >= 400):
                headers = {"host": PROJECT_HOST, **client_of(scene, person).basic()}
                response = Handler().respond(RequestFactory().head(scene.path(row, person), headers=headers))
                assert response.status_code >= 400, f"{row} by {person}"
                assert response.content == b"", f"{row} by {person}"


def test_anonymous_requests_get_a_challenge(scene):
    for row in REGISTRY_ROWS:
        if row.route in {"token", "exchange"}:
            continue
        answer = client_of(scene, "anonymous").raw(row.method, scene.path(row, "anonymous"))
        check_shape(row, answer)
        assert answer.status == 401, row
        actions = "pull,push" if row.route in {"upload", "uploads"} else ACTIONS.get(row.method, "pull")
        scope = f"repository:{row.repository}/app:{actions}" if row.repository != "-" else SCOPES.get(row.route, "")
        assert answer.headers["WWW-Authenticate"] == (
            f'Bearer realm="http://localhost:8080/token",service="{PROJECT_HOST}"'
            + (f',scope="{scope}"' if scope else "")
        )


def test_refusals_give_the_reason_to_users_with_access(scene, docker):
    """Members are told that a repository is missing, viewers which permission they lack."""
    missing = docker("member").get("missing/app/tags/list", 404)
    assert missing.codes == ["NAME_UNKNOWN"]
    assert "has no repository missing" in missing.message
    assert "create" in missing.message
    denied = docker("viewer").put("web/app/manifests/1.0", 403, body=scene.image.manifest)
    assert denied.codes == ["DENIED"]
    assert "Repository Viewer" in denied.message
    assert "Repository Member" in denied.message
    reader = docker("reader").post("web/app/blobs/uploads/", 403)
    assert "Project Reader" in reader.message
    stranger = docker("stranger").get("web/app/tags/list", 404)
    assert stranger.codes == ["NAME_UNKNOWN"]
    assert "create" not in stranger.message


def test_registry_ignores_console_sessions(scene, client):
    """The registry API ignores cookies."""
    client.force_login(scene.world.member.user)
    assert client.cookies
    for path in ("/v2/", "/v2/web/app/manifests/1.0", "/v2/_catalog"):
        assert client.get(path, headers={"host": PROJECT_HOST}).status_code == 401


def test_tokens_of_another_kind_are_refused(scene):
    for credentials in ("Token abc", f"Basic {base64.b64encode(b'no colon').decode()}", "Basic !", "Bearer", "Basic"):
        answer = client_of(scene, "anonymous").raw("GET", "/v2/", headers={"Authorization": credentials})
        assert answer.status == 401, credentials
    unknown = f"{uuid.uuid4().hex}"
    assert client_of(scene, "anonymous").raw("GET", "/v2/", headers={"Authorization": unknown}).status == 401
