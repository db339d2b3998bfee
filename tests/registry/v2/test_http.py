"""Common headers, errors, challenges, names and credentials of the registry API."""

import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from io import BytesIO

import pytest

from accounts.models import User
from registry.oci import media_types
from registry.v2 import http
from tests.support.docker_client import BARE_HOST, PROJECT_HOST, DockerClient
from tests.support.images import Image, sha256
from tests.support.registry_client import Answer

NAME = "web/app"
IMAGE = Image(layers=[])
BLOB = sha256(IMAGE.config)
UPLOADS = f"{NAME}/blobs/uploads/"
RANDOM_ID = "8c5e6f0a-7d4b-4b6e-9c41-0c9d53a1f7aa"
NEVER_PUSHED = sha256(b"never pushed")
CODES = {
    *("BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN"),
    *("MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED"),
    *("DENIED", "UNSUPPORTED", "TOOMANYREQUESTS"),
}


@pytest.fixture
def member(docker):
    """A client that has pushed IMAGE as 1.0."""
    client = docker("member")
    client.push(NAME, "1.0", IMAGE, shape="post")
    return client


@dataclass
class Case:
    """A request and its expected answer."""

    method: str
    path: str
    status: int
    code: str = ""
    person: str | None = "member"
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path} by {self.person}"

    def ask(self, client: DockerClient) -> Answer:
        """Make the request."""
        return client.request(self.method, self.path, self.status, body=self.body, headers=self.headers)


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
OCTETS = {"Content-Type": media_types.BLOB}
GOOD = [
    Case("GET", "/v2/", 200),
    Case("GET", "_catalog", 200),
    Case("GET", f"{NAME}/tags/list", 200),
    Case("GET", f"{NAME}/manifests/1.0", 200),
    Case("HEAD", f"{NAME}/manifests/1.0", 200),
    Case("PUT", f"{NAME}/manifests/2.0", 201, body=IMAGE.manifest, headers={"Content-Type": media_types.OCI_MANIFEST}),
    Case("DELETE", f"{NAME}/manifests/2.0", 202),
    Case("GET", f"{NAME}/referrers/{BLOB}", 200),
    Case("GET", f"{NAME}/blobs/{BLOB}", 200),
    Case("HEAD", f"{NAME}/blobs/{BLOB}", 200),
    Case("GET", f"{NAME}/blobs/{BLOB}", 206, headers={"Range": "bytes=0-1"}),
    Case("GET", f"{NAME}/blobs/{BLOB}", 304, headers={"If-None-Match": f'"{BLOB}"'}),
    Case("POST", UPLOADS, 202),
    Case("POST", f"{UPLOADS}?digest={sha256(b'more')}", 201, body=b"more", headers=OCTETS),
    Case("DELETE", f"{NAME}/blobs/{sha256(b'more')}", 202),
    Case("GET", "public/never-pushed/referrers/" + BLOB, 200, person=None),
]


def test_every_answer_has_the_common_headers(docker, member, subtests):
    for case in GOOD:
        with subtests.test(str(case)):
            answer = case.ask(docker(case.person))
            assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert re.fullmatch(r"[0-9a-f]{16}", answer.headers["X-Request-Id"])
            assert "Set-Cookie" not in answer.headers
            if case.method != "HEAD" and answer.status != 304:
                assert answer.headers.get("Content-Length", str(len(answer.body))) == str(len(answer.body))


def test_each_answer_has_an_id_of_its_own(member):
    assert len({member.get("/v2/", 200).headers["X-Request-Id"] for _ in range(5)}) == 5


# ── Errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────
ERRORS = [
    Case("GET", "/v2/", 401, "UNAUTHORIZED", headers={"Authorization": "Bearer nonsense"}),
    Case("GET", "/v2/", 401, "UNAUTHORIZED", headers={"Authorization": "Basic nonsense"}),
    Case("GET", f"{NAME}/tags/list", 401, "UNAUTHORIZED", person=None),
    Case("GET", f"{NAME}/blobs/{NEVER_PUSHED}", 404, "BLOB_UNKNOWN"),
    Case("GET", f"{NAME}/blobs/sha256:nonsense", 400, "DIGEST_INVALID"),
    Case("DELETE", f"{NAME}/blobs/{NEVER_PUSHED}", 404, "BLOB_UNKNOWN"),
    Case("DELETE", f"{NAME}/blobs/{BLOB}", 405, "UNSUPPORTED"),
    Case("DELETE", f"{NAME}/blobs/{BLOB}", 403, "DENIED", person="pusher"),
    Case("GET", f"{UPLOADS}{RANDOM_ID}", 404, "BLOB_UPLOAD_UNKNOWN"),
    Case("PATCH", f"{UPLOADS}{RANDOM_ID}", 404, "BLOB_UPLOAD_UNKNOWN", body=b"x"),
    Case("PUT", f"{UPLOADS}{RANDOM_ID}", 400, "DIGEST_INVALID", body=b"x"),
    Case("PUT", f"{UPLOADS}{RANDOM_ID}?digest={BLOB}", 404, "BLOB_UPLOAD_UNKNOWN", body=b"x"),
    Case("POST", UPLOADS, 403, "DENIED", person="viewer"),
    Case("POST", f"{UPLOADS}?digest-algorithm=md5", 400, "DIGEST_INVALID"),
    Case("POST", f"{UPLOADS}?digest={NEVER_PUSHED}", 400, "DIGEST_INVALID", body=b"x"),
    Case("GET", f"{NAME}/manifests/none", 404, "MANIFEST_UNKNOWN"),
    Case("GET", f"{NAME}/manifests/{NEVER_PUSHED}", 404, "MANIFEST_UNKNOWN"),
    Case("GET", f"{NAME}/manifests/sha256:nonsense", 400, "DIGEST_INVALID"),
    Case("PUT", f"{NAME}/manifests/2.0", 400, "MANIFEST_INVALID", body=b"{}"),
    Case("PUT", f"{NAME}/manifests/2.0", 413, "MANIFEST_INVALID", headers={"Content-Length": str(10**9)}),
    Case("PUT", f"{NAME}/manifests/2.0", 403, "DENIED", person="reader", body=b"{}"),
    Case("DELETE", f"{NAME}/manifests/1.0", 403, "DENIED", person="pusher"),
    Case("GET", "nowhere/app/manifests/1.0", 404, "NAME_UNKNOWN"),
    Case("GET", f"{NAME}/manifests/1.0", 404, "NAME_UNKNOWN", person="stranger"),
    Case("GET", "web/never-pushed/tags/list", 404, "NAME_UNKNOWN"),
    Case("GET", "WEB/app/tags/list", 400, "NAME_INVALID"),
    Case("GET", "w/app/tags/list", 404, "NAME_UNKNOWN"),
    Case("POST", "w/app/blobs/uploads/", 400, "NAME_INVALID"),
    Case("GET", f"{NAME}/tags/list?n=-1", 400, "UNSUPPORTED"),
    Case("GET", "_catalog?n=x", 400, "UNSUPPORTED"),
    Case("GET", f"{NAME}/referrers/nonsense", 400, "DIGEST_INVALID"),
    Case("GET", "nothing/of/the/kind", 404, "UNSUPPORTED"),
    Case("POST", f"{NAME}/manifests/1.0", 405, "UNSUPPORTED"),
]


@pytest.mark.parametrize("host", [PROJECT_HOST, BARE_HOST])
def test_every_error_has_the_form_of_the_specification(docker, member, subtests, host):
    for case in ERRORS:
        on_host = case
        if host == BARE_HOST and not case.path.startswith(("/", "_")):
            on_host = Case(**(vars(case) | {"path": f"demo/{case.path}"}))
        with subtests.test(str(on_host)):
            answer = on_host.ask(docker(case.person, host))
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            assert answer.codes == [case.code]
            assert answer.json().keys() == {"errors"}
            for error in answer.json()["errors"]:
                assert error.keys() == {"code", "message", "detail"}
                assert error["code"] in CODES
                assert isinstance(error["message"], str)
                assert error["message"]
                assert error["detail"]["request_id"] == answer.headers["X-Request-Id"]
            assert ("WWW-Authenticate" in answer.headers) == (answer.status == 401)
            assert ("Allow" in answer.headers) == (answer.status == 405)


def test_head_has_the_headers_of_get_without_a_body(docker, member, subtests):
    for case in [*GOOD, *ERRORS]:
        if case.method == "GET" and "Range" not in case.headers:
            with subtests.test(str(case)):
                client = docker(case.person)
                full, bare = case.ask(client), Case(**(vars(case) | {"method": "HEAD"})).ask(client)
                assert bare.body == b""
                differing = {"X-Request-Id", "Content-Length"}
                for name in full.headers.keys() - differing:
                    assert bare.headers.get(name) == full.headers[name]


