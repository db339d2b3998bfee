"""A manifest with its blobs as an OCI layout: a folder that other programs read (image-spec 1.1, image-layout.md)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from registry import blobs
from registry.models import Blob
from registry.oci import digests

if TYPE_CHECKING:
    from pathlib import Path

    from registry.models import Manifest


def write(manifest: Manifest, folder: Path) -> None:
    """Write the layout of one manifest, not an index, into an empty folder.

    Where bytes are files on the same file system they are hard links, not copies: whoever reads the folder must not
    write to it. Raises BlobUnknown when bytes are lost or short.
    """
    for blob in Blob.objects.filter(references__manifest=manifest):
        blobs.place(blob, _file(folder, blob.digest))
    content = bytes(manifest.content)
    _file(folder, manifest.digest).write_bytes(content)
    entry = {"mediaType": manifest.media_type, "digest": manifest.digest, "size": len(content)}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _file(folder: Path, digest: str) -> Path:
    parsed = digests.parse(digest)
    path = folder / "blobs" / parsed.algorithm / parsed.encoded
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
