"""Skopeo: images, indexes and artifacts are copied unchanged in both directions."""

import json
import re
from pathlib import Path

import pytest

from tests.support.images import OCI_INDEX, Artifact, Blob, Image, Index, Pushable, layout_blobs, sha256, write_layout
from tests.support.programs import ContainersHome, Result
from tests.support.server import AccessKey, People, Server

pytestmark = pytest.mark.real
KINDS = ("image", "zstd", "uncompressed", "index", "artifact")


def make(kind: str) -> Pushable:
    """Make an image, an index or an artifact."""
    made: dict[str, Pushable] = {
        "image": Image.random("plain", layers=3, layer_size=300_000),
        "zstd": Image.random("zstd", compression="zstd", layer_size=300_000),
        "uncompressed": Image.random("uncompressed", compression="none"),
        "index": Index.random("index"),
        "artifact": Artifact("application/vnd.test.report", Blob("text/plain", b"all is well\n")),
    }
    return made[kind]


def everything(thing: Pushable) -> dict[str, bytes]:
    """Return all blobs and manifests by digest."""
    return {part.digest: part for part in thing.parts}


def push(home: ContainersHome, thing: Pushable, reference: str, *more: str) -> Result:
    """Push without conversion. ``more`` are options of ``skopeo copy``."""
    layout = home.folder / f"layout-{thing.manifest.digest.removeprefix('sha256:')}"
    if not layout.exists():
        write_layout(layout, {"made": thing})
    source, target = f"oci:{layout}:made", f"docker://{reference}"
    return home.skopeo("copy", "--all", "--preserve-digests", "--dest-tls-verify=false", *more, source, target)


def pull(home: ContainersHome, reference: str, folder: str = "pulled") -> Path:
    """Pull without conversion. Return the folder of the layout."""
    target = home.folder / folder
    options = ("copy", "--all", "--preserve-digests", "--src-tls-verify=false")
    home.skopeo(*options, f"docker://{reference}", f"oci:{target}:pulled")
    return target


def inspect(home: ContainersHome, reference: str, *more: str, succeeds: bool = True) -> Result:
    """Run ``skopeo inspect``."""
    return home.skopeo("inspect", "--tls-verify=false", *more, f"docker://{reference}", succeeds=succeeds)


def log_in(home: ContainersHome, key: AccessKey, host: str) -> None:
    """Log in with ``skopeo login``."""
    home.login("skopeo", host, key.id, key.secret)


@pytest.mark.parametrize("kind", KINDS)
def test_copied_content_is_identical(
    home: ContainersHome, other_home: ContainersHome, registry_server: Server, people: People, kind: str
) -> None:
    thing = make(kind)
    reference = f"{registry_server.host}/demo/web/bytes-{kind}"
    log_in(home, people.pusher, registry_server.host)
    log_in(other_home, people.viewer, registry_server.host)

    push(home, thing, f"{reference}:1.0")
    by_tag = pull(other_home, f"{reference}:1.0", "by-tag")
    by_digest = pull(other_home, f"{reference}@{thing.manifest.digest}", "by-digest")

    raw = inspect(other_home, f"{reference}:1.0", "--raw").output
    assert sha256(raw.encode()) == thing.manifest.digest
    assert layout_blobs(by_tag) == layout_blobs(by_digest) == everything(thing)


def test_both_forms_of_a_name_are_the_same_image(
    home: ContainersHome, registry_server: Server, project_host: str, people: People, image: Image
) -> None:
    for host in (registry_server.host, registry_server.address_host, project_host):
        log_in(home, people.member, host)

    push(home, image, f"{project_host}/web/forms:1")

    raw = image.manifest.decode()
    for name in (
        f"{registry_server.host}/demo/web/forms",
        f"{registry_server.address_host}/demo/web/forms",
        f"{project_host}/web/forms",
    ):
        assert inspect(home, f"{name}:1", "--raw").output == raw
        assert inspect(home, f"{name}@{image.manifest.digest}", "--raw").output == raw


def test_inspect_chooses_the_platform(home: ContainersHome, registry_server: Server, people: People) -> None:
    index = Index.random("platforms")
    reference = f"{registry_server.host}/demo/web/platforms:1"
    log_in(home, people.member, registry_server.host)
    push(home, index, reference)

    for image in index.images:
        told = inspect(home, reference, "--override-arch", image.architecture).json()
        config = inspect(home, reference, "--override-arch", image.architecture, "--config").json()
        assert told["Digest"] == index.manifest.digest
        assert told["Architecture"] == image.architecture
        assert told["Layers"] == [layer.digest for layer in image.layers]
        assert config == json.loads(image.config)