# ── Paths and methods ────────────────────────────────────────────────────────────────────────────────────────────────
UNKNOWN_PATHS = [
    *("/v2/web/app", "/v2/web/app/", "/v2/web/app/tags", "/v2/web/app/tags/list/", "/v2/web/app/tags/list/more"),
    *("/v2/web/app/manifests", "/v2/web/app/manifests/", "/v2/web/app/manifests/1.0/more", "/v2/web/app/blobs/"),
    *("/v2/web/app/referrers/", "/v2/_catalog/", "/v2/_catalog/more", "/v2/tags/list", "/v2/manifests/1.0"),
    *("/v2//manifests/1.0", "/v2//", "/v2/_ping", "/v2/web/app/_trust/tuf/root.json"),
]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"])
def test_unknown_path_is_a_json_error_with_a_login(docker, subtests, method):
    member, nobody = docker("member"), docker(None)
    for path in UNKNOWN_PATHS:
        with subtests.test(path):
            answer = member.request(method, path, 404, body=b"x")
            if method != "HEAD":
                assert answer.codes == ["UNSUPPORTED"]
            assert nobody.raw(method, path).status == 401


ALLOWED = {
    "/v2/": {"GET", "HEAD"},
    "/v2": {"GET", "HEAD"},
    "_catalog": {"GET", "HEAD"},
    f"{NAME}/tags/list": {"GET", "HEAD"},
    f"{NAME}/manifests/1.0": {"GET", "HEAD", "PUT", "DELETE"},
    f"{NAME}/manifests/{IMAGE.digest}": {"GET", "HEAD", "PUT", "DELETE"},
    f"{NAME}/referrers/{IMAGE.digest}": {"GET", "HEAD"},
    f"{NAME}/blobs/{BLOB}": {"GET", "HEAD", "DELETE"},
    UPLOADS: {"POST"},
    f"{UPLOADS}{RANDOM_ID}": {"GET", "HEAD", "PATCH", "PUT", "DELETE"},
}
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "LINK", "PROPFIND", "INITIAL"]


@pytest.mark.parametrize("path", ALLOWED)
def test_other_methods_are_refused_with_the_allowed_methods(member, subtests, path):
    for method in METHODS:
        if method not in ALLOWED[path]:
            with subtests.test(method):
                answer = member.request(method, path, 405)
                assert {name.strip() for name in answer.headers["Allow"].split(",")} == ALLOWED[path]
                if method != "HEAD":
                    assert answer.codes == ["UNSUPPORTED"]


# ── Challenges ───────────────────────────────────────────────────────────────────────────────────────────────────────
CHALLENGES = {
    ("GET", f"{NAME}/manifests/1.0"): "repository:web/app:pull",
    ("HEAD", f"{NAME}/manifests/1.0"): "repository:web/app:pull",
    ("PUT", f"{NAME}/manifests/1.0"): "repository:web/app:pull,push",
    ("DELETE", f"{NAME}/manifests/1.0"): "repository:web/app:delete",
    ("GET", f"{NAME}/blobs/{BLOB}"): "repository:web/app:pull",
    ("DELETE", f"{NAME}/blobs/{BLOB}"): "repository:web/app:delete",
    ("POST", UPLOADS): "repository:web/app:pull,push",
    ("POST", f"{UPLOADS}?mount={BLOB}&from=public/x"): "repository:web/app:pull,push repository:public/x:pull",
    ("POST", f"{UPLOADS}?mount={BLOB}&from=NONSENSE"): "repository:web/app:pull,push",
    ("PATCH", f"{UPLOADS}{RANDOM_ID}"): "repository:web/app:pull,push",
    ("PUT", f"{UPLOADS}{RANDOM_ID}"): "repository:web/app:pull,push",
    ("DELETE", f"{UPLOADS}{RANDOM_ID}"): "repository:web/app:pull,push",
    ("GET", f"{NAME}/tags/list"): "repository:web/app:pull",
    ("GET", f"{NAME}/referrers/{BLOB}"): "repository:web/app:pull",
    ("GET", "web/team%2Fapp/tags/list"): "repository:web/team/app:pull",
    ("GET", "nowhere/app/tags/list"): "repository:nowhere/app:pull",
}


