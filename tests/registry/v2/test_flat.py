"""A request of a client costs the same with thousands of images that have its tag, digest and blobs."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from django.db import connection

from registry.models import Image as StoredImage
from registry.models import Manifest, ManifestBlob, Tag
from tests.support.images import Image, sha256

if TYPE_CHECKING:
    from collections.abc import Iterator

    from registry.models import Repository

pytestmark = [pytest.mark.sqlite_only, pytest.mark.django_db]

CROWD = 3_000
STEP = 20
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


@contextmanager
def counted_steps() -> Iterator[list[int]]:
    """Count the steps of SQLite's virtual machine, in units of STEP. Time is not the same on every machine."""
    steps = [0]

    def step() -> None:
        steps[0] += 1

    connection.ensure_connection()
    connection.connection.set_progress_handler(step, STEP)
    yield steps
    connection.connection.set_progress_handler(None, STEP)


def crowd_around(manifest: Manifest, other_repository: Repository) -> None:
    """More images with the same tags, the same digest and the same blobs, in its repository and in another one."""
    blobs = list(manifest.blob_references.values_list("blob_id", flat=True))
    for repository in (manifest.image.repository, other_repository):
        images = StoredImage.objects.bulk_create(
            StoredImage(repository=repository, name=f"crowd{number}", path=f"{repository}/crowd{number}")
            for number in range(CROWD // 2)
        )
        fields = ("digest", "media_type", "content", "platforms", "size", "total_size")
        same = {name: getattr(manifest, name) for name in fields}
        manifests = Manifest.objects.bulk_create(Manifest(image=image, **same) for image in images)
        Tag.objects.bulk_create(
            Tag(image=each.image, name=name, manifest=each, started_at=LONG_AGO)
            for each in manifests
            for name in ("latest", "1.0")
        )
        ManifestBlob.objects.bulk_create(
            ManifestBlob(manifest=each, blob_id=blob, repository=repository) for each in manifests for blob in blobs
        )


@pytest.mark.parametrize("person", ["member", "viewer"])
def test_pulls_and_pushes_cost_the_same_in_a_crowd(docker, world, person):
    client, pusher, image = docker(person), docker("member"), Image()
    newer = Image(layers=(b"a layer", b"another"))

    def measure(name: str) -> dict[str, int]:
        pusher.push(name, "latest", image)
        digest, found = sha256(image.manifest), {}
        Tag.objects.filter(image__path=f"demo/{name}").update(started_at=LONG_AGO)
        for what, path in {
            "tag": f"{name}/manifests/latest",
            "tag as of a day": f"{name}/manifests/latest--at-20260201t0000z",
            "digest": f"{name}/manifests/{digest}",
            "blob": f"{name}/blobs/{image.layers[0].digest}",
            "tags": f"{name}/tags/list?n=10",
            "referrers": f"{name}/referrers/{digest}",
        }.items():
            client.get(path, 200)  # now it has a token, and the statements are written
            with counted_steps() as steps:
                client.get(path, 200)
            found[what] = steps[0]
        with counted_steps() as steps:
            pusher.push(name, "latest", newer)
        found["push"] = steps[0]
        return found

    alone = measure("web/first")
    crowd_around(Manifest.objects.get(digest=sha256(image.manifest)), world.repository("public"))
    crowded = measure("web/last")  # the last of all that an index finds

    assert {what: steps for what, steps in crowded.items() if steps > 1.5 * alone[what]} == {}, (alone, crowded)
