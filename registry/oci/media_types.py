"""Media types of manifests, indexes, configs and layers (image-spec, media-types.md; Docker image manifest v2.2)."""

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"

MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
INDEXES = frozenset({OCI_INDEX, DOCKER_LIST})
ACCEPTED = MANIFESTS | INDEXES

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
BLOB = "application/octet-stream"

# Prefixes of the media types of layers: tar archives, compressed, encrypted or non-distributable.
_LAYERS = (
    "application/vnd.oci.image.layer.",
    "application/vnd.docker.image.rootfs.diff.",
    "application/vnd.docker.image.rootfs.foreign.diff.",
)

# Non-distributable layers: not required on push, and never fetched.
_FOREIGN_MARKS = (".foreign.", ".nondistributable.")


def is_foreign(media_type: str) -> bool:
    """Whether layers of this type are stored elsewhere (image-spec, layer.md, "Non-Distributable Layers")."""
    return any(mark in media_type for mark in _FOREIGN_MARKS)


def is_layer(media_type: str) -> bool:
    """Whether this is the media type of an image layer. Ignores case, space and parameters."""
    return without_parameters(media_type).startswith(_LAYERS)


def without_parameters(content_type: str) -> str:
    """``type/subtype`` of a Content-Type header, without ``; charset=…``, in lower case."""
    return content_type.partition(";")[0].strip().lower()
