"""Write an image as an OCI layout for the scanner (image-spec 1.1, image-layout.md)."""

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
LAYER = "application/vnd.oci.image.layer.v1.tar"  # readers detect compression from the bytes


class Elsewhere(Exception):
    """The image has layers that are stored elsewhere, so it cannot be scanned."""


def write(manifest: Manifest, folder: Path, *, copied: bool = False) -> None:
    """Write the layout of one image into an empty folder.

    Manifest and config are generated, so the scanner sees every layer in order and cannot be misled by media types,
    ``artifactType`` or wrong diff_ids of the image. Layers are hard links where possible, so the scanner must not write
    to them; with ``copied`` they are copies, for a scanner that runs as another user. Raises Elsewhere, and BlobUnknown
    when bytes are missing or short.
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
    """Return a config with os, architecture and rootfs only; the original bytes if it is not a JSON object."""
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
    """Whether each layer has a diff_id, and only equal layers share one."""
    if len(diff_ids) != len(layers) or not all(_DIFF_ID.fullmatch(diff_id) for diff_id in diff_ids):
        return False
    return len(set(diff_ids)) == len(set(zip(diff_ids, layers, strict=True)))


def _written(folder: Path, media_type: str, content: bytes) -> dict[str, Any]:
    """Write a document into the layout. Return its descriptor."""
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
