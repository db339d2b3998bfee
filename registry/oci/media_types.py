"""The media types that decide how a document is read (image-spec, media-types.md; Docker image manifest v2.2)."""

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
ACCEPTED = MANIFESTS | INDEXES

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
BLOB = "application/octet-stream"

# What the type of an image's layer begins with: a tar archive, perhaps compressed or encrypted, here or elsewhere.
_LAYERS = (
    "application/vnd.oci.image.layer.",
    "application/vnd.docker.image.rootfs.diff.",
    "application/vnd.docker.image.rootfs.foreign.diff.",
)

# Layers that live elsewhere by their own declaration: never required here, never fetched by us.
_FOREIGN_MARKS = (".foreign.", ".nondistributable.")


def is_foreign(media_type: str) -> bool:
    """Whether a layer of this type is kept somewhere else (image-spec, layer.md, "Non-Distributable Layers")."""
    return any(mark in media_type for mark in _FOREIGN_MARKS)


def is_layer(media_type: str) -> bool:
    """Whether this is the type of an image's layer, which clients unpack. Case, space and parameters do not matter."""
    return without_parameters(media_type).startswith(_LAYERS)


def without_parameters(content_type: str) -> str:
    """``type/subtype`` of a Content-Type header, without ``; charset=…``, in lower case."""
    return content_type.partition(";")[0].strip().lower()