def test_tags_are_listed_in_byte_order(
    home: ContainersHome, registry_server: Server, people: People, image: Image
) -> None:
    reference = f"{registry_server.host}/demo/web/listed"
    log_in(home, people.member, registry_server.host)
    tags = ("latest", "1.10", "1.9", "Beta", "_hidden", "a-b", "a.b", "a_b", "aB")

    for tag in tags:
        push(home, image, f"{reference}:{tag}")

    listed = home.skopeo("list-tags", "--tls-verify=false", f"docker://{reference}").json()
    assert listed["Tags"] == sorted(tags)


def test_copy_within_the_registry_sends_no_layer(
    home: ContainersHome, registry_server: Server, people: People, image: Image
) -> None:
    source, target = (f"{registry_server.host}/demo/{name}/moved:1" for name in ("web", "public"))
    log_in(home, people.member, registry_server.host)
    push(home, image, source)

    verify = ("--src-tls-verify=false", "--dest-tls-verify=false")
    copied = home.skopeo("--debug", "copy", *verify, f"docker://{source}", f"docker://{target}")

    assert copied.errors.count("... mount OK") >= len(image.layers), copied
    assert inspect(home, target, "--raw").output == image.manifest.decode()


def test_layers_of_an_invisible_repository_cannot_be_mounted(
    home: ContainersHome, registry_server: Server, people: People, image: Image
) -> None:
    push_options = ("--dest-creds", f"{people.member.id}:{people.member.secret}")
    push(home, image, f"{registry_server.host}/demo/fixed/hidden:1", *push_options)
    layer = image.layers[0]
    pusher = registry_server.client(people.pusher)

    answers = [
        pusher.request("POST", f"/v2/demo/web/{image_name}/blobs/uploads/?mount={layer.digest}&from={source}")
        for image_name, source in (("thief", "demo/fixed/hidden"), ("thief", "demo/absent/hidden"))
    ]

    assert [answer.status for answer in answers] == [202, 202]
    assert pusher.request("HEAD", f"/v2/demo/web/thief/blobs/{layer.digest}").status == 404
    push(
        home,
        image,
        f"{registry_server.host}/demo/web/thief:1",
        "--dest-creds",
        f"{people.pusher.id}:{people.pusher.secret}",
    )


def test_sync_takes_all_tags(home: ContainersHome, registry_server: Server, people: People, image: Image) -> None:
    source = f"{registry_server.host}/demo/web/synced"
    index = Index.random("synced")
    log_in(home, people.member, registry_server.host)
    push(home, image, f"{source}:1")
    push(home, index, f"{source}:2")

    verify = ("--src-tls-verify=false", "--dest-tls-verify=false")
    target = f"{registry_server.host}/demo/public"
    home.skopeo("sync", "--all", *verify, "--src", "docker", "--dest", "docker", source, target)

    for tag, thing in (("1", image), ("2", index)):
        assert inspect(home, f"{target}/synced:{tag}", "--raw").output == thing.manifest.decode()


@pytest.mark.parametrize("person", ["admin", "member"])
def test_skopeo_delete_removes_the_manifest(
    home: ContainersHome, registry_server: Server, people: People, image: Image, person: str
) -> None:
    reference = f"{registry_server.host}/demo/web/deleted-by-{person}"
    log_in(home, getattr(people, person), registry_server.host)
    push(home, image, f"{reference}:1")
    push(home, image, f"{reference}:2")

    home.skopeo("delete", "--tls-verify=false", f"docker://{reference}:1")

    for name in (f"{reference}:1", f"{reference}:2", f"{reference}@{image.manifest.digest}"):
        assert "manifest unknown" in inspect(home, name, succeeds=False).errors
    push(home, image, f"{reference}:1")
    inspect(home, f"{reference}:1")


@pytest.mark.parametrize("person", ["reader", "pusher", "viewer"])
def test_delete_needs_a_role_in_the_project(
    home: ContainersHome, registry_server: Server, people: People, image: Image, person: str
) -> None:
    reference = f"{registry_server.host}/demo/web/kept-from-{person}:1"
    member = ("--dest-creds", f"{people.member.id}:{people.member.secret}")
    push(home, image, reference, *member)
    log_in(home, getattr(people, person), registry_server.host)

    home.skopeo("delete", "--tls-verify=false", f"docker://{reference}", succeeds=False)

    inspect(home, reference)


def test_anyone_reads_a_public_repository(
    home: ContainersHome, other_home: ContainersHome, registry_server: Server, people: People, image: Image
) -> None:
    reference = f"{registry_server.host}/demo/public/read:1"
    log_in(home, people.member, registry_server.host)
    push(home, image, reference)

    assert layout_blobs(pull(other_home, reference)) == everything(image)
    assert other_home.skopeo("list-tags", "--tls-verify=false", f"docker://{reference[:-2]}").json()["Tags"] == ["1"]


