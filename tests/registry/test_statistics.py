"""Statistics: pulls and pushes by tag and day, and stored bytes of repositories and projects."""

from __future__ import annotations

from datetime import timedelta

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.keys import last_used
from registry import trash
from registry.models import Image as StoredImage
from registry.models import ProjectDay, ProjectUsage, RepositoryUsage, Tag, TagDay
from registry.oci.names import ImageName
from registry.statistics import pulls as counting
from registry.statistics import sizes
from registry.statistics.pulls import counter
from tests.support.docker_client import DockerClient
from tests.support.images import OCI_INDEX, Image, index_of
from tests.support.personas import make_key
from tests.support.threads import Overtaking


def days() -> dict[str, tuple[int, int, int]]:
    """Return pulls, checks and pushes by tag."""
    counter.flush()
    return {row.tag: (row.pulls, row.checks, row.pushes) for row in TagDay.objects.all()}


def test_docker_pull_of_a_tag_by_digest_counts_once(docker):
    """docker sends HEAD for the tag and then fetches the digest. Other clients fetch the tag."""
    image = docker("member").push("web/app", "1")
    reader = docker("reader")
    reader.head("web/app/manifests/1", 200)
    reader.get(f"web/app/manifests/{image.digest}", 200)
    reader.get("web/app/manifests/1", 200)
    assert days() == {"1": (2, 1, 1)}
    stored = StoredImage.objects.get()
    assert timezone.now() - stored.pulled_at < timedelta(minutes=1)
    today = ProjectDay.objects.get()
    assert (today.pulls, today.pushes) == (2, 1)


def test_digest_pull_counts_for_the_last_resolved_tag(docker):
    image = docker("member").push("web/app", "a")
    docker("member").push("web/app", "b", image)
    docker("reader").head("web/app/manifests/b", 200)
    counter.flush()
    docker("reader").get(f"web/app/manifests/{image.digest}", 200)
    assert days() == {"a": (0, 0, 1), "b": (1, 1, 1)}


def test_children_of_an_index_are_not_counted_and_untagged_digests_are(docker):
    part, alone = Image(layers=[b"part"]), Image(layers=[b"alone"])
    member = docker("member")
    for each in (part, alone):
        member.push("web/app", each.digest, each)
    index = index_of(part.manifest.descriptor())
    member.push_manifest("web/app", "all", index, OCI_INDEX)
    for reference in ("all", part.digest, alone.digest):
        member.get(f"web/app/manifests/{reference}", 200)
    assert days() == {"all": (1, 0, 1), "": (1, 0, 0)}


def test_pulls_of_an_uncounted_key_leave_no_trace_and_its_pushes_do(docker, world):
    image = docker("member").push("web/app", "1")
    counter.flush()
    before = list(TagDay.objects.values()), list(ProjectDay.objects.values()), StoredImage.objects.get().pulled_at
    scanner = make_key(world.member.user, "scanner", counts_pulls=False)
    client = DockerClient(scanner)
    client.head("web/app/manifests/1", 200)
    client.get(f"web/app/manifests/{image.digest}", 200)
    client.get("web/app/manifests/1", 200)
    assert client.raw("GET", "/v2/web/app/manifests/1", headers=client.basic()).status == 200
    counter.flush()
    assert (list(TagDay.objects.values()), list(ProjectDay.objects.values()), StoredImage.objects.get().pulled_at) == (
        before
    )
    last_used.flush()
    scanner.key.refresh_from_db()
    assert scanner.key.last_used_at, "the key itself was used"
    client.push("web/app", "2")
    assert days() == {"1": (0, 0, 1), "2": (0, 0, 1)}


def test_flush_adds_counts_and_pull_writes_nothing(docker):
    docker("member").push("web/app", "1")
    docker("reader").get("web/app/manifests/1", 200)
    with CaptureQueriesContext(connection) as queries:
        docker("reader").get("web/app/manifests/1", 200)
    assert all(query["sql"].startswith("SELECT") for query in queries)
    assert days() == {"1": (2, 0, 1)}
    docker("reader").get("web/app/manifests/1", 200)
    assert days() == {"1": (3, 0, 1)}
    assert counter.flush() == 0


