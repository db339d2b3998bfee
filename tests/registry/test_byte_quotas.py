"""Quotas of stored bytes of projects and organizations."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.actors import SYSTEM
from accounts.models import AuditEvent
from registry import projects, quotas, trash
from registry.models import Event, ManifestBlob, ProjectUsage
from registry.oci.names import ImageName
from registry.statistics import sizes
from tests.registry.test_commands import run
from tests.support.images import Image, sha256

pytestmark = pytest.mark.django_db
NAME = ImageName("demo", "web", "app")
LAYER = b"x" * 1_000
FIRST = Image(layers=[LAYER])
SECOND = Image(layers=[LAYER, b"y" * 500])
THIRD = Image(layers=[b"z" * 500])


@pytest.fixture
def member(docker):
    client = docker("member")
    client.push("web/app", "1", FIRST)
    measure()
    return client


def limit(project, size: int | None) -> None:
    projects.update(SYSTEM, project, size_limit=size)


def used(project) -> int:
    return ProjectUsage.objects.get(project=project).size


def measure() -> None:
    """Measure all projects now. A measurement that took long would let the next one wait."""
    ProjectUsage.objects.update(seconds=0)
    sizes.refresh()


def bring(client, image: Image, repository: str = "web") -> None:
    for part in image.parts[:-1]:
        client.push_blob(f"{repository}/app", part)


def test_push_beyond_the_quota_is_refused_and_stores_nothing(member, project):
    bring(member, SECOND)
    now = used(project)
    limit(project, now + 499)
    refused = member.push_manifest("web/app", "2", SECOND.manifest, expect=403)
    assert refused.codes == ["DENIED"]
    assert "demo is full: 1.1 kB of 1.6 kB are stored" in refused.message
    assert "this push adds 500 B" in refused.message
    detail = refused.json()["errors"][0]["detail"]
    assert (detail["quota"], detail["used"], detail["limit"]) == ("bytes", now, now + 499)
    assert not ManifestBlob.objects.filter(blob__digest=sha256(b"y" * 500)).exists()
    limit(project, now + 500)
    member.push_manifest("web/app", "2", SECOND.manifest)
    assert Event.objects.filter(action="image.push").latest("pk").detail["added"] == 500


def test_pushes_since_the_measurement_count(member, project):
    limit(project, used(project) + 700)
    bring(member, SECOND)
    bring(member, THIRD)
    member.push_manifest("web/app", "2", SECOND.manifest)
    member.push_manifest("web/app", "3", THIRD.manifest, expect=403)
    measure()
    member.push_manifest("web/app", "3", THIRD.manifest, expect=403)
    assert quotas.stored(project).project == used(project)


def test_known_layers_cost_nothing_in_any_repository_of_the_project(member, project, docker):
    bring(member, FIRST, "public")
    limit(project, 1)
    member.push_manifest("public/app", "same", FIRST.manifest)
    member.push_manifest("web/app", "again", FIRST.manifest)


def test_layers_that_another_project_has_count(member, project, docker):
    docker("owner", "lab.kr-central-2.kcr.localhost:8080").push("secret/app", "1", SECOND)
    bring(member, SECOND)
    limit(project, used(project) + 499)
    member.push_manifest("web/app", "2", SECOND.manifest, expect=403)


def test_layers_of_a_deleted_repository_count(member, project, world):
    member.push("public/app", "1", SECOND)
    trash.delete_repository(SYSTEM, world.repository("public"))
    measure()
    bring(member, SECOND)
    limit(project, used(project) + 499)
    member.push_manifest("web/app", "2", SECOND.manifest, expect=403)


def test_full_project_takes_no_upload_and_has_room_after_a_deletion(member, project, web):
    limit(project, used(project))
    refused = member.post("web/app/blobs/uploads/", 403)
    assert refused.codes == ["DENIED"]
    assert "Delete images, or ask an operator" in refused.message
    trash.delete_references(SYSTEM, web, NAME, [FIRST.digest])
    measure()
    member.push("web/app", "3", THIRD)


def test_organization_is_full_with_all_its_projects(member, docker, world, project):
    lab = docker("owner", "lab.kr-central-2.kcr.localhost:8080")
    lab.push("secret/app", "1", FIRST)
    measure()
    whole = used(project) + used(world.projects["lab"])
    run("setorganizationquota", "acme", "--bytes", f"{whole + 499}")
    bring(member, SECOND)
    refused = member.push_manifest("web/app", "2", SECOND.manifest, expect=403)
    assert refused.message.startswith("acme is full")
    run("setorganizationquota", "acme", "--bytes", "none")
    member.push_manifest("web/app", "2", SECOND.manifest)
    changes = AuditEvent.objects.filter(action="organization.quota", organization__name="acme").order_by("pk")
    assert [change.detail for change in changes] == [
        {"before": None, "after": whole + 499},
        {"before": whole + 499, "after": None},
    ]


@pytest.mark.parametrize(
    ("text", "size"),
    [("500GB", 500 * 1000**3), ("1.5 TB", 15 * 1000**4 // 10), ("700", 700), ("2k", 2000), ("none", None)],
)
def test_command_reads_sizes(world, text, size):
    assert run("setquota", "demo", "--bytes", text)["bytes"] == size


def test_push_with_a_quota_costs_one_query_more(member, project):
    def pushed(image: Image) -> int:
        bring(member, image)
        with CaptureQueriesContext(connection) as queries:
            member.push_manifest("web/app", "2", image.manifest)
        return len(queries)

    pushed(SECOND)
    without = pushed(THIRD)
    limit(project, 1_000_000)
    assert pushed(Image(layers=[b"w" * 500])) == without + 1


def test_usage_page_shows_how_full_the_project_is(client, member, project, world):
    limit(project, 2_000)
    client.force_login(world.member.user)
    page = client.get("/projects/demo/usage").content.decode()
    assert "Bytes of the project" in page
    assert "of 2.0 kB" in page
