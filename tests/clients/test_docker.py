"""Docker and its containerd: two machines, one registry."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from tests.registry.test_quickstart import Quickstart
from tests.support.documents import blocks, carry_out, here
from tests.support.images import DOCKER_LIST, MEBIBYTE, Image, Index
from tests.support.programs import ContainersHome, DockerCommand, DockerDaemon, Result, require, run, wait_until
from tests.support.server import ORGANIZATION, SOURCE, AccessKey, People, Server

pytestmark = pytest.mark.real


def pushed_digest(result: Result) -> str:
    """Return the digest that ``docker push`` reported."""
    found = re.search(r"digest: (sha256:[0-9a-f]{64}) size: \d+", result.output)
    assert found, result
    return found[1]


def load(client: DockerCommand, image: Image) -> str:
    """Load an image into the daemon. Return the ID of the image."""
    archive = image.write_docker_archive(client.configuration / "image.tar", "loaded:latest")
    client("load", "--input", str(archive))
    archive.unlink()
    return image.config.digest


def logged_in(daemon: DockerDaemon, key: AccessKey, host: str) -> DockerCommand:
    """Return the ``docker`` command of the owner of the key, logged in."""
    client = daemon.client(key.id)
    client.login(host, key.id, key.secret)
    return client


def test_push_a_large_image_and_pull_it_on_another_machine(
    docker: DockerDaemon, other_docker: DockerDaemon, registry_server: Server, people: People
) -> None:
    image = Image.random("large", layers=4, layer_size=27 * MEBIBYTE)
    reference = f"{registry_server.host}/demo/web/large:1.0"
    member = logged_in(docker, people.member, registry_server.host)
    reader = logged_in(other_docker, people.reader, registry_server.host)

    digest = pushed_digest(member.push(load(member, image), reference))
    pulled = reader("pull", reference)

    assert f"Digest: {digest}" in pulled.output
    there, here = member.image(reference), reader.image(reference)
    assert here["Id"] == there["Id"] == image.config.digest
    assert here["RootFS"]["Layers"] == [layer.diff_id for layer in image.layers]
    assert here["RepoDigests"] == there["RepoDigests"] == [f"{registry_server.host}/demo/web/large@{digest}"]


def test_the_first_push_works_as_quickstart_prints_it(docker: DockerDaemon) -> None:
    with Quickstart("printed") as server:
        key = re.search(r"registry +(KCRK\w+) +(kcrs_\w+)", (server.data / "first-sign-in.txt").read_text())
        lines = re.findall(r"^  (docker .+|echo .+)$", server.said(lines=1000), re.MULTILINE)
        assert key
        assert [line.split()[:2] for line in lines] == [["docker", "login"], ["echo", "hello"], ["docker", "push"]]
        client = logged_in(docker, AccessKey(*key.groups()), server.host)
        for line in lines[1:]:
            run(["sh", "-ec", line], environment=client.environment, directory=client.configuration)
        assert server.client(AccessKey(*key.groups())).request("GET", "/v2/demo/web/hello/tags/list").json()[
            "tags"
        ] == ["1"]


def test_documented_first_push_and_first_organization(docker: DockerDaemon) -> None:
    """README.md, "Five minutes", and docs/guide/first-push.md: their commands, docker's login at a terminal."""
    guide = "docs/guide/first-push.md"
    pushing, create = blocks(guide, "Log in and push")
    (organization,) = blocks(guide, "Your own organization")
    assert blocks("README.md", "Five minutes")[1] == pushing
    with Quickstart("documented") as server:
        key = re.search(r"registry +(KCRK\w+) +(kcrs_\w+)", (server.data / "first-sign-in.txt").read_text())
        assert key
        client = docker.client("documented")
        login, commands = here(pushing, {"localhost:8080": server.host}).split("\n", 1)
        terminal = [require("script"), "--quiet", "--return", "--command", login, "/dev/null"]
        run(terminal, environment=client.environment, text_input=f"{key[1]}\n{key[2]}\n")
        run(["sh", "-ec", commands], environment=client.environment, directory=client.configuration)
        carry_out(here(create), server)
        made = json.loads(carry_out(here(organization), server).output.splitlines()[-1])
        owner = logged_in(docker, AccessKey(made["id"], made["secret"]), server.host)
        owner.push(load(owner, Image.random("documented")), f"{server.host}/shop/web/hello:1")


