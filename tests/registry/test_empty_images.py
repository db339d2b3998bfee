"""Images without digests: not listed, not counted, revived by a push, deleted after the recovery period."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from accounts.actors import SYSTEM
from accounts.models import Project
from registry import cleanup, errors, images, tasks, trash
from registry.cleanup import policies
from registry.models import Deletion, Event, Manifest, Repository, Tag
from registry.models import Image as StoredImage
from tests.support import later
from tests.support.images import Image

pytestmark = pytest.mark.django_db
RELEASE, OTHER = Image(layers=[b"release"]), Image(layers=[b"other"])


@pytest.fixture
def empty(docker) -> StoredImage:
    """The registry API has deleted the only digest of web/app."""
    member = docker("member")
    member.push("web/app", "v1", RELEASE)
    member.delete(f"web/app/manifests/{RELEASE.digest}", 202)
    return StoredImage.objects.get(path="demo/web/app")


def catalog(docker) -> list[str]:
    return docker("member").get("_catalog", 200).json()["repositories"]


def is_empty() -> bool:
    return StoredImage.objects.get(path="demo/web/app", deletion=None).emptied_at is not None


def test_image_becomes_empty_with_its_last_digest_not_its_last_tag(docker):
    member = docker("member")
    for tag, image in (("v1", RELEASE), ("v2", OTHER)):
        member.push("web/app", tag, image)
    member.delete("web/app/manifests/v1", 202)
    member.delete("web/app/manifests/v2", 202)
    member.delete(f"web/app/manifests/{RELEASE.digest}", 202)
    assert not is_empty()
    assert catalog(docker) == ["web/app"]
    member.delete(f"web/app/manifests/{OTHER.digest}", 202)
    assert is_empty()
    assert catalog(docker) == []


def test_empty_image_does_not_count_for_the_quota(docker, empty):
    Project.objects.update(image_limit=1)
    docker("member").push("web/branch", "latest", OTHER)
    assert catalog(docker) == ["web/branch"]
    assert "1 of 1 images" in docker("member").start("web/app", expect=403).message
    Project.objects.update(image_limit=2)
    for part in RELEASE.parts[:-1]:
        docker("member").push_blob("web/app", part)
    Project.objects.update(image_limit=1)
    refused = docker("member").push_manifest("web/app", "v1", RELEASE.manifest, expect=403)
    assert "1 of 1 images" in refused.message
    assert is_empty()


def test_push_revives_an_empty_image_with_its_settings(docker, world, empty):
    images.update(world.owner.actor, empty, description="the app")
    docker("member").push("web/app", "v1", OTHER)
    assert not is_empty()
    assert catalog(docker) == ["web/app"]
    assert StoredImage.objects.get().description == "the app"


def test_recovery_revives_an_empty_image_within_the_quota(docker, world, empty):
    (deletion,) = trash.listed(world.projects["demo"])
    Project.objects.update(image_limit=1)
    docker("member").push("web/other", "v1", OTHER)
    with pytest.raises(errors.Denied, match="1 of 1 images"):
        trash.restore(world.owner.actor, [deletion.pk])
    assert is_empty()
    assert not Manifest.objects.live().filter(image=empty).exists()
    Project.objects.update(image_limit=2)
    trash.restore(world.owner.actor, [deletion.pk])
    assert not is_empty()
    assert docker("member").tags("web/app") == ["v1"]


def test_a_policy_empties_images_too(docker, world):
    docker("member").push("web/app", "v1", RELEASE)
    old = timezone.now() - timedelta(days=90)
    policy = policies.set_policy(SYSTEM, world.repository("web"), untagged_days=7, tag_days=7, most_percent=100)
    Tag.objects.update(pushed_at=old)
    cleanup.run(policy.pk)
    Manifest.objects.update(pushed_at=old, last_pushed_at=old)
    Tag.objects.update(ended_at=old)
    assert not is_empty()
    cleanup.run(policy.pk)
    assert is_empty()


# ── Deletion ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_empty_image_is_deleted_after_the_recovery_period(docker, empty, settings):
    later.hours_pass(24 * settings.RECOVERY_DAYS - 1)
    assert tasks.purge_deletions() == 0
    assert StoredImage.objects.filter(pk=empty.pk).exists()
    later.hours_pass(1)
    assert tasks.purge_deletions() == 2  # the deletion and the image
    assert not StoredImage.objects.exists()
    last = Event.objects.order_by("-pk")[0]
    assert (last.action, last.path, last.actor) == ("deletion.purge", "demo/web/app", "system")
    docker("member").push("web/app", "v1", RELEASE)
    assert catalog(docker) == ["web/app"]


def test_empty_image_stays_while_one_of_its_deletions_is_held(world, empty, settings):
    (deletion,) = trash.listed(world.projects["demo"])
    trash.hold(world.owner.actor, deletion, on=True)
    later.hours_pass(24 * settings.RECOVERY_DAYS + 1)
    assert tasks.purge_deletions() == 0
    trash.restore(world.owner.actor, [deletion.pk])
    assert not is_empty()


def test_recovered_empty_image_stays_for_a_recovery_period(world, empty, settings):
    later.hours_pass(24 * (settings.RECOVERY_DAYS - 1))
    (deletion,) = trash.delete_images(world.owner.actor, world.repository("web"), ["app"])
    trash.restore(world.owner.actor, [deletion.pk])
    later.hours_pass(48)
    assert tasks.purge_deletions() == 1
    assert is_empty()
    assert not Deletion.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_simultaneous_push_and_sweep_lose_nothing(docker, world, settings):
    """In either order, the image exists afterwards with the pushed digest."""
    member = docker("member")
    member.push("web/app", "v1", RELEASE)
    member.push("web/other", "v1", RELEASE)
    member.delete(f"web/app/manifests/{RELEASE.digest}", 202)
    Deletion.objects.update(purge_after=timezone.now())
    trash.purge()
    StoredImage.objects.filter(name="app").update(emptied_at=timezone.now() - timedelta(days=400))
    member.push_blob("web/app", RELEASE.config)
    for layer in RELEASE.layers:
        member.push_blob("web/app", layer)

    def sweep() -> None:
        try:
            trash.sweep_images()
        finally:
            connection.close()

    thread = threading.Thread(target=sweep)
    thread.start()
    member.push_manifest("web/app", "v1", RELEASE.manifest)
    thread.join()
    assert member.tags("web/app") == ["v1"]
    assert StoredImage.objects.with_contents().filter(path="demo/web/app").count() == 1
    assert Repository.objects.live().filter(name="web").exists()