def test_challenge_names_the_needed_scope(docker, member, subtests):
    for (method, path), scope in CHALLENGES.items():
        with subtests.test(f"{method} {path}"):
            answer = docker(None).raw(method, f"/v2/{path}")
            expected = f'Bearer realm="http://localhost:8080/token",service="{PROJECT_HOST}",scope="{scope}"'
            assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, expected)
            too_little = {"Authorization": f"Bearer {member.token('repository:web/another:pull')}"}
            answer = member.raw(method, f"/v2/{path}", headers=too_little)
            if not path.startswith("nowhere"):
                expected += ',error="insufficient_scope"'
                assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, expected)


def test_client_cannot_inject_into_a_challenge(docker, subtests):
    """Names are part of the scope and must not end it or the header line."""
    for name in (
        "a%22,error=%22x",
        "a%22,realm=%22http://evil.test/token",
        "a%0db",
        "a%0d%0aX-Evil:%20x",
        "a%5C",
        "a%00b",
    ):
        with subtests.test(name):
            answer = docker(None).raw("GET", f"/v2/web/{name}/tags/list")
            assert answer.status in (400, 401, 404)
            challenge = answer.headers.get("WWW-Authenticate", "")
            assert re.fullmatch(r'(Bearer [a-z]+="[^"\\]*"(,[a-z]+="[^"\\]*")*)?', challenge)
            assert challenge.count("realm=") <= 1
            assert "error=" not in challenge
            assert "X-Evil" not in answer.headers


def test_challenge_uses_the_configured_host(docker):
    spellings = {
        "DEMO.kr-central-2.KCR.localhost:8080": PROJECT_HOST,
        "demo.kr-central-2.kcr.localhost": PROJECT_HOST,
        "demo.kr-central-2.kcr.localhost.:8080": PROJECT_HOST,
        "localhost:9999": BARE_HOST,
        "127.0.0.1": BARE_HOST,
    }
    for spelling, service in spellings.items():
        answer = docker(None, spelling).raw("GET", "/v2/")
        assert answer.status == 401
        assert f'realm="http://localhost:8080/token",service="{service}"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    "host", ["evil.test", "demo.kr-central-2.kcr.localhost.evil.test", "a.b.kr-central-2.kcr.localhost"]
)
def test_unknown_host_is_refused(docker, host):
    answer = docker(None, host).raw("GET", "/v2/")
    assert answer.status in (400, 404)
    assert answer.codes[0] in CODES
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize("header", ["X-Forwarded-Host", "X-Host", "Forwarded"])
def test_claimed_forwarded_host_is_ignored(docker, header):
    answer = docker(None).raw("GET", "/v2/", headers={header: "evil.test"})
    assert answer.status == 401
    assert "evil" not in answer.headers["WWW-Authenticate"]


# ── Names ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_escaped_slash_is_read_as_a_slash(docker, member):
    """Permission is checked for the routed name, not for its spelling."""
    assert docker("viewer").get("web%2Fapp/manifests/1.0", 200).body == IMAGE.manifest
    assert docker("viewer").get("web%2fapp/manifests%2f1.0", 200).body == IMAGE.manifest
    assert docker("stranger").get("web%2Fapp/manifests/1.0", 404).codes == ["NAME_UNKNOWN"]
    assert docker("stranger").get("public%2F..%2Fweb%2Fapp/manifests/1.0", 400).codes == ["NAME_INVALID"]


def test_names_may_have_two_hundred_characters(member):
    longest = "web/" + "a" * (200 - len("demo/web/"))
    member.push_manifest(longest, "1.0", IMAGE.manifest)
    assert member.get(f"{longest}/manifests/1.0", 200).body == IMAGE.manifest
    member.push_manifest(f"{longest}a", "1.0", IMAGE.manifest, expect=400)
    assert member.get(f"{longest}a/manifests/1.0", 404).codes == ["NAME_UNKNOWN"]


WRONG_NAMES = [
    *("WEB", "WEB/app", "web/App", "web/app/", "web//app", "/web/app", "web/.app", "web/app.", "web/-app", "web/a..b"),
    *("web/a___b", "web/a._b", "web/_app", "web/app_", "w_/app", "web/a b", "web/a%22b", "web/a%00b"),
    *(
        "web/app%00",
        "web/..",
        "web/.",
        "../web/app",
        "web/%2e%2e/app",
        "web/%252e%252e/app",
        "web%252fapp",
    ),
    *("web/%EC%95%B1", "web/a%D9%A3", "web/%ED%A0%80", "web/%FF", "web/a:b", "web/a@b", "web/a%5Cb", "web/a%25b"),
    *(
        "web/a;b",
        "web/a%3Fb",
        "web/a%23b",
        "web/a+b",
        "web/a~b",
        "web/%EF%BC%A1",
        f"web/{'a' * 192}_",
        f"web/{'a/' * 20_000}b/",
    ),
]


