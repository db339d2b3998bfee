"""Jobs push with an ID token of an issuer program and without a stored secret."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.images import Image, write_layout
from tests.support.issuers import Issuer
from tests.support.programs import ContainersHome, Daemon, environment_for, free_port, require, run
from tests.support.server import PROJECT, People, Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.programs import DockerDaemon

pytestmark = pytest.mark.real

REDIRECT = "https://job.test/"
# By kind of issuer: the claims of a job, without those that the program adds, and the rule that accepts them.
SHAPES = {
    "github": (Issuer().github(), {"repository": "acme/web", "ref": "refs/heads/main", "workflow": "build.yml"}),
    "gitlab": (Issuer().gitlab(), {"project_path": "acme/tools/web", "ref": "main", "ref_protected": "true"}),
    "kubernetes": (Issuer().kubernetes(), {"namespace": "ci", "service_account": "builder"}),
}
ADDED = {"iss", "aud", "iat", "nbf", "exp", "jti"}


class IssuerProgram(Daemon):
    """oidc-provider-mock, an OpenID provider. A job is a user with the claims of its shape."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.port = free_port()

    def start(self) -> None:
        """Start the program."""
        program = require("oidc-provider-mock")
        environment = environment_for(self.folder, AUTHLIB_INSECURE_TRANSPORT="1")
        self.launch([program, "--port", str(self.port)], environment)
        assert self.await_ready(self.is_ready), self.said()

    def is_ready(self) -> bool:
        """Return whether it answers."""
        try:
            return self.ask("GET", "/.well-known/openid-configuration")[0] == 200
        except OSError:
            return False

    @property
    def url(self) -> str:
        """How it calls itself."""
        return str(json.loads(self.ask("GET", "/.well-known/openid-configuration")[2])["issuer"])

    def ask(self, method: str, path: str, body: str = "", kind: str = "") -> tuple[int, dict[str, str], bytes]:
        """Send a request."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body or None, {"Content-Type": kind} if kind else {})
            answer = connection.getresponse()
            return answer.status, dict(answer.headers.items()), answer.read()

    def id_token(self, claims: dict[str, Any], audience: str) -> str:
        """Sign in as the job of these claims, at a client that is the audience."""
        subject = claims["sub"].replace("/", "-")
        own = {name: value for name, value in claims.items() if name not in ADDED | {"sub"}}
        self.ask("PUT", f"/users/{urllib.parse.quote(subject)}", json.dumps(own), "application/json")
        form = "application/x-www-form-urlencoded"
        client = {"client_id": audience, "redirect_uri": REDIRECT}
        query = urllib.parse.urlencode({**client, "response_type": "code", "scope": "openid"})
        _, headers, said = self.ask(
            "POST", f"/oauth2/authorize?{query}", urllib.parse.urlencode({"sub": subject}), form
        )
        found = re.search("[?&]code=([^&]+)", headers.get("Location", ""))
        assert found, said
        answer = {"grant_type": "authorization_code", "code": urllib.parse.unquote(found[1]), "client_secret": "any"}
        status, _, said = self.ask("POST", "/oauth2/token", urllib.parse.urlencode(client | answer), form)
        assert status == 200, said
        return str(json.loads(said)["id_token"])


@pytest.fixture(scope="module")
def keyless_server() -> Iterator[Server]:
    """A server that may ask issuers on this machine."""
    with Server("keyless", {"KCR_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}) as server:
        People(server)
        yield server


@pytest.fixture(scope="module")
def programs(keyless_server: Server) -> Iterator[dict[str, IssuerProgram]]:
    """An issuer for each kind, with a trust rule for its job."""
    with contextlib.ExitStack() as running:
        found = {kind: running.enter_context(IssuerProgram(f"issuer-{kind}")) for kind in SHAPES}
        for kind, program in found.items():
            assert keyless_server.work("keyless", "trust", kind, program.url, json.dumps(SHAPES[kind][1]))
        yield found


@pytest.fixture
def id_token(request: pytest.FixtureRequest, programs: dict[str, IssuerProgram], keyless_server: Server) -> str:
    """The ID token of the job of the test's kind."""
    kind = request.getfixturevalue("kind")
    return programs[kind].id_token(SHAPES[kind][0], keyless_server.url)


