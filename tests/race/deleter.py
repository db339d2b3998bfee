"""Delete tags, manifests, images, repositories, and blobs of abandoned pushes."""

from __future__ import annotations

from typing import Any

from registry import blobs, trash
from registry.models import Image, Manifest, Tag
from registry.oci.names import ImageName
from tests.race.worker import GIVEN_UP, any_repository, me, nap, rng, run
from tests.support.images import sha256


def deed() -> int:
    """One deletion."""
    nap(0.1)
    home = any_repository()
    if home is None:
        return 0
    image = Image.objects.live().filter(repository=home).order_by("?").first()
    if image is None:
        return 0
    kind = rng.random()
    if kind < 0.05:
        trash.delete_repository(me(), home)
    elif kind < 0.1:
        blobs.drop(home, sha256(rng.choice(GIVEN_UP)))
    elif kind < 0.2 or Manifest.objects.live().filter(image=image).count() > 8:  # makes blobs unreferenced
        trash.delete_images(me(), home, [image.name])
    else:
        model: Any
        model, word = (Manifest, "digest") if kind < 0.8 else (Tag, "name")
        chosen = model.objects.live().filter(image=image).order_by("?").values_list(word, flat=True)
        wanted = list(chosen[: rng.randint(1, 4)])
        if not wanted:
            return 0
        trash.delete_references(me(), home, ImageName("demo", home.name, image.name), wanted)
    return 1


if __name__ == "__main__":
    run(deed)