def test_invalid_name_is_refused_on_every_route(member, subtests):
    for name in WRONG_NAMES:
        with subtests.test(name[:60]):
            for method, path in (
                ("GET", f"{name}/tags/list"),
                ("GET", f"{name}/manifests/1.0"),
                ("PUT", f"{name}/manifests/1.0"),
                ("GET", f"{name}/blobs/{BLOB}"),
                ("POST", f"{name}/blobs/uploads/"),
                ("GET", f"{name}/referrers/{BLOB}"),
            ):
                answer = member.request(method, f"/v2/{path}", 400, headers=member.basic())
                assert answer.codes == ["NAME_INVALID"]


OTHER_FORMS = {
    PROJECT_HOST: ["web", "w", "w/app", "a" * 65 + "/app", f"web/{'a' * 192}"],
    BARE_HOST: ["demo", "demo/web", "two", "demo/w/app", "d/web/app", "de_mo/web/app", "docker.io/web/app"],
}
READS = ("tags/list", "manifests/1.0", f"manifests/{BLOB}", f"blobs/{BLOB}", f"referrers/{BLOB}", "blobs/uploads/x")
WRITES = (
    *(("PUT", "manifests/1.0"), ("DELETE", "manifests/1.0"), ("DELETE", f"blobs/{BLOB}"), ("POST", "blobs/uploads/")),
    *(("PATCH", "blobs/uploads/x"), ("PUT", f"blobs/uploads/x?digest={BLOB}"), ("DELETE", "blobs/uploads/x")),
)


@pytest.mark.parametrize("host", OTHER_FORMS)
def test_unsupported_name_is_unknown_on_reads_and_refused_on_writes(docker, member, subtests, host):
    """`crane copy` and other clients first send HEAD, and push only after a 404."""
    form = "project/repository/image" if host == BARE_HOST else "repository/image"
    client = docker("member", host)
    for name in OTHER_FORMS[host]:
        with subtests.test(name[:60]):
            for path in READS:
                for headers in (client.basic(), bearer(client, name)):
                    answer = client.request("GET", f"/v2/{name}/{path}", 404, headers=headers)
                    assert answer.codes == ["NAME_UNKNOWN"]
                    assert answer.message.startswith(f"{form} is the form")
                    assert client.request("HEAD", f"/v2/{name}/{path}", 404, headers=headers).body == b""
            for method, path in WRITES:
                answer = client.request(method, f"/v2/{name}/{path}", 400, headers=client.basic())
                assert answer.codes == ["NAME_INVALID"]
                assert answer.message.startswith(f"{form} is the form")
            assert client.raw("GET", f"/v2/{name}/tags/list").status == 401