def test_reading_a_private_repository_needs_a_login(
    home: ContainersHome, other_home: ContainersHome, registry_server: Server, people: People, image: Image
) -> None:
    reference = f"{registry_server.host}/demo/web/private:1"
    log_in(home, people.member, registry_server.host)
    push(home, image, reference)

    refused = inspect(other_home, reference, succeeds=False)

    assert re.search("unauthorized|log in|denied", refused.errors), refused


@pytest.mark.parametrize(("person", "repository"), [("viewer", "web"), ("reader", "web"), ("reader", "public")])
def test_push_without_permission_is_refused_with_the_reason(
    home: ContainersHome, registry_server: Server, people: People, image: Image, person: str, repository: str
) -> None:
    key: AccessKey = getattr(people, person)
    name = f"demo/{repository}/not-allowed"
    reason = registry_server.client(key).request("POST", f"/v2/{name}/blobs/uploads/")
    layout = write_layout(home.folder / "layout", {"made": image})
    log_in(home, key, registry_server.host)

    target = f"docker://{registry_server.host}/{name}:1"
    refused = home.skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:made", target, succeeds=False)

    assert reason.message in refused.errors


@pytest.mark.parametrize("name", ["demo/two", "two", "demo/w/app"])
def test_push_to_an_unsupported_name_is_refused_with_the_expected_form(
    home: ContainersHome, registry_server: Server, people: People, image: Image, name: str
) -> None:
    """skopeo first sends HEAD, whose answer has no reason, and continues only after a 404."""
    log_in(home, people.member, registry_server.host)
    layout = write_layout(home.folder / "layout", {"made": image})
    target = f"docker://{registry_server.host}/{name}:1"

    refused = home.skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:made", target, succeeds=False)

    assert "project/repository/image is the form of every name here" in refused.errors


def test_stranger_gets_the_same_answer_for_private_and_missing_repositories(
    home: ContainersHome, other_home: ContainersHome, registry_server: Server, people: People, image: Image
) -> None:
    log_in(home, people.member, registry_server.host)
    push(home, image, f"{registry_server.host}/demo/web/unseen:1")
    log_in(other_home, people.stranger, registry_server.host)

    answers = {
        re.sub(
            r'time="[^"]*"',
            "",
            inspect(other_home, f"{registry_server.host}/demo/{repository}/{name}:1", succeeds=False)
            .errors.replace(repository, "REPOSITORY")
            .replace(name, "IMAGE"),
        )
        for repository, name in (("web", "unseen"), ("web", "absent"), ("missing", "unseen"))
    }

    assert len(answers) == 1, answers


def test_login_with_a_wrong_secret_fails(home: ContainersHome, registry_server: Server, people: People) -> None:
    refused = home.login("skopeo", registry_server.host, people.reader.id, "wrong", succeeds=False)

    assert re.search("unauthorized|invalid username/password", refused.errors), refused


def test_a_revoked_grant_ends_at_the_next_pull(
    home: ContainersHome, other_home: ContainersHome, registry_server: Server, people: People, image: Image
) -> None:
    reference = f"{registry_server.host}/demo/web/ended:1"
    log_in(home, people.member, registry_server.host)
    push(home, image, reference)
    log_in(other_home, people.add("former", grant="viewer"), registry_server.host)
    inspect(other_home, reference)

    people.revoke("former")

    inspect(other_home, reference, succeeds=False)


def test_referrer_of_an_image_is_listed_under_its_digest(
    home: ContainersHome, registry_server: Server, people: People, image: Image
) -> None:
    name = "demo/web/subject"
    client = registry_server.client(people.pusher)
    viewer = registry_server.client(people.viewer)
    reports = {
        kind: Artifact(
            f"application/vnd.test.{kind}", Blob("text/plain", kind.encode()), image.manifest, {"about": kind}
        )
        for kind in ("signature", "inventory")
    }

    first = client.push(name, reports["signature"])  # a referrer may be pushed before its subject
    log_in(home, people.pusher, registry_server.host)
    push(home, image, f"{registry_server.host}/{name}:1")
    client.push(name, reports["inventory"])

    assert first.headers["OCI-Subject"] == image.manifest.digest
    found = viewer.referrers(name, image.manifest.digest)
    assert found.headers["Content-Type"] == OCI_INDEX
    assert sorted(found.json()["manifests"], key=str) == sorted(
        (
            report.manifest.descriptor(artifactType=report.artifact_type, annotations=report.annotations)
            for report in reports.values()
        ),
        key=str,
    )
    filtered = viewer.referrers(name, image.manifest.digest, reports["inventory"].artifact_type)
    assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
    assert [entry["digest"] for entry in filtered.json()["manifests"]] == [reports["inventory"].manifest.digest]
    for report in reports.values():
        digest = report.manifest.digest
        pulled = pull(home, f"{registry_server.host}/{name}@{digest}", f"report-{digest[-8:]}")
        assert layout_blobs(pulled) == everything(report)
