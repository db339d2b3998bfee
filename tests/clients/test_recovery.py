"""A repository deleted and recovered in the console: clients see the same bytes as before."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.images import Artifact, Blob, Image, Index

if TYPE_CHECKING:
    from tests.support.programs import DockerDaemon
    from tests.support.registry_client import RegistryClient
    from tests.support.server import People, Server

pytestmark = pytest.mark.real

IMAGES = int(os.environ.get("KCR_TEST_RECOVERED_IMAGES", "20"))
SHARED = Image.random("shared", layers=1).layers[0]
RECOVERY = "/projects/demo/recovery"
HISTORY = "/projects/demo/repositories/many/-/audit-log.csv"


@dataclass
class Seen:
    """Everything that clients read of an image: tags, digests with their bytes and types, layers, referrers."""

    tags: list[str]
    named: dict[str, str]
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    referrers: dict[str, Any] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)


class Repository:
    """The repository ``many`` of the project ``demo``, as a client of a member sees it."""

    def __init__(self, server: Server, client: RegistryClient) -> None:
        self.server, self.client = server, client
        server.manage("createrepository", "demo/many")
        self.digests: dict[str, list[str]] = {}

    def fill(self) -> None:
        """Push images that share a layer, moved tags, an index, a signature and an untagged digest."""
        for number in range(IMAGES):
            name = f"demo/many/team/image-{number}"
            old, new = (Image.of(SHARED, *Image.random(f"{number} {age}", layers=1).layers) for age in ("old", "new"))
            things = [(old, "1.0"), (old, "latest"), (new, "latest"), (new, "2.0")]
            if number % 5 == 0:
                index = Index.random(f"index {number}")
                signature = Artifact("application/x-signature", Blob("text/plain", b"signed"), index.manifest)
                things += [(index, "multi"), (signature, None), (Image.random(f"untagged {number}"), None)]
            for thing, tag in things:
                self.client.push(name, thing, tag)
            self.digests[name] = sorted({part.digest for thing, _ in things for part in thing.parts})

    def seen(self) -> dict[str, Seen]:
        return {name: self.look(name) for name in self.digests}

    def look(self, name: str) -> Seen:
        tags = self.client.expect(200, "GET", f"/v2/{name}/tags/list").json()["tags"]
        answers = {tag: self.client.manifest(name, tag) for tag in tags}
        seen = Seen(tags, {tag: answer.headers["Docker-Content-Digest"] for tag, answer in answers.items()})
        for digest in self.digests[name]:
            manifest = self.client.manifest(name, digest)
            if manifest.status == 200:
                seen.manifests[digest] = manifest.headers["Content-Type"], manifest.body
                seen.referrers[digest] = self.client.referrers(name, digest).json()
            else:
                seen.blobs[digest] = self.client.expect(200, "GET", f"/v2/{name}/blobs/{digest}").body
        return seen


def test_repository_recovered_in_the_console_is_identical_for_clients(
    docker: DockerDaemon, other_docker: DockerDaemon, registry_server: Server, people: People
) -> None:
    """``KCR_TEST_RECOVERED_IMAGES`` sets the number of images."""
    host, visitor = registry_server.host, registry_server.visitor("mina@acme.test", "--project", "demo:member")
    member = docker.client(people.member.id)
    member.login(host, people.member.id, people.member.secret)
    many = Repository(registry_server, registry_server.client(people.member))
    many.fill()
    own, reference = Image.random("of docker", layers=3), f"{host}/demo/many/docker:1.0"
    archive = own.write_docker_archive(member.configuration / "image.tar", "loaded:latest")
    member("load", "--input", str(archive))
    member.push(own.config.digest, reference)
    before, history = many.seen(), visitor.see(HISTORY).splitlines()
    assert len(before) == IMAGES

    def pulled() -> dict[str, Any]:
        other_docker.client("nobody")("image", "rm", "--force", reference, succeeds=None)
        reader = other_docker.client(people.reader.id)
        reader.login(host, people.reader.id, people.reader.secret)
        reader("pull", reference)
        found = reader.image(reference)
        return {part: found[part] for part in ("Id", "RepoDigests", "RootFS")}

    def deletions() -> set[str]:
        return set(re.findall(r'name="deletion" value="(\d+)"', visitor.see(RECOVERY)))

    first, of_others = pulled(), deletions()
    started = time.monotonic()
    status, _, _ = visitor.send("/projects/demo/repositories/many/-/delete", typed="many")
    print(f"deleted {IMAGES} images in {time.monotonic() - started:.1f} s")
    assert status == 302
    other_docker.client("nobody")("image", "rm", "--force", reference)
    refused = other_docker.client(people.reader.id)("pull", reference, succeeds=False)
    assert "not found" in refused.text or "denied" in refused.text
    assert visitor.ask("GET", "/projects/demo/repositories/many/")[0] == 404
    assert {many.client.manifest(name, "latest").status for name in before} == {404}

    (deletion,) = deletions() - of_others
    started = time.monotonic()
    status, _, _ = visitor.send(RECOVERY, deletion=deletion)
    print(f"recovered {IMAGES} images in {time.monotonic() - started:.1f} s")
    assert status == 302
    assert many.seen() == before
    assert pulled() == first
    header, recovered, deleted, *rest = visitor.see(HISTORY).splitlines()
    assert [header, *rest] == history
    assert ("repository.recover" in recovered, "repository.delete" in deleted) == (True, True)
    assert deletions() == of_others
