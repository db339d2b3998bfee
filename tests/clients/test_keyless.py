"""Jobs push with an ID token of an issuer program and without a stored secret."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import re
import secrets
import sys
import threading
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.images import Image, write_layout
from tests.support.issuers import Issuer
from tests.support.programs import (
    ContainersHome,
    Daemon,
    environment_for,
    free_port,
    require,
    require_node,
    require_oidc_provider,
    run,
)
from tests.support.server import PROJECT, SOURCE, People, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message
    from pathlib import Path

    from tests.support.programs import DockerCommand, DockerDaemon

pytestmark = pytest.mark.real

REDIRECT = "https://job.test/"
OTHER_AUDIENCE = "https://other.test"
FORM = "application/x-www-form-urlencoded"
# By kind of issuer: the claims of a job, without those that the program adds, and the rule that accepts them.
SHAPES = {
    "github": (Issuer().github(), {"repository": "acme/web", "ref": "refs/heads/main", "workflow": "build.yml"}),
    "gitlab": (Issuer().gitlab(), {"project_path": "acme/tools/web", "ref": "main", "ref_protected": "true"}),
    "kubernetes": (Issuer().kubernetes(), {"namespace": "ci", "service_account": "builder"}),
}
ADDED = {"iss", "aud", "iat", "nbf", "exp", "jti"}


class IssuerProgram(Daemon):
    """An OpenID provider. A job is a user with the claims of its shape, an audience is a client."""

    def __init__(self, name: str, audiences: list[str]) -> None:
        super().__init__(name)
        self.port, self.audiences = free_port(), audiences

    def command(self) -> list[str]:
        """The program and its arguments. Skips the test if the program is missing."""
        raise NotImplementedError

    def id_token(self, claims: dict[str, Any], audience: str) -> str:
        """Sign in as the job of these claims, at a client that is the audience."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the program."""
        self.launch(self.command(), environment_for(self.folder, AUTHLIB_INSECURE_TRANSPORT="1"))
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

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> tuple[int, Message, bytes]:
        """Send a request."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, path, body or None, {name.replace("_", "-"): headers[name] for name in headers})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()


class Mock(IssuerProgram):
    """oidc-provider-mock of PyPI."""

    def command(self) -> list[str]:
        """The program and its arguments."""
        return [require("oidc-provider-mock"), "--port", str(self.port)]

    def id_token(self, claims: dict[str, Any], audience: str) -> str:
        """Sign in as the job of these claims, at a client that is the audience."""
        subject = claims["sub"].replace("/", "-")
        own = own_claims(claims)
        self.ask("PUT", f"/users/{urllib.parse.quote(subject)}", json.dumps(own), Content_Type="application/json")
        client = {"client_id": audience, "redirect_uri": REDIRECT}
        query = urllib.parse.urlencode({**client, "response_type": "code", "scope": "openid"})
        chosen = urllib.parse.urlencode({"sub": subject})
        _, headers, said = self.ask("POST", f"/oauth2/authorize?{query}", chosen, Content_Type=FORM)
        answer = {"grant_type": "authorization_code", "code": code_in(headers, said), "client_secret": "any"}
        fields = urllib.parse.urlencode(client | answer)
        status, _, said = self.ask("POST", "/oauth2/token", fields, Content_Type=FORM)
        assert status == 200, said
        return str(json.loads(said)["id_token"])


class NodeProvider(IssuerProgram):
    """oidc-provider of npm (tests/support/oidc_provider.mjs)."""

    def command(self) -> list[str]:
        """The program and its arguments. The subjects are those of SHAPES."""
        accounts = {claims["sub"]: own_claims(claims) for claims, _ in SHAPES.values()}
        jobs = {"audiences": self.audiences, "redirect": REDIRECT, "accounts": accounts}
        script = SOURCE / "tests" / "support" / "oidc_provider.mjs"
        return [require_node(), str(script), str(require_oidc_provider()), str(self.port), json.dumps(jobs)]

    def id_token(self, claims: dict[str, Any], audience: str) -> str:
        """Sign in and consent as the job of these claims, at a client that is the audience."""
        query = {"client_id": audience, "redirect_uri": REDIRECT, "response_type": "code", "scope": "openid"}
        cookies: dict[str, str] = {}
        _, headers, said = self._visit(cookies, "GET", f"/auth?{urllib.parse.urlencode(query)}")
        for _step in range(6):
            place = headers.get("Location", "")
            if place.startswith(REDIRECT):
                break
            path = urllib.parse.urlsplit(place).path
            _, headers, said = self._visit(cookies, "GET", path)
            if prompt := re.search(rb'name="prompt" value="(\w+)"', said):
                form = {"prompt": prompt[1].decode(), "login": claims["sub"], "password": "any"}
                _, headers, said = self._visit(cookies, "POST", path, urllib.parse.urlencode(form))
        answer = {
            "grant_type": "authorization_code",
            "code": code_in(headers, said),
            "redirect_uri": REDIRECT,
            "client_id": audience,
            "client_secret": "secret",
        }
        status, _, said = self.ask("POST", "/token", urllib.parse.urlencode(answer), Content_Type=FORM)
        assert status == 200, said
        return str(json.loads(said)["id_token"])

    def _visit(self, cookies: dict[str, str], method: str, path: str, body: str = "") -> tuple[int, Message, bytes]:
        """Send a request as a browser with cookies does."""
        sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()), "Content_Type": FORM}
        answer = self.ask(method, path, body, **sent)
        for line in answer[1].get_all("Set-Cookie", []):
            name, _, value = line.partition(";")[0].partition("=")
            cookies[name] = value
        return answer


def own_claims(claims: dict[str, Any]) -> dict[str, Any]:
    """The claims that the program does not add."""
    return {name: value for name, value in claims.items() if name not in ADDED | {"sub"}}


def code_in(headers: Message, said: bytes) -> str:
    """The code in the address to which the provider sends the browser."""
    found = re.search("[?&]code=([^&]+)", headers.get("Location", ""))
    assert found, said
    return urllib.parse.unquote(found[1])


PROGRAMS = {"mock": Mock, "node": NodeProvider}


@pytest.fixture(scope="module")
def keyless_server() -> Iterator[Server]:
    """A server that may ask issuers on this machine."""
    with Server("keyless", {"KCR_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}) as server:
        People(server)
        yield server


@pytest.fixture(scope="module", params=PROGRAMS)
def programs(request: pytest.FixtureRequest, keyless_server: Server) -> Iterator[dict[str, IssuerProgram]]:
    """An issuer for each kind, with a trust rule for its job."""
    make, audiences = PROGRAMS[request.param], [keyless_server.url, OTHER_AUDIENCE]
    with contextlib.ExitStack() as running:
        found = {kind: running.enter_context(make(f"{request.param}-{kind}", audiences)) for kind in SHAPES}
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
    tag = f"docker-{kind}-{secrets.token_hex(4)}"
    client = docker.client(tag)
    client.login(keyless_server.host, f"{PROJECT}/ci", id_token)
    name = f"{keyless_server.host}/{PROJECT}/web/keyless:{tag}"
    archive = Image.random(name).write_docker_archive(client.configuration / "image.tar", name)
    client("load", "--input", str(archive))
    archive.unlink()
    client("push", name)
    came = keyless_server.work("keyless", "origin", tag)
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
    name, tag = f"{keyless_server.host}/{PROJECT}/web/keyless", f"{kind}-{secrets.token_hex(4)}"
    credentials = f"{answer['username']}:{answer['password']}"
    options = ("--dest-creds", credentials, "--dest-tls-verify=false")
    home.skopeo("copy", *options, f"oci:{layout}:made", f"docker://{name}:skopeo-{tag}")
    home.login("podman", keyless_server.host, answer["username"], answer["password"])
    home.podman("pull", "--tls-verify=false", f"{name}:skopeo-{tag}")
    home.podman("push", "--tls-verify=false", f"{name}:skopeo-{tag}", f"{name}:podman-{tag}")
    assert keyless_server.work("keyless", "origin", f"podman-{tag}")["issuer"]


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
    token = programs[kind].id_token(SHAPES[kind][0], OTHER_AUDIENCE)
    before = keyless_server.work("keyless", "sessions")
    said = home.login("skopeo", keyless_server.host, f"{PROJECT}/ci", token, succeeds=False)
    assert "invalid username/password" in said.errors
    assert keyless_server.work("keyless", "sessions") == before


# ── The snippets of the console ──────────────────────────────────────────────────────────────────────────────────────
def snippet(server: Server, title: str, image: str) -> str:
    """The text of a snippet in which a person put the names of repository and image."""
    return str(server.work("keyless", "snippet", title)).replace("REPOSITORY/IMAGE", image)


def in_ci(client: DockerCommand, lines: list[str], **variables: str) -> str:
    """Run the lines of a job as its runner does: in one folder with a Dockerfile, each with sh -e."""
    folder = client.configuration / "checkout"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    environment = client.environment | variables
    return "".join(run(["sh", "-ec", line], environment=environment, directory=folder).output for line in lines)


@contextlib.contextmanager
def token_service(token: str, audience: str) -> Iterator[str]:
    """The service of GitHub that gives a job its ID token: its address, to which the job adds the audience."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            is_good = self.headers["Authorization"] == "Bearer of-the-run" and query.get("audience") == [audience]
            self.send_response(200 if is_good else 403)
            self.end_headers()
            self.wfile.write(json.dumps({"value": token if is_good else ""}).encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{service.server_address[1]}/token?api-version=2"
        service.shutdown()


@pytest.mark.parametrize("kind", ["github"])
def test_snippet_for_github_actions(keyless_server: Server, docker: DockerDaemon, id_token: str, kind: str) -> None:
    commit = secrets.token_hex(20)
    job = yaml.safe_load(snippet(keyless_server, "GitHub Actions", "web/github"))
    assert job["permissions"]["id-token"] == "write"
    lines = [step["run"].replace("${{ github.sha }}", commit) for step in job["steps"] if "run" in step]
    assert len(lines) == 3
    assert "${{" not in "".join(lines)
    with token_service(id_token, keyless_server.url) as address:
        variables = {"ACTIONS_ID_TOKEN_REQUEST_URL": address, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "of-the-run"}
        said = in_ci(docker.client(f"snippet-{commit}"), lines, **variables)
    assert "Login Succeeded" in said
    assert keyless_server.work("keyless", "origin", commit)["repository"] == "Acme/web"


@pytest.mark.parametrize("kind", ["gitlab"])
def test_snippet_for_gitlab_ci(keyless_server: Server, docker: DockerDaemon, id_token: str, kind: str) -> None:
    commit = secrets.token_hex(20)
    job = yaml.safe_load(snippet(keyless_server, "GitLab CI", "web/gitlab"))["push"]
    assert job["id_tokens"] == {"KCR_ID_TOKEN": {"aud": keyless_server.url}}
    in_ci(docker.client(f"snippet-{commit}"), job["script"], KCR_ID_TOKEN=id_token, CI_COMMIT_SHA=commit)
    assert keyless_server.work("keyless", "origin", commit)["repository"] == "acme/tools/web"


@pytest.mark.parametrize("kind", ["kubernetes"])
def test_snippet_for_jenkins(keyless_server: Server, docker: DockerDaemon, id_token: str, kind: str) -> None:
    """A job of Jenkins is of the generic kind; its token has the form of any other."""
    commit = secrets.token_hex(20)
    text = snippet(keyless_server, "Jenkins", "web/jenkins")
    assert f"with the audience {keyless_server.url}\n" in text
    (script,) = re.findall(r"sh '''\n(.*?)'''", text, re.DOTALL)
    in_ci(docker.client(f"snippet-{commit}"), [script], KCR_ID_TOKEN=id_token, GIT_COMMIT=commit)
    assert keyless_server.work("keyless", "origin", commit)["issuer"].startswith("http://127.0.0.1:")


def in_pod(server: Server, home: ContainersHome, id_token: str, pod: dict[str, Any], container: dict[str, Any]) -> str:
    """Run the command of a container with the token where its volume has it."""
    (volume,) = pod["volumes"]
    (source,) = volume["projected"]["sources"]
    (mount,) = container["volumeMounts"]
    assert source["serviceAccountToken"]["audience"] == server.url
    assert mount["name"] == volume["name"]
    assert container["command"] == ["sh", "-c"]
    (script,) = container["args"]
    place = home.folder / "run-kcr"
    place.mkdir()
    (place / source["serviceAccountToken"]["path"]).write_text(id_token)
    registries = home.folder / ".config" / "containers" / "registries.conf"  # this registry has no TLS
    registries.write_text(
        f'unqualified-search-registries = []\n[[registry]]\nlocation = "{server.host}"\ninsecure = true\n'
    )
    script = script.replace(mount["mountPath"], str(place)).replace("/work/image", f"{home.folder}/layout:made")
    return run(["sh", "-ec", script], environment=home.environment, directory=home.folder).output


@pytest.mark.parametrize("kind", ["kubernetes"])
def test_snippet_for_argo_workflows(keyless_server: Server, home: ContainersHome, id_token: str, kind: str) -> None:
    write_layout(home.folder / "layout", {"made": Image.random(kind)})
    image = f"web/argo-{secrets.token_hex(4)}"
    template = yaml.safe_load(snippet(keyless_server, "Argo Workflows", image))
    assert "Login Succeeded" in in_pod(keyless_server, home, id_token, template, template["container"])
    assert keyless_server.work("keyless", "pushed", f"{PROJECT}/{image}", "latest")


@pytest.mark.parametrize("kind", ["kubernetes"])
def test_snippet_for_kubernetes(keyless_server: Server, home: ContainersHome, id_token: str, kind: str) -> None:
    image = f"web/pod-{secrets.token_hex(4)}"
    write_layout(home.folder / "layout", {"made": Image.random(kind)})
    name = f"{keyless_server.host}/{PROJECT}/{image}:latest"
    loaded = home.podman("pull", "--quiet", f"oci:{home.folder}/layout:made").output.strip()
    home.podman("tag", loaded, name)
    pod = yaml.safe_load(snippet(keyless_server, "Kubernetes", image))["spec"]
    (container,) = pod["containers"]
    assert "Login Succeeded" in in_pod(keyless_server, home, id_token, pod, container)
    assert keyless_server.work("keyless", "pushed", f"{PROJECT}/{image}", "latest")


# ── The guide ────────────────────────────────────────────────────────────────────────────────────────────────────────
def stand_in(folder: Path, name: str, script: str) -> None:
    """Write a program that a shell in this folder, or with it in its PATH, finds under the name."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def test_commands_of_the_guide(keyless_server: Server, docker: DockerDaemon) -> None:
    """Each block of docs/guide/ci.md as it is written, by a docker that trusts the registry without TLS.

    Stand-ins: a Python that is not in .venv, and a curl that asks http instead of https.
    """
    by_hand, with_id_token, exchange, push = re.findall(
        r"^ *```sh\n(.*?)^ *```", (SOURCE / "docs" / "guide" / "ci.md").read_text(), re.DOTALL | re.MULTILINE
    )
    server, client, commit = keyless_server, docker.client("guide"), secrets.token_hex(20)
    server.manage_all(["createproject", "acme", "shop"], ["createrepository", "shop/web"])
    folder = client.configuration
    stand_in(folder, ".venv/bin/python", f'exec "{sys.executable}" "$@"')
    (folder / "manage.py").symlink_to(SOURCE / "manage.py")
    said = run(["sh", "-ec", by_hand], environment=server.environment, directory=folder).output
    key = json.loads(said.splitlines()[-1])
    environment = client.environment | {"REGISTRY": server.host, "KEY_ID": key["id"], "KEY_SECRET": key["secret"]}
    assert "Login Succeeded" in in_ci(client, [push], **environment, COMMIT=commit)
    assert server.work("keyless", "pushers", "shop/web/app", commit) == ["ci@acme.test"]

    programs = folder / "programs"
    stand_in(
        programs,
        "curl",
        'for word; do shift; set -- "$@" "$(printf %s "$word" | sed "s,^https://,http://,")"; done\n'
        f'exec "{require("curl")}" "$@"',
    )
    with Mock("guide", [server.url]) as issuer:
        claims, rule = SHAPES["github"]
        assert server.work("keyless", "trust", "github", issuer.url, json.dumps(rule), "shop")
        environment |= {"ID_TOKEN": issuer.id_token(claims, server.url)}
        assert "Login Succeeded" in run(["sh", "-ec", with_id_token], environment=environment, directory=folder).output
        environment |= {
            "ID_TOKEN": issuer.id_token(claims, server.url),  # a token is a password or exchanged, not both
            "PATH": f"{programs}:{environment['PATH']}",
        }
        run(["sh", "-ec", exchange], environment=environment, directory=folder)
    answer = json.loads((folder / "credential.json").read_text())
    assert "Login Succeeded" in client.login(server.host, answer["username"], answer["password"]).output


# ── Schemas ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def checked(tmp_path: Path, document: Any, *command: str) -> None:
    """Check a document with a program and the schemas that it brings."""
    file = tmp_path / "snippet.yaml"
    file.write_text(yaml.safe_dump(document))
    run([require(command[0]), *command[1:], str(file)])


def pieces_of(server: Server) -> dict[str, Any]:
    """The snippets in YAML, by their title."""
    server.work("keyless", "make_account", PROJECT)
    titles = ("GitHub Actions", "GitLab CI", "Argo Workflows", "Kubernetes")
    return {title: yaml.safe_load(snippet(server, title, "web/app")) for title in titles}


def test_snippets_are_valid_pipelines(keyless_server: Server, tmp_path: Path) -> None:
    """By the schemas of GitHub, GitLab and Kubernetes. A template of Argo has the parts of a pod."""
    pieces = pieces_of(keyless_server)
    job = {"runs-on": "ubuntu-latest"} | pieces["GitHub Actions"]
    workflow = {"name": "push", "on": ["push"], "jobs": {"push": job}}
    checked(tmp_path, workflow, "check-jsonschema", "--builtin-schema", "vendor.github-workflows")
    checked(tmp_path, pieces["GitLab CI"], "check-jsonschema", "--builtin-schema", "vendor.gitlab-ci")
    checked(tmp_path, pieces["Kubernetes"], "kubernetes-validate", "--strict")
    template = dict(pieces["Argo Workflows"])
    template["containers"] = [{"name": "main"} | template.pop("container")]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "argo"}, "spec": template}
    checked(tmp_path, pod, "kubernetes-validate", "--strict")
