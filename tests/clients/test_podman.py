"""Podman: load, push and pull, zstd layers, partial pulls, images for several platforms."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import OCI_INDEX, Image, Index, Layer, random_bytes, sha256, write_layout
from tests.support.programs import ContainersHome, PartialPullsHome, Result
from tests.support.server import AccessKey, People, Server

pytestmark = pytest.mark.real


@pytest.fixture
def partial_home() -> Iterator[ContainersHome]:
    """A machine whose podman fetches only missing files."""
    with PartialPullsHome("partial-home") as made:
        yield made


def log_in(home: ContainersHome, key: AccessKey, host: str) -> None:
    """Log in with ``podman login``."""
    home.login("podman", host, key.id, key.secret)


def load(home: ContainersHome, image: Image) -> str:
    """Load an image into podman. Return the ID of the image."""
    name = f"localhost/loaded:{image.config.digest[-12:]}"
    archive = image.write_docker_archive(home.folder / "image.tar", name)
    home.podman("load", "--input", str(archive))
    return image.config.digest.removeprefix("sha256:")


def push(home: ContainersHome, image: Image, reference: str, *more: str, succeeds: bool = True) -> Result:
    """Push a loaded image."""
    return home.podman("push", "--tls-verify=false", *more, load(home, image), reference, succeeds=succeeds)


def pull(home: ContainersHome, reference: str, *more: str, succeeds: bool = True) -> Result:
    """Pull an image."""
    return home.podman("pull", "--tls-verify=false", *more, reference, succeeds=succeeds)


def known(home: ContainersHome, reference: str) -> dict[str, Any]:
    """Return the output of ``podman image inspect``."""
    found: dict[str, Any] = home.podman("image", "inspect", reference).json()[0]
    return found


def raw_manifest(server: Server, key: AccessKey, name: str, tag: str) -> dict[str, Any]:
    """Return the manifest of a tag."""
    document: dict[str, Any] = server.client(key).manifest(name, tag).json()
    return document


def files(home: ContainersHome, reference: str) -> dict[str, str]:
    """Return the digests of all files of an image by their path."""
    root = Path(home.podman("image", "mount", reference).output.strip())
    found = {str(path.relative_to(root)): sha256(path.read_bytes()) for path in root.rglob("*") if path.is_file()}
    home.podman("image", "unmount", reference)
    return found


def test_push_and_pull_on_another_machine(
    home: ContainersHome, other_home: ContainersHome, registry_server: Server, people: People, image: Image
) -> None:
    reference = f"{registry_server.host}/demo/web/podman:1"
    log_in(home, people.pusher, registry_server.host)
    log_in(other_home, people.viewer, registry_server.host)

    push(home, image, reference)
    pull(other_home, reference)

    here = known(other_home, reference)
    assert here["Id"] == image.config.digest.removeprefix("sha256:")
    assert here["RootFS"]["Layers"] == [layer.diff_id for layer in image.layers]
    stored = registry_server.client(people.viewer).manifest("demo/web/podman", "1")
    assert here["Digest"] == stored.headers["Docker-Content-Digest"] == sha256(stored.body)


def test_both_forms_of_a_name_are_the_same_image(
    home: ContainersHome, registry_server: Server, project_host: str, people: People, image: Image
) -> None:
    for host in (registry_server.host, project_host):
        log_in(home, people.member, host)

    push(home, image, f"{project_host}/web/podman-forms:1")

    pull(home, f"{registry_server.host}/demo/web/podman-forms:1")
    pull(home, f"{project_host}/web/podman-forms:1")
    one = known(home, f"{registry_server.host}/demo/web/podman-forms:1")
    other = known(home, f"{project_host}/web/podman-forms:1")
    assert one["Digest"] == other["Digest"]


def test_zstd_layers(home: ContainersHome, other_home: ContainersHome, registry_server: Server, people: People) -> None:
    image = Image.random("podman zstd", layer_size=500_000)
    reference = f"{registry_server.host}/demo/web/podman-zstd:1"
    log_in(home, people.pusher, registry_server.host)
    log_in(other_home, people.viewer, registry_server.host)

    push(home, image, reference, "--compression-format", "zstd")
    pull(other_home, reference)

    layers = raw_manifest(registry_server, people.viewer, "demo/web/podman-zstd", "1")["layers"]
    assert all(layer["mediaType"].endswith("+zstd") for layer in layers)
    assert known(other_home, reference)["RootFS"]["Layers"] == [layer.diff_id for layer in image.layers]


def test_a_partial_pull_gives_the_whole_image(
    home: ContainersHome, partial_home: ContainersHome, registry_server: Server, people: People
) -> None:
    contents = {f"data/{number:02}.bin": random_bytes(f"partial/{number}", 40_000) for number in range(40)}
    changed = {path: random_bytes(f"changed/{path}", 40_000) for path in list(contents)[::7]}
    first, second = (Image.of(Layer.of(held)) for held in (contents, {**contents, **changed}))
    name = f"{registry_server.host}/demo/web/partial"
    log_in(home, people.pusher, registry_server.host)
    log_in(partial_home, people.viewer, registry_server.host)
    for tag, image in (("1", first), ("2", second)):
        push(home, image, f"{name}:{tag}", "--compression-format", "zstd:chunked")

    pull(partial_home, f"{name}:1")
    pulled = partial_home.podman("--log-level", "debug", "pull", "--tls-verify=false", f"{name}:2")

    assert "Retrieved partial blob" in pulled.errors
    assert files(partial_home, f"{name}:2") == {
        path: sha256(content) for path, content in {**contents, **changed}.items()
    }


def test_an_image_for_several_platforms(
    home: ContainersHome, other_home: ContainersHome, registry_server: Server, people: People
) -> None:
    index = Index.random("podman index")
    reference = f"{registry_server.host}/demo/web/podman-platforms:1"
    log_in(home, people.pusher, registry_server.host)
    log_in(other_home, people.viewer, registry_server.host)
    home.podman("manifest", "create", "several")
    for image in index.images:
        layout = write_layout(home.folder / image.architecture, {"made": image})
        home.podman("manifest", "add", "several", f"oci:{layout}:made")

    home.podman("manifest", "push", "--all", "--tls-verify=false", "several", f"docker://{reference}")

    stored = registry_server.client(people.viewer).manifest("demo/web/podman-platforms", "1")
    assert stored.headers["Content-Type"] == stored.json().get("mediaType", OCI_INDEX)
    assert {entry["digest"] for entry in stored.json()["manifests"]} == {
        image.manifest.digest for image in index.images
    }
    for image in index.images:
        pull(other_home, reference, "--platform", f"linux/{image.architecture}")
        assert known(other_home, reference)["Id"] == image.config.digest.removeprefix("sha256:")


def test_anyone_pulls_from_a_public_repository_and_lists_its_tags(
    home: ContainersHome, other_home: ContainersHome, registry_server: Server, people: People, image: Image
) -> None:
    name = f"{registry_server.host}/demo/public/podman"
    log_in(home, people.admin, registry_server.host)
    push(home, image, f"{name}:1")

    pull(other_home, f"{name}:1")
    listed = other_home.podman("search", "--list-tags", "--tls-verify=false", name)

    assert re.search(rf"{re.escape(name)}\s+1\b", listed.output), listed


def test_pull_from_a_private_repository_needs_a_login(
    home: ContainersHome, other_home: ContainersHome, registry_server: Server, people: People, image: Image
) -> None:
    reference = f"{registry_server.host}/demo/web/podman-closed:1"
    log_in(home, people.member, registry_server.host)
    push(home, image, reference)

    refused = pull(other_home, reference, succeeds=False)

    assert re.search("unauthorized|log in|denied", refused.errors), refused


def test_push_without_permission_is_refused_with_the_reason(
    home: ContainersHome, registry_server: Server, people: People, image: Image
) -> None:
    reason = registry_server.client(people.viewer).request("POST", "/v2/demo/web/podman-no/blobs/uploads/")
    log_in(home, people.viewer, registry_server.host)

    refused = push(home, image, f"{registry_server.host}/demo/web/podman-no:1", succeeds=False)

    assert reason.message in refused.errors


def test_push_to_a_name_of_two_parts_is_refused_with_the_expected_form(
    home: ContainersHome, registry_server: Server, people: People, image: Image
) -> None:
    log_in(home, people.member, registry_server.host)

    refused = push(home, image, f"{registry_server.host}/demo/podman-two:1", succeeds=False)

    assert "project/repository/image is the form of every name here" in refused.errors


def test_stranger_gets_the_same_answer_for_private_and_missing_repositories(
    home: ContainersHome, other_home: ContainersHome, registry_server: Server, people: People, image: Image
) -> None:
    log_in(home, people.member, registry_server.host)
    push(home, image, f"{registry_server.host}/demo/web/podman-secret:1")
    log_in(other_home, people.stranger, registry_server.host)

    answers = {
        pull(other_home, f"{registry_server.host}/demo/{repository}/{name}:1", succeeds=False)
        .errors.replace(repository, "REPOSITORY")
        .replace(name, "IMAGE")
        for repository, name in (("web", "podman-secret"), ("web", "absent"), ("missing", "podman-secret"))
    }

    assert len(answers) == 1, answers


def test_login_with_a_wrong_secret_fails(home: ContainersHome, registry_server: Server, people: People) -> None:
    refused = home.login("podman", registry_server.host, people.viewer.id, "wrong", succeeds=False)

    assert re.search("unauthorized|invalid username/password", refused.errors), refused
