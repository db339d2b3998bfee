"""Deleting many tags and digests of an image: few statements, one deletion, one recovery."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from registry import errors, trash
from registry.models import Deletion, Event, Manifest, Tag
from registry.oci.names import ImageName
from tests.support.images import Image

pytestmark = pytest.mark.django_db
NAME = ImageName("demo", "web", "app")


@pytest.fixture
def add(docker):
    """``add(prefix, number)`` adds tags prefix0, prefix1, … to web/app and returns their names."""
    docker("member").push("web/app", "release", Image())
    manifest = Manifest.objects.get()

    def add(prefix: str, number: int) -> list[str]:
        names = [f"{prefix}{count}" for count in range(number)]
        Tag.objects.bulk_create(Tag(image=manifest.image, name=name, manifest=manifest) for name in names)
        return names

    return add


@pytest.fixture
def delete(world):
    def delete(names: list[str]) -> Deletion:
        return trash.delete_references(world.owner.actor, world.repository("web"), NAME, names)

    return delete


def live() -> set[str]:
    return set(Tag.objects.live().values_list("name", flat=True))


def test_many_tags_are_deleted_and_recovered_together(world, add, delete):
    names = add("pr-", 300)
    deletion = delete(names)
    assert live() == {"release"}
    assert (deletion.kind, deletion.requested) == ("tag", names)
    events = Event.objects.filter(action="tag.delete")
    assert {event.tag for event in events} == set(names)
    closed = Tag.objects.exclude(ended_at=None)
    assert set(closed.values_list("closed_by", "name")) == set(events.values_list("pk", "tag"))
    assert not closed.exclude(deletion=deletion).exists()
    restored = trash.restore(world.owner.actor, [deletion.pk])
    assert restored.tags == 300
    assert live() == {"release", *names}
    assert not Deletion.objects.exists()


def test_one_statement_deletes_many_tags(add, delete):
    counts = []
    for prefix, number in (("few-", 2), ("many-", 190)):
        names = add(prefix, number)
        with CaptureQueriesContext(connection) as queries:
            delete(names)
        counts.append(len(queries))
    assert counts[1] < counts[0] + 10


def test_digests_and_tags_are_deleted_together(docker, world, add, delete):
    names = add("pr-", 3)
    images = [Image(layers=[b"%d" % number]) for number in range(3)]
    for image in images:
        docker("member").push("web/app", f"of-{image.digest[7:19]}", image)
    deletion = delete([*names, *(image.digest for image in images)])
    assert live() == {"release"}
    assert [manifest.digest for manifest in Manifest.objects.live()] == [Image().digest]
    of_digests = Event.objects.filter(action="image.delete")
    assert {event.digest: event.detail["tags"] for event in of_digests} == {
        image.digest: [f"of-{image.digest[7:19]}"] for image in images
    }
    trash.restore(world.owner.actor, [deletion.pk])
    assert len(live()) == 7


def test_missing_name_deletes_nothing(add, delete):
    names = add("pr-", 3)
    with pytest.raises(errors.ManifestUnknown, match="has no tag none"):
        delete([*names, "none"])
    assert len(live()) == 4
    assert not Event.objects.filter(action="tag.delete").exists()


def test_more_names_than_the_limit_are_refused(add, delete, monkeypatch):
    monkeypatch.setattr("registry.trash.deleting.MAX_AT_ONCE", 2)
    with pytest.raises(errors.Denied, match="at most 2"):
        delete(add("pr-", 3))
    assert len(live()) == 4
