"""Real programs use the management API of a real server: Schemathesis, a generated client, and curl."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import Image
from tests.support.issuers import SigningKey
from tests.support.programs import require
from tests.support.server import SOURCE, LiveServer

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]

SECONDS = int(os.environ.get("KCR_TEST_SCHEMATHESIS_SECONDS", "30"))
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance"
)
# Without what these delete, all other requests would be refused.
KEPT = (
    *("delete_key", "delete_project_key", "delete_organization_key", "delete_person", "delete_member"),
    *("delete_repository", "delete_image", "delete_service_account", "delete_organization_service_account"),
)
GUIDE = SOURCE / "docs" / "guide" / "automation.md"
PLACES = """
[parameters]
"path.project" = "demo"
"path.repository" = "web"
"path.image" = "app"
"path.tag" = "1.0"
"path.digest" = "{digest}"
"path.email" = "member@acme.test"
"path.organization" = "acme"
"path.account" = "ci"
"path.issuer" = 1
"path.rule" = 1
"""


@pytest.fixture
def server():
    """A server with demo/web/app: 1.0 and stable name the first image, 1.1 the second.

    One for each test: schemathesis revokes keys and removes people.
    """
    with LiveServer(settings={"KCR_API_RATE": "1000000", "KCR_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}) as found:
        found.people()
        first, second = Image.random("first"), Image.random("second")
        client = found.api()
        for image, tag in ((first, "1.0"), (first, "stable"), (second, "1.1")):
            client.push("demo/web/app", image, tag)
        found.manage(
            *("adduser", "admin@acme.test", "--organization", "acme", "--role", "owner", "--project", "demo:admin")
        )
        found.manager = found.access_key("admin@acme.test", "--management", "--name", "api")
        found.first, found.second = first.digest, second.digest
        yield found


def ask(server: Any, path: str, method: str = "GET", body: Any = None) -> Any:
    """The JSON of the answer of the API."""
    request = urllib.request.Request(f"{server.url}/api/v1/{path}", method=method)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    login = f"{server.manager.id}:{server.manager.secret}"
    request.add_header("Authorization", "Basic " + b64encode(login.encode()).decode())
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


@pytest.mark.timeout(600)
def test_the_examples_of_the_guide(server):
    """The blocks of the guide in one shell, in their order."""
    require("curl")
    require("jq")
    blocks = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 6
    server.manage("createproject", "acme", "other")
    settings = {
        "KCR": f"{server.url}/api/v1",
        "KEY_ID": server.manager.id,
        "SECRET": server.manager.secret,
        "HOOK": "http://127.0.0.1:8080/hook",
    }
    (hooks,) = (block for block in blocks if "$HOOK" in block)
    script = "set -eu\n" + "\n".join([*blocks, hooks])
    run = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "no_proxy": "*", **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert ask(server, "projects/demo/repositories/shop")["description"] == "the shop and its workers"
    assert re.findall(r"^(\w+) whsec_", run.stdout, re.MULTILINE) == ["demo", "other"]
    for project in ("demo", "other"):
        assert [each["channel"] for each in ask(server, f"projects/{project}/notifications")["items"]] == ["events"]
    assert ask(server, "projects/demo/repositories/web/images/app/-/tags/stable")["digest"] == server.second
    assert [key["name"] for key in ask(server, "keys")["items"]].count("nightly") == 1


CLIENT = """
import sys
from kcr_management_api_client import AuthenticatedClient
from kcr_management_api_client.api.repositories import put_repository
from kcr_management_api_client.api.tags import list_tags, get_tag, put_tag
from kcr_management_api_client.models import RepositoryWanted, TagWanted

url, secret, first, second = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=secret)
made = put_repository.sync_detailed("demo", "generated", client=client, body=RepositoryWanted(description="made"))
assert made.status_code == 201, made
assert made.parsed.description == "made"
place = ("demo", "web", "app")
names = [tag.name for tag in list_tags.sync(*place, client=client).items]
assert {"1.0", "1.1"} <= set(names), names
seen = get_tag.sync_detailed(*place, "1.0", client=client)
etag = seen.headers["ETag"]
moved = put_tag.sync_detailed(*place, "1.0", client=client, body=TagWanted(digest=second), if_match=etag)
assert (moved.status_code, moved.parsed.digest) == (200, second), moved
late = put_tag.sync_detailed(*place, "1.0", client=client, body=TagWanted(digest=first), if_match=etag)
assert (late.status_code, late.parsed.code) == (412, "changed"), late
print("done")
"""


@pytest.mark.timeout(600)
def test_a_generated_client(server, tmp_path: Path):
    program = Path(require("openapi-python-client"))
    document = tmp_path / "openapi.json"
    document.write_bytes(urllib.request.urlopen(f"{server.url}/api/v1/openapi.json").read())
    config = tmp_path / "config.yaml"
    config.write_text("post_hooks: []\n")
    made = subprocess.run(
        [
            str(program),
            "generate",
            "--path",
            str(document),
            "--config",
            str(config),
            "--meta",
            "none",
            "--output-path",
            str(tmp_path / "kcr_management_api_client"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert "WARNING" not in made.stdout + made.stderr, made.stdout + made.stderr
    python = program.resolve().with_name("python")
    arguments = [server.url, server.manager.secret, server.first, server.second]
    run = subprocess.run(
        [str(python if python.exists() else sys.executable), "-c", CLIENT, *arguments],
        cwd=tmp_path,
        env={"no_proxy": "*"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.stdout.strip() == "done", run.stdout + run.stderr


@pytest.mark.timeout(600 + SECONDS)
def test_schemathesis_finds_nothing(server, tmp_path: Path):
    """No 5xx, no status or answer that the document does not have. KCR_TEST_SCHEMATHESIS_SECONDS: for how long."""
    for owner in ("projects/demo", "organizations/acme"):
        ask(server, f"{owner}/service-accounts/ci", "PUT", {"description": "builds"})
    issuer = {"kind": "generic", "url": "https://issuer.invalid", "jwks": {"keys": [SigningKey().jwk]}}
    made = ask(server, "organizations/acme/issuers", "POST", issuer)
    rule = {"name": "main", "issuer": made["id"], "claims": {"sub": "job"}}
    ask(server, "projects/demo/service-accounts/ci/trust-rules", "POST", rule)
    program = require("schemathesis")
    config = tmp_path / "schemathesis.toml"
    config.write_text(PLACES.format(digest=server.first))
    run = subprocess.run(
        [
            program,
            "--config-file",
            str(config),
            "run",
            f"{server.url}/api/v1/openapi.json",
            "--auth",
            f"{server.manager.id}:{server.manager.secret}",
            "--checks",
            CHECKS,
            "--max-time",
            str(SECONDS),
            *(word for operation in KEPT for word in ("--exclude-operation-id", operation)),
            "--phases",
            "coverage,fuzzing",
            "--suppress-health-check",
            "all",
            "--generation-database",
            "none",
            "--generation-with-security-parameters",
            "false",
            "--continue-on-failure",
            "--no-color",
        ],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "no_proxy": "*", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    assert ask(server, "")["key"] == server.manager.id, "the key was revoked: most requests were refused"
