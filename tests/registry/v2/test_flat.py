"""A request of a client costs the same with thousands of images that have its tag, digest and blobs.

The database has no statistics. The plans of PostgreSQL are those of the small registry, then new ones. There only pulls are
flat in all cases.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from django.db import connection

from registry.models import Image as StoredImage
from registry.models import Manifest, ManifestBlob, Repository, Tag
from tests.support.database import Work
from tests.support.images import Image, sha256

if TYPE_CHECKING:
    from accounts.models import Project

pytestmark = pytest.mark.django_db

CROWD = 10_000
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
MORE = 0 if connection.vendor == "sqlite" else 100  # units of work that do not count as growth
GENERIC = 6  # runs, after which PostgreSQL has a plan for all values


def crowd_around(manifest: Manifest, other_project: Project) -> None:
    """More images with the same tags, the same digest and the same blobs: in its repository, and each in its own."""
    home = manifest.image.repository
    blobs = list(manifest.blob_references.values_list("blob_id", flat=True))
    homes = Repository.objects.bulk_create(
        Repository(project=other_project, name=f"crowd-{number}") for number in range(CROWD // 2)
    )
    images = StoredImage.objects.bulk_create(
        StoredImage(repository=each, name=f"crowd{number}", path=f"{each}/crowd{number}")
        for number, each in enumerate([*homes, *[home] * (CROWD // 2)])
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
        ManifestBlob(manifest=each, blob_id=blob, repository_id=each.image.repository_id)
        for each in manifests
        for blob in blobs
    )


@pytest.mark.parametrize("person", ["member", "viewer"])
def test_pulls_and_pushes_cost_the_same_in_a_crowd(docker, world, person):
    client, pusher, image = docker(person), docker("member"), Image()
    newer = Image(layers=(b"a layer", b"another"))

    def measure(name: str) -> dict[str, int]:
        pusher.push(name, "latest", image)
        digest, found = sha256(image.manifest), {}
        pushed = StoredImage.objects.get(path=f"demo/{name}")
        Tag.objects.filter(image=pushed.pk).update(started_at=LONG_AGO)
        paths = {
            "tag": f"{name}/manifests/latest",
            "tag as of a day": f"{name}/manifests/latest--at-20260201t0000z",
            "digest": f"{name}/manifests/{digest}",
            "blob": f"{name}/blobs/{image.layers[0].digest}",
            "tags": f"{name}/tags/list?n=10",
            "referrers": f"{name}/referrers/{digest}",
        }
        asked = {what: (lambda path=path: client.get(path, 200)) for what, path in paths.items()}
        asked["HEAD of the tag"] = lambda: client.head(paths["tag"], 200)
        asked["HEAD of the blob"] = lambda: client.head(paths["blob"], 200)
        asked["token"] = lambda: client.token(f"repository:{name}:pull,push")
        if connection.vendor == "sqlite":
            asked["HEAD of the blob before a push"] = lambda: pusher.head(paths["blob"], 200)
            asked["push"] = lambda: pusher.push(name, "latest", image)
        for what, ask in asked.items():
            for _ in range(GENERIC):  # now it has a token, and the statements are written and planned
                ask()
            with Work() as work:
                ask()
            found[what] = work.done
        with Work() as work:
            pusher.push(name, "latest", newer)
        return found | ({"push of another image": work.done} if connection.vendor == "sqlite" else {})

    alone = measure("web/first")
    crowd_around(Manifest.objects.get(digest=sha256(image.manifest)), world.projects["lab"])

    def grown() -> dict[str, tuple[int, int]]:
        crowded = measure("web/last")  # the last of all that an index finds
        return {what: (alone[what], done) for what, done in crowded.items() if done > 1.5 * alone[what] + MORE}

    assert grown() == {}
    if connection.vendor == "postgresql":
        for statement in ("DISCARD PLANS", "ANALYZE"):
            with connection.cursor() as cursor:
                cursor.execute(statement)
            assert grown() == {}, f"after {statement}"