def test_a_repeated_push_sends_no_layer(
    docker: DockerDaemon, registry_server: Server, people: People, image: Image
) -> None:
    reference = f"{registry_server.host}/demo/web/repeated:1"
    member = logged_in(docker, people.member, registry_server.host)

    first = member.push(load(member, image), reference)
    second = member.push(image.config.digest, reference)

    assert second.output.count("Layer already exists") == len(image.layers)
    assert pushed_digest(first) == pushed_digest(second)


def test_second_image_of_the_repository_reuses_its_layers(
    docker: DockerDaemon, registry_server: Server, people: People, image: Image
) -> None:
    pusher = logged_in(docker, people.pusher, registry_server.host)

    pusher.push(load(pusher, image), f"{registry_server.host}/demo/web/original:1")
    second = pusher.push(image.config.digest, f"{registry_server.host}/demo/web/team/copy:1")

    taken = re.findall(r"Layer already exists|Mounted from demo/web/\S+", second.output)
    assert len(taken) == len(image.layers), second


def test_layers_are_mounted_from_another_repository(
    docker: DockerDaemon, registry_server: Server, people: People, image: Image
) -> None:
    member = logged_in(docker, people.member, registry_server.host)

    member.push(load(member, image), f"{registry_server.host}/demo/web/mounted:1")
    second = member.push(image.config.digest, f"{registry_server.host}/demo/public/mounted:1")

    assert second.output.count("Mounted from demo/web/mounted") == len(image.layers), second


def test_both_forms_of_a_name_are_the_same_image(
    docker: DockerDaemon,
    other_docker: DockerDaemon,
    registry_server: Server,
    project_host: str,
    people: People,
    image: Image,
) -> None:
    bare, own = f"{registry_server.host}/demo/web/both", f"{project_host}/web/both"
    for host in (registry_server.host, project_host):
        pusher = logged_in(docker, people.pusher, host)
        viewer = logged_in(other_docker, people.viewer, host)

    digest = pushed_digest(pusher.push(load(pusher, image), f"{bare}:bare"))
    again = pushed_digest(pusher.push(image.config.digest, f"{own}:own"))
    viewer("pull", f"{own}:bare")
    viewer("pull", f"{bare}:own")
    viewer("pull", f"{own}@{digest}")

    assert again == digest
    assert viewer.image(f"{own}:bare")["Id"] == viewer.image(f"{bare}:own")["Id"] == image.config.digest
    assert set(viewer.image(f"{own}:bare")["RepoDigests"]) == {f"{own}@{digest}", f"{bare}@{digest}"}


def test_anyone_pulls_from_a_public_repository(
    docker: DockerDaemon,
    other_docker: DockerDaemon,
    registry_server: Server,
    project_host: str,
    people: People,
    image: Image,
) -> None:
    admin = logged_in(docker, people.admin, registry_server.host)
    anyone = other_docker.client("anyone")

    digest = pushed_digest(admin.push(load(admin, image), f"{registry_server.host}/demo/public/open:1"))

    for name in (f"{registry_server.host}/demo/public/open", f"{project_host}/public/open"):
        anyone("pull", f"{name}:1")
        assert f"{name}@{digest}" in anyone.image(f"{name}:1")["RepoDigests"]


def test_pull_from_a_private_repository_needs_a_login(
    docker: DockerDaemon, other_docker: DockerDaemon, registry_server: Server, people: People, image: Image
) -> None:
    reference = f"{registry_server.host}/demo/web/closed:1"
    member = logged_in(docker, people.member, registry_server.host)
    member.push(load(member, image), reference)

    refused = other_docker.client("anyone")("pull", reference, succeeds=False)

    assert re.search("login|log in|unauthorized|denied", refused.errors), refused


def test_push_to_a_public_repository_needs_a_login(
    docker: DockerDaemon, registry_server: Server, people: People, image: Image
) -> None:
    assert people
    anyone = docker.client("anyone")

    refused = anyone.push(load(anyone, image), f"{registry_server.host}/demo/public/gift:1", succeeds=False)

    assert re.search("login|log in|unauthorized|denied", refused.errors), refused