def test_pull_that_is_counted_during_a_flush_is_not_lost(db):
    overtaking, counting_here = Overtaking(), counting.PullCounter()

    class Notes(dict):
        def setdefault(self, *item):
            overtaking.pause()
            return super().setdefault(*item)

    counting_here._lock, counting_here._notes = overtaking, Notes()
    pull = lambda: counting_here.note(10**9, "1", counting.Kind.PULL)  # noqa: E731
    _, written = overtaking.run(pull, counting_here.flush)
    assert written + counting_here.flush() == 1


def test_flush_ignores_rows_deleted_meanwhile(docker):
    docker("member").push("web/app", "1")
    counter.note(10**9, "1", counting.Kind.PULL)
    assert days() == {"1": (0, 0, 1)}


def test_last_pull_is_stored_for_each_interval_of_a_tag(docker, world):
    docker("member").push("web/app", "1", Image(layers=[b"old"]))
    docker("reader").get("web/app/manifests/1", 200)
    counter.flush()
    docker("member").push("web/app", "1", Image(layers=[b"new"]))
    old, new = Tag.objects.order_by("pk")
    images = [old.image]
    assert set(counting.last_pulls(images)) == {old.pk}
    docker("reader").get("web/app/manifests/1", 200)
    counter.flush()
    assert new.pk in counting.last_pulls(images)
    assert counting.last_pulls([]) == {}


def test_old_days_are_deleted(docker):
    docker("member").push("web/app", "1")
    counter.flush()
    TagDay.objects.update(day=timezone.now().date() - timedelta(days=counting.KEPT_DAYS + 1))
    assert counting.forget(timezone.now()) == 1


# ── Sizes ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def stored(world) -> tuple[int, int, int]:
    """Return the stored bytes of web, of public and of the project, all measured now."""
    RepositoryUsage.objects.update(seconds=0)
    ProjectUsage.objects.update(seconds=0)
    sizes.refresh()
    of = {row.repository.name: row.size for row in RepositoryUsage.objects.select_related("repository")}
    return of["web"], of["public"], ProjectUsage.objects.get(project=world.projects["demo"]).size


def test_shared_layers_count_once_and_deleted_layers_do_not_count(docker, world):
    one, two = Image(layers=[b"a" * 1000, b"shared" * 100]), Image(layers=[b"b" * 500, b"shared" * 100])
    config = len(one.config)
    assert stored(world) == (0, 0, 0)
    docker("member").push("web/one", "1", one)
    docker("member").push("web/two", "1", two)
    docker("member").push("public/one", "1", one)
    assert stored(world) == (2100 + config, 1600 + config, 2100 + config)
    trash.delete_references(world.member.actor, world.repository("web"), ImageName("demo", "web", "one"), [one.digest])
    assert stored(world) == (1100 + config, 1600 + config, 2100 + config)
    trash.delete_repository(world.member.actor, world.repository("public"))
    ProjectUsage.objects.update(seconds=0)
    sizes.refresh()
    assert ProjectUsage.objects.get(project=world.projects["demo"]).size == 1100 + config
    assert ProjectDay.objects.get(project=world.projects["demo"]).size == 1100 + config


def test_unchanged_repositories_are_not_measured_again_and_costly_ones_wait(docker, world):
    docker("member").push("web/app", "1")
    assert sizes.refresh() > 0
    assert sizes.refresh() == 0
    RepositoryUsage.objects.update(seconds=60)
    ProjectUsage.objects.update(seconds=60)
    docker("member").push("web/app", "2", Image(layers=[b"more"]))
    assert sizes.refresh() == 0


def test_past_tag_names_get_no_pull_count(docker):
    """Otherwise any client could create a row for every second."""
    docker("member").push("public/app", "1.0")
    Tag.objects.update(started_at=timezone.now() - timedelta(days=1))
    past = timezone.now() - timedelta(hours=1)
    for second in range(5):
        docker(None).get(f"public/app/manifests/1.0--at-{past:%Y%m%dt%H%M}{second:02}z", 200)
    counter.flush()
    assert {row.tag: row.pulls for row in TagDay.objects.all()} == {"1.0": 5}