kinds = pytest.mark.parametrize("kind", SHAPES)


@kinds
def test_docker_pushes_with_an_id_token_as_password(
    keyless_server: Server, docker: DockerDaemon, id_token: str, kind: str
) -> None:
    client = docker.client(f"keyless-{kind}")
    client.login(keyless_server.host, f"{PROJECT}/ci", id_token)
    name = f"{keyless_server.host}/{PROJECT}/web/keyless:docker-{kind}"
    archive = Image.random(name).write_docker_archive(client.configuration / "image.tar", name)
    client("load", "--input", str(archive))
    archive.unlink()
    client("push", name)
    came = keyless_server.work("keyless", "origin", f"docker-{kind}")
    assert came["issuer"].startswith("http://127.0.0.1:")
    assert came.get("repository", "") == {"github": "Acme/web", "gitlab": "acme/tools/web"}.get(kind, "")


@kinds
def test_skopeo_and_podman_push_with_an_exchanged_credential(
    keyless_server: Server, home: ContainersHome, id_token: str, kind: str
) -> None:
    fields = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "service_account": f"{PROJECT}/ci",
    }
    words = [word for name, value in fields.items() for word in ("--data-urlencode", f"{name}={value}")]
    command = ["curl", "--fail", "--silent", "--show-error", *words, "--data-urlencode", "subject_token@-"]
    answer = run([*command, f"{keyless_server.url}/token/exchange"], text_input=id_token).json()
    layout = home.folder / "layout"
    write_layout(layout, {"made": Image.random(kind)})
    name = f"{keyless_server.host}/{PROJECT}/web/keyless"
    credentials = f"{answer['username']}:{answer['password']}"
    options = ("--dest-creds", credentials, "--dest-tls-verify=false")
    home.skopeo("copy", *options, f"oci:{layout}:made", f"docker://{name}:skopeo-{kind}")
    home.login("podman", keyless_server.host, answer["username"], answer["password"])
    home.podman("pull", "--tls-verify=false", f"{name}:skopeo-{kind}")
    home.podman("push", "--tls-verify=false", f"{name}:skopeo-{kind}", f"{name}:podman-{kind}")
    assert keyless_server.work("keyless", "origin", f"podman-{kind}")["issuer"]


@pytest.mark.parametrize("kind", ["gitlab"])
def test_login_lines_of_the_snippets_work(
    keyless_server: Server, docker: DockerDaemon, id_token: str, kind: str
) -> None:
    client = docker.client("snippets")
    (line,) = (
        line.removeprefix("    - ")
        for line in keyless_server.work("keyless", "snippet", "GitLab CI").splitlines()
        if "docker login" in line
    )
    environment = client.environment | {"KCR_ID_TOKEN": id_token}
    assert "Login Succeeded" in run(["sh", "-c", line], environment=environment).output


@pytest.mark.parametrize("kind", ["kubernetes"])
def test_curl_snippet_gets_a_credential(keyless_server: Server, docker: DockerDaemon, id_token: str, kind: str) -> None:
    require("jq")
    client = docker.client("curl")
    text = keyless_server.work("keyless", "snippet", "curl")
    environment = client.environment | {"ID_TOKEN": id_token}
    said = run(["sh", "-c", text], environment=environment, directory=client.configuration)
    assert "Login Succeeded" in said.output


@kinds
def test_token_for_another_audience_is_refused(
    keyless_server: Server, programs: dict[str, IssuerProgram], home: ContainersHome, kind: str
) -> None:
    token = programs[kind].id_token(SHAPES[kind][0], "https://other.test")
    before = keyless_server.work("keyless", "sessions")
    said = home.login("skopeo", keyless_server.host, f"{PROJECT}/ci", token, succeeds=False)
    assert "invalid username/password" in said.errors
    assert keyless_server.work("keyless", "sessions") == before
