"""Decide whether a client could run a manifest. The scanner and pull policies use the same answer.

Clients ignore most fields of a manifest: podman runs an image with an ``artifactType`` and layers of any media type.
So this module reads the config and the bytes of the layers. In doubt, a manifest counts as an image.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from registry import blobs, errors
from registry.models import Blob
from registry.oci import configs, documents, media_types

if TYPE_CHECKING:
    from collections.abc import Mapping

    from registry.models import Manifest

TAR_BLOCK = 512
_CHECKSUM = slice(148, 156)
_OCTAL = re.compile(rb"[0-7]+")


def is_image(manifest: Manifest) -> bool:
    """Return True if a client could run this manifest (not an index).

    True: the config is an image config by media type or content, or its type is unknown and a layer has an image layer
    type. False: every layer is a JSON statement, as in attestations of BuildKit and signatures of cosign, which also
    have image configs. Missing bytes count as an image. One query; reads the config if its type is unknown, and the
    first block of each layer.
    """
    document = documents.parse(bytes(manifest.content), manifest.media_type)
    if document.config is None:
        return False
    held = {blob.digest: blob for blob in Blob.objects.filter(references__manifest=manifest)}
    if not _is_image_config(document, document.config, held):
        return False
    return not document.layers or not all(_is_statement(held.get(layer.digest)) for layer in document.layers)


def _is_image_config(document: documents.Document, config: documents.Descriptor, held: Mapping[str, Blob]) -> bool:
    if configs.is_image_type(config.media_type):
        return True
    content = _begin(held.get(config.digest), configs.MAX_BYTES)
    if content is None:
        return True
    if content.strip() == b"{}":  # the empty descriptor of artifacts (image-spec, manifest.md)
        return False
    return configs.has_file_system(content) or any(media_types.is_layer(layer.media_type) for layer in document.layers)


def _is_statement(blob: Blob | None) -> bool:
    """Whether a layer is a JSON object and cannot be unpacked: it is not compressed, and no tar archive."""
    head = _begin(blob, TAR_BLOCK)
    return head is not None and head.startswith(b"{") and not _is_tar(head)


def _is_tar(head: bytes) -> bool:
    """Whether this block is a tar header with a correct checksum."""
    written = head[_CHECKSUM].strip(b" \0").partition(b"\0")[0]
    if len(head) < TAR_BLOCK or not _OCTAL.fullmatch(written):
        return False
    others = head[: _CHECKSUM.start] + b" " * 8 + head[_CHECKSUM.stop :]
    signed = sum(byte - 256 if byte > 127 else byte for byte in others)
    return int(written, 8) in {sum(others), signed}


def _begin(blob: Blob | None, most: int) -> bytes | None:
    """Return the first ``most`` bytes of a blob; None if the blob or its bytes are missing."""
    if blob is None:
        return None
    try:
        with blobs.open_bytes(blob) as file:
            return bytes(file.read(most))
    except errors.BlobUnknown:
        return None