@pytest.mark.parametrize(("person", "image_name"), [("viewer", "web/looked-at"), ("reader", "public/looked-at")])
def test_push_without_permission_is_refused_with_the_reason(
    docker: DockerDaemon, registry_server: Server, people: People, image: Image, person: str, image_name: str
) -> None:
    key: AccessKey = getattr(people, person)
    client = logged_in(docker, key, registry_server.host)
    reason = registry_server.client(key).request("POST", f"/v2/demo/{image_name}/blobs/uploads/")

    refused = client.push(load(client, image), f"{registry_server.host}/demo/{image_name}:1", succeeds=False)

    assert f"denied: {reason.message}" in refused.errors


def test_pull_only_key_pulls_and_does_not_push(
    docker: DockerDaemon, other_docker: DockerDaemon, registry_server: Server, people: People, image: Image
) -> None:
    name = "demo/web/only-pulled"
    key = registry_server.access_key(people.email("member"), "--name", "pull only", "--pull-only")
    client = logged_in(other_docker, key, registry_server.host)
    member = logged_in(docker, people.member, registry_server.host)
    member.push(load(member, image), f"{registry_server.host}/{name}:1")
    reason = registry_server.client(key).request("POST", f"/v2/{name}/blobs/uploads/")

    client("pull", f"{registry_server.host}/{name}:1")
    refused = client.push(image.config.digest, f"{registry_server.host}/{name}:2", succeeds=False)

    assert f"denied: {reason.message}" in refused.errors


def test_docker_pulls_its_platform_of_an_index(docker: DockerDaemon, registry_server: Server, people: People) -> None:
    index = Index.random("docker index")
    reference = f"{registry_server.host}/demo/web/for-docker:1"
    registry_server.client(people.pusher).push("demo/web/for-docker", index, "1")
    viewer = logged_in(docker, people.viewer, registry_server.host)

    for image in index.images:
        viewer("pull", "--platform", f"linux/{image.architecture}", reference)
        assert viewer.image(reference)["Id"] == image.config.digest


def test_docker_makes_an_index_and_pulls_all_tags(
    docker: DockerDaemon, other_docker: DockerDaemon, registry_server: Server, people: People
) -> None:
    index = Index.random("made by docker")
    name = f"{registry_server.host}/demo/web/made-by-docker"
    pusher = logged_in(docker, people.pusher, registry_server.host)
    for image in index.images:
        pusher.push(load(pusher, image), f"{name}:{image.architecture}")

    pusher("manifest", "create", "--insecure", f"{name}:all", f"{name}:amd64", f"{name}:arm64")
    pusher("manifest", "push", "--insecure", f"{name}:all")
    viewer = logged_in(other_docker, people.viewer, registry_server.host)
    viewer("pull", "--all-tags", name)

    stored = registry_server.client(people.viewer).manifest("demo/web/made-by-docker", "all")
    assert stored.headers["Content-Type"] == DOCKER_LIST
    assert [entry["platform"]["architecture"] for entry in stored.json()["manifests"]] == ["amd64", "arm64"]
    found = {tag: viewer.image(f"{name}:{tag}")["Id"] for tag in ("amd64", "arm64", "all")}
    amd64, arm64 = (image.config.digest for image in index.images)
    assert found == {"amd64": amd64, "arm64": arm64, "all": amd64}


def test_push_to_a_missing_repository_is_refused_with_the_reason(
    docker: DockerDaemon, registry_server: Server, people: People, image: Image
) -> None:
    member = logged_in(docker, people.member, registry_server.host)
    reason = registry_server.client(people.member).request("POST", "/v2/demo/missing/app/blobs/uploads/")

    refused = member.push(load(member, image), f"{registry_server.host}/demo/missing/app:1", succeeds=False)

    assert reason.message in refused.errors


def test_stranger_gets_the_same_answer_for_private_and_missing_repositories(
    docker: DockerDaemon, other_docker: DockerDaemon, registry_server: Server, people: People, image: Image
) -> None:
    member = logged_in(docker, people.member, registry_server.host)
    member.push(load(member, image), f"{registry_server.host}/demo/web/secret:1")
    stranger = logged_in(other_docker, people.stranger, registry_server.host)

    answers = {
        stranger("pull", f"{registry_server.host}/demo/{repository}/{name}:1", succeeds=False)
        .text.replace(repository, "REPOSITORY")
        .replace(name, "IMAGE")
        for repository, name in (("web", "secret"), ("web", "absent"), ("missing", "secret"))
    }

    assert len(answers) == 1, answers


