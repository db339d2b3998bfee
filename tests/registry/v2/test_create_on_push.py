"""Projects in which a push creates the repository."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts import keys
from accounts.actors import SYSTEM
from accounts.limits import Limits
from registry import members, projects, repositories, trash
from registry.models import Event, Repository
from tests.support.docker_client import BARE_HOST, SHAPES, DockerClient
from tests.support.images import Image

pytestmark = pytest.mark.django_db


@pytest.fixture
def demo(world):
    """The project, in which pushes create repositories."""
    project = world.projects["demo"]
    projects.update(SYSTEM, project, create_on_push=True)
    return project


def made(name: str) -> Repository | None:
    return Repository.objects.live().filter(project__name="demo", name=name).first()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("host", ["project", "bare"])
def test_first_push_of_a_member_creates_the_repository(demo, world, docker, shape, host):
    client = docker("member") if host == "project" else DockerClient(world.member, BARE_HOST)
    name = "new/team/app" if host == "project" else "demo/new/team/app"
    image = Image(layers=[b"one", b"two", b"three"])
    client.push(name, "1", image, shape=shape)
    assert client.pull(name, "1")[0] == image.manifest
    repository = made("new")
    assert (repository.created_by, repository.is_public, repository.auto_scan, repository.tag_overwrite) == (
        world.member.user,
        False,
        True,
        True,
    )
    event = Event.objects.get(action="repository.create", repository=repository)
    assert (event.detail["by_push"], event.user) == (True, world.member.user)


def test_one_token_of_before_serves_the_whole_push(demo, docker):
    client = docker("member")
    bearer = {"Authorization": f"Bearer {client.token('repository:new/app:pull,push')}"}
    image = Image(layers=[b"one", b"two"])
    for number, part in enumerate(image.parts[:-1]):
        found = client.raw("HEAD", f"/v2/new/app/blobs/{part.digest}", headers=bearer)
        assert found.status == 404, number
        opened = client.raw("POST", "/v2/new/app/blobs/uploads/", headers=bearer)
        assert opened.status == 202
        done = client.raw("PUT", f"{opened.headers['Location']}?digest={part.digest}", body=part, headers=bearer)
        assert done.status == 201
    written = client.raw(
        "PUT", "/v2/new/app/manifests/1", body=image.manifest, headers=bearer | {"Content-Type": image.media_type}
    )
    assert written.status == 201
    assert client.raw("GET", "/v2/new/app/manifests/1", headers=bearer).status == 200


def test_new_repository_has_the_settings_of_the_project(demo, docker):
    projects.update(SYSTEM, demo, new_is_public=True, new_auto_scan=False, new_tag_overwrite=False)
    docker("member").push("new/app", "1")
    repository = made("new")
    assert (repository.is_public, repository.auto_scan, repository.tag_overwrite) == (True, False, False)


def test_key_by_basic_creates_it_too(demo, docker):
    client = docker("admin")
    assert client.raw("POST", "/v2/new/app/blobs/uploads/", headers=client.basic()).status == 202
    assert made("new")


def test_it_is_off_by_default(world, docker):
    refused = docker("member").start("new/app", 404)
    assert refused.codes == ["NAME_UNKNOWN"]
    assert "createrepository demo/new" in refused.message
    assert not made("new")


@pytest.mark.parametrize("name", ["reader", "pusher", "viewer", "stranger", None])
def test_who_may_not_create_gets_the_answers_of_before(world, docker, name):
    def answers() -> list[str]:
        client, found = docker(name), []
        for path in ("new/app", "hidden/app", "nothing/app"):
            token = client.token(f"repository:{path}:pull,push")
            for headers in ({}, client.basic(), {"Authorization": f"Bearer {token}"}):
                answer = client.raw("POST", f"/v2/{path}/blobs/uploads/", headers=headers)
                error = answer.json()["errors"][0]
                found.append(f"{answer.status} {error['message']} {answer.headers.get('WWW-Authenticate')}")
        return found

    repositories.create(SYSTEM, world.projects["demo"], "hidden")
    before = answers()
    projects.update(SYSTEM, world.projects["demo"], create_on_push=True)
    assert answers() == before
    assert not made("new")


def test_stranger_costs_the_same_queries_for_an_absent_and_a_hidden_repository(demo, world, docker):
    client = docker("stranger")
    repositories.create(SYSTEM, demo, "hidden")

    def queries(name: str) -> list[str]:
        with CaptureQueriesContext(connection) as captured:
            client.raw("POST", f"/v2/{name}/app/blobs/uploads/", headers=client.basic())
        return [query["sql"].replace(name, "NAME") for query in captured]

    queries("hidden")
    assert len(queries("hidden")) == len(queries("absent"))


def test_pull_creates_nothing(demo, docker):
    client = docker("member")
    client.get("new/app/manifests/1", 404)
    client.head("new/app/blobs/sha256:" + "0" * 64, 404)
    client.token("repository:new/app:pull,push")
    assert not made("new")


def test_quota_and_names_hold(demo, docker):
    projects.update(SYSTEM, demo, repository_limit=Repository.objects.live().filter(project=demo).count())
    refused = docker("member").start("new/app", 403)
    assert refused.codes == ["DENIED"]
    assert "repositories" in refused.message
    assert not made("new")
    projects.update(SYSTEM, demo, repository_limit=100)
    for name in ("N/app", "a..b/app", "x/app"):
        assert docker("member").start(name, None).status in {400, 404}, name


@pytest.mark.parametrize(
    ("limit", "creates"),
    [
        (Limits(actions=("pull", "push")), True),
        (Limits(actions=("pull",)), False),
        (Limits(repositories="demo/new"), False),
        (Limits(repositories="demo/*"), False),
    ],
)
def test_limits_of_the_key_hold(demo, world, docker, limit, creates):
    made_key = keys.create(world.member.user, "limited", only=limit)
    client = DockerClient(replace(world.member, key=made_key.key, secret=made_key.secret, tokens={}))
    for name, status in (
        ("new", client.start("new/app", None).status),
        ("basic", client.raw("POST", "/v2/basic/app/blobs/uploads/", headers=client.basic()).status),
    ):
        assert (status == 202, made(name) is not None) == (creates, creates)


def test_person_who_lost_the_role_creates_nothing_with_an_older_token(demo, world, docker):
    client = docker("member")
    bearer = {"Authorization": f"Bearer {client.token('repository:new/app:pull,push')}"}
    members.set_role(SYSTEM, demo, world.member.user, None)
    assert client.raw("POST", "/v2/new/app/blobs/uploads/", headers=bearer).status in {401, 404}
    assert not made("new")


def test_token_of_an_older_repository_does_not_create_or_reach_the_next_one(demo, world, docker):
    client = docker("member")
    bearer = {"Authorization": f"Bearer {client.token('repository:web/app:pull,push')}"}
    trash.delete_repository(SYSTEM, world.repository("web"))
    assert client.raw("POST", "/v2/web/app/blobs/uploads/", headers=bearer).status in {401, 404}
    assert not made("web")
    repositories.create(SYSTEM, demo, "web")
    assert client.raw("POST", "/v2/web/app/blobs/uploads/", headers=bearer).status == 401


@pytest.mark.django_db(transaction=True)
def test_first_pushes_at_once_create_one_repository(demo, world):
    def push(number: int) -> int:
        try:
            client = DockerClient(world.member if number % 2 else world.admin)
            client.tokens = {}
            return client.start("new/app", None).status
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(push, range(6))) == {202}
    assert Repository.objects.filter(name="new").count() == 1
    assert Event.objects.filter(action="repository.create", path="demo/new").count() == 1
