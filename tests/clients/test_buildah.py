"""Buildah: build, push and pull on another machine."""

import re
from pathlib import Path

import pytest

from tests.support.programs import ContainersHome
from tests.support.server import AccessKey, People, Server

pytestmark = pytest.mark.real


def log_in(home: ContainersHome, key: AccessKey, host: str) -> None:
    """Log in with ``buildah login``."""
    home.login("buildah", host, key.id, key.secret)


def build(home: ContainersHome, base: str, content: str) -> str:
    """Add a file to an image or to ``scratch``. Return the ID of the new image."""
    file = home.folder / "greeting"
    file.write_text(content)
    container = home.buildah("from", "--tls-verify=false", base).output.strip()
    home.buildah("add", container, str(file), f"/{content}")
    home.buildah("config", "--entrypoint", f'["/{content}"]', "--label", f"content={content}", container)
    built = home.buildah("commit", "--rm", container).output.strip()
    assert re.fullmatch("[0-9a-f]{64}", built), built
    return built


def read(home: ContainersHome, reference: str, path: str) -> str:
    """Return the content of a file in a local image."""
    container = home.buildah("from", "--pull-never", reference).output.strip()
    root = Path(home.buildah("mount", container).output.strip())
    content = (root / path).read_text()
    home.buildah("umount", container)
    home.buildah("rm", container)
    return content


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_build_push_and_pull_on_another_machine(
    home: ContainersHome, other_home: ContainersHome, registry_server: Server, people: People, form: str
) -> None:
    reference = f"{registry_server.host}/demo/web/buildah:{form}"
    log_in(home, people.pusher, registry_server.host)
    log_in(other_home, people.viewer, registry_server.host)
    built = build(home, "scratch", "hello")

    home.buildah("push", "--tls-verify=false", "--format", form, built, f"docker://{reference}")
    pulled = other_home.buildah("pull", "--tls-verify=false", reference).output.strip()

    assert (pulled == built) or form == "v2s2"
    assert read(other_home, reference, "hello") == "hello"


def test_build_on_an_image_of_the_registry(
    home: ContainersHome, other_home: ContainersHome, registry_server: Server, people: People
) -> None:
    base, derived = (f"{registry_server.host}/demo/web/buildah-{name}:1" for name in ("base", "derived"))
    log_in(home, people.pusher, registry_server.host)
    log_in(other_home, people.member, registry_server.host)
    home.buildah("push", "--tls-verify=false", build(home, "scratch", "below"), f"docker://{base}")

    built = build(other_home, base, "above")
    other_home.buildah("push", "--tls-verify=false", built, f"docker://{derived}")
    home.buildah("pull", "--tls-verify=false", derived)

    assert [read(home, derived, path) for path in ("below", "above")] == ["below", "above"]
    client = registry_server.client(people.viewer)
    layers = [
        [layer["digest"] for layer in client.manifest(f"demo/web/buildah-{name}", "1").json()["layers"]]
        for name in ("base", "derived")
    ]
    assert layers[1][: len(layers[0])] == layers[0]


def test_push_without_permission_is_refused_with_the_reason(
    home: ContainersHome, registry_server: Server, people: People
) -> None:
    reason = registry_server.client(people.reader).request("POST", "/v2/demo/web/buildah-no/blobs/uploads/")
    log_in(home, people.reader, registry_server.host)
    built = build(home, "scratch", "refused")

    target = f"docker://{registry_server.host}/demo/web/buildah-no:1"
    refused = home.buildah("push", "--tls-verify=false", built, target, succeeds=False)

    assert reason.message in refused.errors


def test_pull_from_a_private_repository_needs_a_login(
    home: ContainersHome, other_home: ContainersHome, registry_server: Server, people: People
) -> None:
    private, public = (f"{registry_server.host}/demo/{name}/buildah-closed:1" for name in ("web", "public"))
    log_in(home, people.member, registry_server.host)
    built = build(home, "scratch", "closed")
    for reference in (private, public):
        home.buildah("push", "--tls-verify=false", built, f"docker://{reference}")

    refused = other_home.buildah("pull", "--tls-verify=false", private, succeeds=False)
    other_home.buildah("pull", "--tls-verify=false", public)

    assert re.search("unauthorized|log in|denied", refused.errors), refused