def test_login_with_a_wrong_secret_fails(docker: DockerDaemon, registry_server: Server, people: People) -> None:
    client = docker.client("forgetful")

    refused = client.login(registry_server.host, people.member.id, "wrong", succeeds=False)

    assert re.search("unauthorized|401", refused.errors), refused


def test_a_revoked_grant_ends_at_the_next_pull(
    docker: DockerDaemon, other_docker: DockerDaemon, registry_server: Server, people: People, image: Image
) -> None:
    reference = f"{registry_server.host}/demo/web/left:1"
    member = logged_in(docker, people.member, registry_server.host)
    member.push(load(member, image), reference)
    leaver = logged_in(other_docker, people.add("leaver", grant="viewer"), registry_server.host)
    leaver("pull", reference)
    leaver("image", "rm", reference)

    people.revoke("leaver")

    leaver("pull", reference, succeeds=False)


def test_overwriting_a_protected_tag_is_refused(
    docker: DockerDaemon, registry_server: Server, people: People, image: Image
) -> None:
    reference = f"{registry_server.host}/demo/fixed/app:1"
    other = Image.random("the other image", layers=1)
    member = logged_in(docker, people.member, registry_server.host)
    first = pushed_digest(member.push(load(member, image), reference))

    same = pushed_digest(member.push(image.config.digest, reference))
    refused = member.push(load(member, other), reference, succeeds=False)

    assert same == first
    assert "denied" in refused.errors
    assert "overwrit" in refused.errors, refused
    kept = registry_server.client(people.member).manifest("demo/fixed/app", "1")
    assert kept.headers["Docker-Content-Digest"] == first


def test_two_machines_push_the_same_layers_at_once(
    docker: DockerDaemon, other_docker: DockerDaemon, registry_server: Server, people: People
) -> None:
    image = Image.random("race", layers=5, layer_size=2 * MEBIBYTE)
    clients = [
        logged_in(docker, people.member, registry_server.host),
        logged_in(other_docker, people.pusher, registry_server.host),
    ]
    for client in clients:
        load(client, image)

    with ThreadPoolExecutor() as threads:
        pushes = [
            threads.submit(client.push, image.config.digest, f"{registry_server.host}/demo/web/race:{number}")
            for number, client in enumerate(clients)
        ]
        digests = {pushed_digest(push.result()) for push in pushes}

    assert len(digests) == 1


def test_a_push_survives_a_crash_of_the_server(
    docker: DockerDaemon, other_docker: DockerDaemon, registry_server: Server, people: People
) -> None:
    image = Image.random("crash", layers=1, layer_size=64 * MEBIBYTE)
    name = "demo/web/crash"
    reference = f"{registry_server.host}/{name}:1"
    member = logged_in(docker, people.member, registry_server.host)
    load(member, image)

    with ThreadPoolExecutor() as threads:
        push = threads.submit(member.push, image.config.digest, reference)
        begun = wait_until(lambda: f"POST /v2/{name}/blobs/uploads/ 202" in registry_server.said(), timeout=30)
        registry_server.crash()
        registry_server.serve()
        digest = pushed_digest(push.result())

    assert begun
    viewer = logged_in(other_docker, people.viewer, registry_server.host)
    assert f"Digest: {digest}" in viewer("pull", reference).output
    assert viewer.image(reference)["Id"] == image.config.digest


def test_containerd_pulls_and_pushes(
    docker: DockerDaemon, other_docker: DockerDaemon, registry_server: Server, people: People, image: Image
) -> None:
    source, target = (f"{registry_server.host}/demo/web/{name}:1" for name in ("from-docker", "from-containerd"))
    member = logged_in(docker, people.member, registry_server.host)
    digest = pushed_digest(member.push(load(member, image), source))
    login = ("--plain-http", "--user", f"{people.pusher.id}:{people.pusher.secret}")

    other_docker.containerd("images", "pull", *login, source)
    other_docker.containerd("images", "push", *login, target, source)

    pushed = registry_server.client(people.viewer).manifest("demo/web/from-containerd", "1")
    assert pushed.headers["Docker-Content-Digest"] == digest
    assert digest in other_docker.containerd("images", "ls", f"name=={source}").output


