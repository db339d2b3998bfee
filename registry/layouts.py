"""An image as a folder that the scanner reads: an OCI layout (image-spec 1.1, image-layout.md)."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from registry import blobs
from registry.models import Blob
from registry.oci import configs, digests, documents, media_types

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from registry.models import Manifest

_DIFF_ID = re.compile(r"sha256:[0-9a-f]{64}")
LAYER = "application/vnd.oci.image.layer.v1.tar"  # whether it is compressed is seen by its bytes


class Elsewhere(Exception):
    """Layers of the image are not kept here, so it cannot be looked at."""


def write(manifest: Manifest, folder: Path, *, copied: bool = False) -> None:
    """Write the layout of one image into an empty folder.

    Manifest and configuration are our own, so that a reader sees each layer, in its order, and nothing of what the
    image says of itself: its types, its ``artifactType``, and diff_ids that name another layer. Bytes that are files on
    the same file system are hard links, and who reads the folder must not write to it; with ``copied`` they are copies,
    for a reader who is another user. Raises Elsewhere, and BlobUnknown when bytes are lost or short.
    """
    document = documents.parse(bytes(manifest.content), manifest.media_type)
    held = {blob.digest: blob for blob in Blob.objects.filter(references__manifest=manifest)}
    if any(layer.digest not in held for layer in document.layers):
        raise Elsewhere
    for layer in {layer.digest for layer in document.layers}:
        blobs.place(held[layer], _file(folder, layer), copied=copied)
    layers = [{"mediaType": LAYER, "digest": layer.digest, "size": layer.size} for layer in document.layers]
    config = _written(folder, media_types.OCI_CONFIG, _config(document, held))
    image = {"schemaVersion": 2, "mediaType": media_types.OCI_MANIFEST, "config": config, "layers": layers}
    entry = _written(folder, media_types.OCI_MANIFEST, json.dumps(image).encode())
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def _config(document: documents.Document, held: dict[str, Blob]) -> bytes:
    """The configuration, cut to what tells one layer from another; unchanged when it is not JSON."""
    assert document.config is not None  # it is an image
    with blobs.open_bytes(held[document.config.digest]) as file:
        content = bytes(file.read(configs.MAX_BYTES))
    said = configs.read_file_system(content)
    if said is None:
        return content
    layers = [layer.digest for layer in document.layers]
    diff_ids = said.diff_ids if _tell_apart(said.diff_ids, layers) else layers
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    return json.dumps({"os": said.system, "architecture": said.architecture, "rootfs": rootfs}).encode()


def _tell_apart(diff_ids: Sequence[str], layers: Sequence[str]) -> bool:
    """Whether there is one diff_id for each layer, and two layers share one only when they are the same."""
    if len(diff_ids) != len(layers) or not all(_DIFF_ID.fullmatch(diff_id) for diff_id in diff_ids):
        return False
    return len(set(diff_ids)) == len(set(zip(diff_ids, layers, strict=True)))


def _written(folder: Path, media_type: str, content: bytes) -> dict[str, Any]:
    """Write a document into the layout; its descriptor."""
    digest = str(digests.of(content, digests.DEFAULT_ALGORITHM))
    path = _file(folder, digest)
    path.unlink(missing_ok=True)  # a layer with the same bytes, linked
    path.write_bytes(content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _file(folder: Path, digest: str) -> Path:
    parsed = digests.parse(digest)
    path = folder / "blobs" / parsed.algorithm / parsed.encoded
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
