"""Push images, indexes and referrers of digests that other workers push and delete too. A push inside its lease must succeed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from accounts.actors import SYSTEM
from accounts.models import Project
from registry import blobs, errors, manifests, repositories, uploads
from registry.models import Repository
from registry.oci.names import ImageName
from tests.race.worker import CONFIGS, CONTENTS, GIVEN_UP, LEASE, any_repository, me, nap, rng, run, wrong
from tests.race.world import REPOSITORIES
from tests.support.images import OCI_INDEX, Blob, Image, descriptor, sha256

if TYPE_CHECKING:
    from collections.abc import Mapping


def ensure_blob(home: Repository, name: ImageName, data: bytes) -> None:
    """Make a blob available as a client does: by HEAD, a mount or an upload."""
    kind = rng.random()
    if kind < 0.5:
        try:
            blobs.permitted_blob_to_push(me(), name, sha256(data))
        except errors.BlobUnknown:
            pass
        else:
            return
    elif kind < 0.6:
        other = ImageName("demo", "two" if home.name == "one" else "one", "a")
        if blobs.mount(me(), home, other, sha256(data)):
            return
    uploads.push(me(), home, name.image, sha256(data), uploads.Piece(iter([data])))


def push_manifest(home: Repository, name: ImageName, reference: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Push a manifest. Return its descriptor."""
    content, kind = json.dumps(document).encode(), str(document["mediaType"])
    manifests.push(me(), home, name, reference, content, content_type=kind)
    return descriptor(content, kind)


def deed() -> int:
    """Push one image, sometimes with an index or a referrer. Return 0 if the push was abandoned or refused."""
    home = any_repository()
    if home is None:
        repositories.create(SYSTEM, Project.objects.get(), rng.choice(REPOSITORIES))
        return 0
    name = ImageName("demo", home.name, rng.choice(["a", "b"]))
    image = Image(rng.choice(CONFIGS), [Blob("application/x", layer) for layer in rng.sample(CONTENTS, 2)])
    began = time.monotonic()
    for part in (image.config, *image.layers):
        ensure_blob(home, name, part)
    if rng.random() < 0.4:  # the pushed blobs become free when the lease ends or another process deletes them
        ensure_blob(home, name, rng.choice(GIVEN_UP))
        return 0
    nap(0.02)
    document = json.loads(image.manifest)
    try:
        pushed = push_manifest(home, name, rng.choice(["t1", "t2", "t3"]), document)
    except errors.ManifestBlobUnknown as error:
        # A HEAD guarantees half of a lease. Only its end, or a deleted repository, can explain missing blobs.
        if time.monotonic() - began < LEASE / 2 and Repository.objects.live().filter(pk=home.pk).exists():
            wrong(f"a push inside its lease was told that its blobs are unknown: {error.detail}")
        return 0
    more = rng.random()
    if more < 0.2:
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [pushed]}
        push_manifest(home, name, rng.choice(["i1", "i2"]), index)
    elif more < 0.3:
        referrer = document | {"subject": pushed, "artifactType": "application/x"}
        push_manifest(home, name, sha256(json.dumps(referrer).encode()), referrer)
    return 1


if __name__ == "__main__":
    run(deed)