def test_containerd_pulls_zstd_layers(other_docker: DockerDaemon, registry_server: Server, people: People) -> None:
    image = Image.random("containerd zstd", compression="zstd", layer_size=300_000)
    reference = f"{registry_server.host}/demo/web/zstd-for-containerd:1"
    registry_server.client(people.pusher).push("demo/web/zstd-for-containerd", image, "1")
    login = f"{people.viewer.id}:{people.viewer.secret}"

    other_docker.containerd("images", "pull", "--plain-http", "--user", login, reference)

    assert image.manifest.digest in other_docker.containerd("images", "ls", f"name=={reference}").output


def test_containerd_pulls_without_login(
    docker: DockerDaemon, other_docker: DockerDaemon, registry_server: Server, people: People, image: Image
) -> None:
    open_one, closed = (f"{registry_server.host}/demo/{name}/for-containerd:1" for name in ("public", "web"))
    member = logged_in(docker, people.member, registry_server.host)
    for reference in (open_one, closed):
        member.push(load(member, image), reference)

    other_docker.containerd("images", "pull", "--plain-http", open_one)
    other_docker.containerd("images", "pull", "--plain-http", closed, succeeds=False)


def test_first_push_creates_the_repository_where_the_project_says_so(
    docker: DockerDaemon, home: ContainersHome, registry_server: Server, people: People, image: Image
) -> None:
    assert people
    registry_server.manage("createproject", ORGANIZATION, "open-project")
    owner = registry_server.visitor("opens@acme.test", "--role", "owner")
    member = people.add("opened", "--project", "open-project:member")
    client, name = logged_in(docker, member, registry_server.host), f"{registry_server.host}/open-project"
    large = Image.random("opened", layers=5, layer_size=MEBIBYTE)

    client.push(load(client, large), f"{name}/made/app:1", succeeds=False)
    owner.send("/projects/open-project/settings", create="yes")
    pushed = client.push(large.config.digest, f"{name}/made/app:1")
    home.login("podman", registry_server.host, member.id, member.secret)
    home.podman("pull", "--tls-verify=false", f"{name}/made/app:1")
    home.podman("push", "--tls-verify=false", f"{name}/made/app:1", f"{name}/by-podman/app:1")

    assert pushed.output.count("Pushed") == len(large.layers)
    found = registry_server.client(member).request("GET", "/v2/open-project/made/app/tags/list").json()
    assert found["tags"] == ["1"]
    assert "Created the repository" in owner.see("/projects/open-project/audit-log")
    assert "by-podman" in owner.see("/projects/open-project/repositories/")


def test_docker_prints_the_rule_that_refuses_a_push(
    docker: DockerDaemon, registry_server: Server, people: People, image: Image
) -> None:
    registry_server.manage("createrepository", "demo/ruled")
    owner = registry_server.visitor("rules@acme.test", "--role", "owner")
    path = "/projects/demo/repositories/ruled/-/tag-rules"
    for patterns, mode in (("v*", "immutable"), ("release-*", "write-once")):
        owner.send(f"{path}/new", patterns=patterns, mode=mode, act="save")
    member = logged_in(docker, people.member, registry_server.host)
    other = Image.random("another image", layers=1)
    today = datetime.now(UTC).strftime("%Y-%m-%d")

    guide = (SOURCE / "docs" / "guide" / "tags.md").read_text()
    (documented,) = re.findall(r"^denied: .*", guide, re.MULTILINE)

    for tag, number, patterns in (("v1.2", 1, "v*"), ("release-1", 2, "release-*")):
        reference = f"{registry_server.host}/demo/ruled/app:{tag}"
        digest = pushed_digest(member.push(load(member, image), reference))
        refused = member.push(load(member, other), reference, succeeds=False)

        wanted = documented
        for example, real in {
            "shop/web/nginx:v1.2": f"demo/ruled/app:{tag}",
            "sha256:4c1f0d2ab7e9": digest[:19],
            "2026-03-02": today,
            "rule 1 of shop/web: v*": f"rule {number} of demo/ruled: {patterns}",
        }.items():
            assert example in documented
            wanted = wanted.replace(example, real)
        assert refused.errors.splitlines()[-1] == wanted
