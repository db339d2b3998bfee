"""Repeated pushes of a tag with the same digest: the time of the last push in cleanup, lists and the audit log."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone

from registry import trash
from registry.cleanup import policies
from registry.models import CleanupPolicy, Event, Manifest, Repository, Tag, TagDay
from registry.models import Image as StoredImage
from registry.statistics.pulls import counter
from tests.support.images import Image, Index
from tests.support.personas import make_key

pytestmark = pytest.mark.django_db
NIGHTLY = Image(layers=[b"always the same"])


def ago(days: float) -> datetime:
    return timezone.now() - timedelta(days=days)


@pytest.fixture
def nightly(docker) -> Tag:
    """The member pushed web/app:nightly 40 days ago."""
    docker("member").push("web/app", "nightly", NIGHTLY)
    age(40)
    return Tag.objects.get()


def age(days: float) -> None:
    """Move all times back by so many days."""
    Tag.objects.update(started_at=ago(days), pushed_at=ago(days))
    Manifest.objects.update(pushed_at=ago(days), last_pushed_at=ago(days))
    StoredImage.objects.update(pushed_at=ago(days))
    Event.objects.update(at=ago(days))


def push_again(docker, name: str = "member", reference: str = "nightly") -> None:
    docker(name).push("web/app", reference, NIGHTLY)


def going(world, **rules) -> list[str]:
    web = Repository.objects.get(pk=world.repository("web").pk)
    found = policies.preview(web, CleanupPolicy(repository=web, **rules), timezone.now())
    return [judged.verdict.tag or judged.verdict.digest for judged in found]


def of_tag(name: str = "nightly") -> list[tuple[str, str]]:
    found = Event.objects.filter(tag=name).order_by("pk")
    return list(found.values_list("action", "actor"))


def test_repeated_push_resets_the_age_of_a_tag_for_policies(docker, world, nightly):
    assert going(world, tag_days=30) == ["nightly"]
    push_again(docker)
    assert going(world, tag_days=30) == []


def test_newest_tags_are_ordered_by_their_last_push(docker, world, nightly):
    for number in range(2):
        docker("member").push("web/app", f"t{number}", Image(layers=[b"%d" % number]))
    Tag.objects.exclude(name="nightly").update(started_at=ago(1), pushed_at=ago(1))
    assert going(world, keep_last=2) == ["nightly"]
    push_again(docker)
    assert going(world, keep_last=2) == ["t0"]


def test_push_counts_as_use(docker, world, nightly):
    Repository.objects.update(created_at=ago(400))
    assert going(world, unpulled_days=30) == ["nightly"]
    push_again(docker)
    assert going(world, unpulled_days=30) == []


def test_repeated_push_keeps_the_start_of_the_tag_interval(docker, nightly):
    push_again(docker)
    found = Tag.objects.get()
    assert found.pk == nightly.pk
    assert found.started_at == nightly.started_at
    assert timezone.now() - found.pushed_at < timedelta(minutes=5)


def test_image_and_digest_store_the_time_of_their_last_push(docker, nightly):
    push_again(docker)
    counter.flush()
    manifest, image = Manifest.objects.get(), StoredImage.objects.get()
    assert manifest.pushed_at < ago(39)  # the pull policy counts its grace period from the first push
    for time in (manifest.last_pushed_at, image.pushed_at):
        assert timezone.now() - time < timedelta(minutes=5)
    # age() does not move the day of the first push.
    assert TagDay.objects.get(tag="nightly", day=timezone.now().date()).pushes == 1 + 1


def test_push_by_digest_resets_the_age_of_an_untagged_digest(docker, world, nightly):
    docker("member").delete("web/app/manifests/nightly", 202)
    Tag.objects.update(ended_at=ago(35))
    assert going(world, untagged_days=30) == [NIGHTLY.digest]
    push_again(docker, reference=NIGHTLY.digest)
    counter.flush()
    assert going(world, untagged_days=30) == []
    assert of_tag() == [("tag.add", "member@acme.test"), ("tag.delete", "member@acme.test")]


def test_time_of_the_last_push_never_goes_back(docker, nightly):
    """The clock of another machine was ahead at the push before."""
    ahead = timezone.now() + timedelta(minutes=5)
    Tag.objects.update(pushed_at=ahead)
    push_again(docker)
    assert Tag.objects.live().get().pushed_at == ahead


def test_tag_in_the_query_counts_as_pushed(docker, world, nightly):
    docker("member").put(
        f"web/app/manifests/{NIGHTLY.digest}?tag=nightly",
        201,
        body=NIGHTLY.manifest,
        headers={"Content-Type": NIGHTLY.media_type},
    )
    assert going(world, tag_days=30) == []


# ── The audit log ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_each_repeated_push_is_logged(docker, world, nightly):
    world.people["ci"] = make_key(world.member.user, "ci")
    for name in ("member", "ci", "ci", "owner"):
        push_again(docker, name)
    pushes = [("tag.push", f"{name}@acme.test") for name in ("member", "member", "member", "owner")]
    assert of_tag() == [("tag.add", "member@acme.test"), *pushes]
    events = Event.objects.filter(action="tag.push").order_by("pk")
    assert [event.key.name for event in events] == ["tests", "ci", "ci", "tests"]
    assert {event.digest for event in events} == {NIGHTLY.digest}


def test_each_tag_of_a_repeated_push_has_its_event(docker, nightly):
    docker("member").push("web/app", "other", NIGHTLY)
    age(2)
    docker("member").put(
        "web/app/manifests/nightly?tag=other&tag=new",
        201,
        body=NIGHTLY.manifest,
        headers={"Content-Type": NIGHTLY.media_type},
    )
    assert [of_tag(name)[-1][0] for name in ("nightly", "other", "new")] == ["tag.push", "tag.push", "tag.add"]


def test_tag_moved_away_and_back_is_logged_as_moved(docker, nightly):
    docker("member").push("web/app", "nightly", Image(layers=[b"other"]))
    push_again(docker)
    assert [action for action, _ in of_tag()] == ["tag.add", "tag.move", "tag.move"]
    assert Tag.objects.live().get().pushed_at == Tag.objects.live().get().started_at


# ── Replay, recovery, indexes ────────────────────────────────────────────────────────────────────────────────────────
def test_replay_uses_the_time_of_the_last_push(docker, world, nightly):
    web = world.repository("web")
    policy = CleanupPolicy(repository=web, tag_days=30)
    assert [each.deletion.tag for each in policies.replay(web, policy)] == ["nightly"]
    push_again(docker)
    assert list(policies.replay(web, policy)) == []


def test_recovery_resets_the_age_of_a_tag(docker, world, nightly):
    docker("member").delete("web/app/manifests/nightly", 202)
    (deletion,) = trash.listed(world.projects["demo"])
    trash.restore(world.owner.actor, [deletion.pk])
    assert going(world, tag_days=30) == []


def test_push_of_an_index_counts_for_its_children_not_their_tags(docker, world):
    index = Index.random("again")
    docker("member").push("web/app", "multi", index)
    docker("member").push("web/app", "amd64", index.images[0])
    age(40)
    docker("member").push("web/app", "multi", index)
    counter.flush()
    assert going(world, tag_days=30) == ["amd64"]
    assert Manifest.objects.filter(last_pushed_at__gt=ago(1)).count() == 3
