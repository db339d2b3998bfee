"""Pull images by tag. The bytes of a live manifest's layers are there, and are right."""

from __future__ import annotations

from registry import blobs, errors, manifests
from registry.models import Manifest, Tag
from registry.oci import documents
from registry.oci.names import ImageName
from tests.race.worker import me, nap, run, wrong
from tests.support.images import sha256


def deed() -> int:
    """Pull one image with all its blobs."""
    tag = Tag.objects.live().select_related("image").order_by("?").first()
    if tag is None:
        nap(0.1)
        return 0
    name = ImageName(*tag.image.path.split("/", 2))
    found = manifests.permitted_manifest(me(), name, tag.name)
    for part in documents.parse(bytes(found.content), found.media_type).blobs:
        # The image may be deleted and recovered between two requests, but hardly between all of these.
        problems = [problem_of(name, found, part.digest) for _ in range(3)]
        if all(problems):
            wrong(f"a layer of a live manifest: {problems[-1]}")
    nap(0.1)
    return 1


def problem_of(name: ImageName, manifest: manifests.PulledManifest, digest: str) -> str:
    """Return the problem of a blob of the manifest; empty without one, or if the manifest was deleted in the meantime."""
    try:
        with blobs.open_bytes(blobs.permitted_blob(me(), name, digest)) as file:
            return "" if sha256(file.read()) == digest else f"other bytes than those of {digest}"
    except errors.RegistryError as error:
        is_live = Manifest.objects.live().filter(image=manifest.image_id, digest=manifest.digest).exists()
        return str(error) if is_live else ""


if __name__ == "__main__":
    run(deed)
