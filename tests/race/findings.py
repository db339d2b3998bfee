"""``python -m tests.race.findings``: print the problems of the installation as a JSON list."""

from __future__ import annotations

import json

from django.db import connection

from registry import storage_check
from registry.models import Blob, Image, Manifest, ManifestBlob, ManifestChild, Tag
from registry.oci import documents


def findings() -> list[str]:
    """Return the violated invariants. The rows are read in one snapshot; verify() allows for other processes."""
    verified = storage_check.verify(full=True)
    found = [f"{each.kind} {each.digest or each.key}" for each in verified if isinstance(each, storage_check.Problem)]
    with connection.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ" if connection.vendor == "postgresql" else "BEGIN")
        try:
            return found + _rows()
        finally:
            cursor.execute("ROLLBACK")


def _rows() -> list[str]:
    held: dict[int, set[str]] = {}
    children: dict[int, set[str]] = {}
    for pk, digest in ManifestBlob.objects.values_list("manifest", "blob__digest"):
        held.setdefault(pk, set()).add(digest)
    for pk, digest in ManifestChild.objects.values_list("parent", "child__digest"):
        children.setdefault(pk, set()).add(digest)
    found = []
    for manifest in Manifest.objects.all():
        document = documents.parse(bytes(manifest.content), manifest.media_type)
        if {part.digest for part in document.blobs} != held.get(manifest.pk, set()):
            found.append(f"{manifest.digest} has lost a reference")
        if {part.digest for part in document.children} != children.get(manifest.pk, set()):
            found.append(f"{manifest.digest} has lost a child")
    live_tags, live_images = Tag.objects.live(), Image.objects.live()
    found += [f"a live tag of a deleted manifest: {tag}" for tag in live_tags.exclude(manifest__deletion=None)]
    found += [f"live in a deleted image: {each}" for each in Manifest.objects.live().exclude(image__deletion=None)]
    found += [f"live in a deleted repository: {each}" for each in live_images.exclude(repository__deletion=None)]
    broken = ManifestChild.objects.filter(parent__deletion=None).exclude(child__deletion=None)
    found += [f"a live index without its child: {each}" for each in broken]
    lost = Blob.objects.filter(references=None, leases=None, reviews=None)
    return found + [f"no reference, lease or review names the blob {blob}" for blob in lost]


if __name__ == "__main__":
    print(json.dumps(findings()))