def bearer(client: DockerClient, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {client.token(f'repository:{name}:pull,push')}"}


# ── Digests ──────────────────────────────────────────────────────────────────────────────────────────────────────────
HEX = BLOB.removeprefix("sha256:")
WRONG_DIGESTS = [
    *(
        "nonsense:",
        ":",
        "sha256:",
        "sha256",
        "sha256:nonsense",
        f"SHA256:{HEX}",
        f"sha256:{HEX.upper()}",
        f"sha256:{HEX[:-1]}",
    ),
    *(
        f"sha256:{HEX}0",
        f"sha512:{HEX}",
        f"md5:{'a' * 32}",
        f"sha384:{'a' * 96}",
        f"{BLOB}%0a",
        f"{BLOB}%00",
        f"%20{BLOB}",
    ),
    *(
        f"sha256:%00{HEX[1:]}",
        f"sha256:{'%D9%A3' * 64}",
        f"sha256:..%5C..%5C{HEX[10:]}",
        f"sha256:{'%2e' * 64}",
        f"sha256%3A{HEX}x",
    ),
    *(
        f"sha256:{'%ED%A0%80' * 20}",
        f"sha256+b64:{HEX}",
        f"sha256:{HEX}:{HEX}",
        f"sha256:{'a' * 100_000}",
        f"sha256:0x{HEX[2:]}",
    ),
]


def test_invalid_digest_is_refused_on_every_route(member, subtests):
    for digest in WRONG_DIGESTS:
        with subtests.test(digest[:90]):
            requests = [
                ("GET", f"{NAME}/blobs/{digest}"),
                ("DELETE", f"{NAME}/blobs/{digest}"),
                ("GET", f"{NAME}/referrers/{digest}"),
                ("POST", f"{UPLOADS}?digest={digest}"),
                ("PUT", f"{UPLOADS}{RANDOM_ID}?digest={digest}"),
            ]
            if ":" in digest or "%3A" in digest:  # without a colon it is a tag
                requests += [(method, f"{NAME}/manifests/{digest}") for method in ("GET", "PUT", "DELETE")]
            for method, path in requests:
                answer = member.request(method, path, 400, body=b"x", headers=member.basic())
                assert answer.codes == ["DIGEST_INVALID"], (method, path)


# ── Transfers ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_user_at_the_limit_of_transfers_is_still_answered(docker, member):
    """A user may use only a share of the threads that read bodies, from any number of addresses."""
    location = member.start(NAME).headers["Location"]
    user = User.objects.get(email__startswith="member@").pk
    with ExitStack() as taken:
        while http.TRANSFERS.take(user):
            taken.callback(http.TRANSFERS.give_back, user)
        assert http.TRANSFERS.held < http.TRANSFERS.total
        refused = member.request("PATCH", location, 429, body=b"x")
        assert refused.codes == ["TOOMANYREQUESTS"]
        assert int(refused.headers["Retry-After"]) > 0
        for path in ("/v2/", f"{NAME}/tags/list", f"{NAME}/manifests/1.0", f"{NAME}/blobs/{BLOB}", location):
            assert member.get(path).status in (200, 204)
        other = docker("admin")
        other.patch(other.start(NAME).headers["Location"], 202, body=b"x")
    assert member.patch(location, 202, body=b"x").headers["Range"] == "0-0"


def test_a_key_without_the_right_to_push_is_refused_before_the_body_is_read(docker, member):
    class Unread(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise AssertionError("the body was read")

        read1 = read

    for person in ("reader", "stranger"):
        client = docker(person)
        answer = client.request("PUT", f"{NAME}/manifests/2.0", stream=Unread(), headers=client.basic())
        assert answer.status in (403, 404)


def test_every_transfer_releases_its_place(member):
    class Broken(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("connection reset by peer")

        read1 = read

    location = member.start(NAME).headers["Location"]
    for headers in (
        {},
        {"Range": "bytes=0-1"},
        {"Range": "bytes=0-1,4-5"},
        {"Range": "bytes=999-"},
        {"If-None-Match": "*"},
    ):
        for method in ("GET", "HEAD"):
            member.request(method, f"{NAME}/blobs/{BLOB}", headers=headers)
    member.patch(location, 400, stream=Broken())
    member.patch(location, 202, body=b"x")
    member.put(f"{NAME}/manifests/2.0", 413, body=b" " * (5 * 1024 * 1024))
    member.put(f"{NAME}/manifests/2.0", 400, stream=Broken())
    assert http.TRANSFERS.held == 0


@pytest.mark.parametrize(
    "credentials",
    [
        "",
        "Basic",
        "Basic ",
        "Basic é",
        "Basic " + "A" * 100_000,
        "Basic AA==",
        "Basic Og==",
        "Basic bm8gY29sb24=",
        "Basic 7aCAOg==",
        "Bearer",
        "Bearer a.b.c",
        "Bearer " + "." * 100_000,
        "Bearer \0",
        "Digest x",
        "nonsense",
    ],
    ids=lambda text: ascii(text[:30]),
)
def test_hostile_credentials_authenticate_no_one(docker, credentials):
    for path in ("/v2/", f"/v2/{NAME}/manifests/1.0"):
        answer = docker(None).raw("GET", path, headers={"Authorization": credentials})
        assert (answer.status, answer.codes) == (401, ["UNAUTHORIZED"])


def test_route_does_not_match_a_trailing_newline(member):
    """``$`` in a regular expression matches before an end of line as well."""
    for path in ("/v2/%0a", "/v2/_catalog%0a", f"/v2/{NAME}/tags/list%0a", f"/v2/{NAME}/blobs/uploads/%0a"):
        for method in ("GET", "POST"):
            assert member.request(method, path, headers=member.basic()).status in (400, 404, 405)
