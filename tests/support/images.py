"""Images, indexes and artifacts made from nothing but the standard library.

    Image()                                   # a config and one layer; enough for a registry
    Image(layers=[b"one", b"two"])            # bytes get the usual media types
    Image.of(Layer.of({"etc/motd": b"hi"}))   # its config describes its layers: clients can run it
    Image.random("seed"), Index.random("seed"), Artifact("application/x", Blob("text/plain", b"text"))

All objects are deterministic: layers hold random bytes drawn from a seed, times
are zero. The media types of the specification are repeated here, so that a mistake in
``registry.oci.media_types`` is noticed.
"""

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = f"{OCI_LAYER}+gzip"
OCI_LAYER_ZSTD = f"{OCI_LAYER}+zstd"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
OCTETS = "application/octet-stream"
CREATED = "2026-01-02T03:04:05Z"
MEBIBYTE = 1024 * 1024

Compression = Literal["gzip", "zstd", "none"]


def sha256(content: bytes) -> str:
    """Return the digest of bytes, as registries write it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def descriptor(content: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    """Return the descriptor of bytes, with more fields such as ``platform``."""
    return {"mediaType": media_type, "digest": sha256(content), "size": len(content), **more}


def canonical_json(document: Mapping[str, Any]) -> bytes:
    """Return a document as canonical bytes. Lone surrogates have no UTF-8 and are escaped."""
    try:
        return json.dumps(document, indent=2, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(document, indent=2).encode()


def random_bytes(seed: str, size: int) -> bytes:
    """Return incompressible bytes, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def zstd_frame(content: bytes) -> bytes:
    """Return a Zstandard frame (RFC 8878) that stores the content in raw blocks, readable by every decoder."""
    largest = 128 * 1024
    blocks = [content[start : start + largest] for start in range(0, len(content), largest)] or [b""]
    frame = [b"\x28\xb5\x2f\xfd\xa0", len(content).to_bytes(4, "little")]
    for number, block in enumerate(blocks, start=1):
        frame += [(len(block) << 3 | (number == len(blocks))).to_bytes(3, "little"), block]
    return b"".join(frame)


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """Return a tar with files by path and their folders, owned by root, from the year 1970."""
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents} - {"."}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in sorted(folders):
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(member)
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


class Blob(bytes):
    """Bytes with the media type, and perhaps annotations, of their descriptor."""

    media_type: str
    annotations: Mapping[str, str]

    def __new__(cls, media_type: str, content: bytes, annotations: Mapping[str, str] | None = None) -> Self:
        """Create a blob with the bytes ``content``."""
        made = super().__new__(cls, content)
        made.media_type, made.annotations = media_type, annotations or {}
        return made

    @cached_property
    def digest(self) -> str:
        """The digest of the bytes."""
        return sha256(self)

    def descriptor(self, **more: Any) -> dict[str, Any]:
        """Return the descriptor of the bytes, with more fields such as ``platform``."""
        if self.annotations:
            more = {"annotations": dict(self.annotations), **more}
        return descriptor(self, self.media_type, **more)


class Layer(Blob):
    """A layer of files: the compressed bytes, and ``tar``, its uncompressed content."""

    tar: bytes

    @classmethod
    def packed(cls, tar: bytes, compression: Compression = "gzip") -> Self:
        """Return a layer of this tar."""
        if compression == "gzip":
            made = cls(OCI_LAYER_GZIP, gzip.compress(tar, compresslevel=1, mtime=0))
        elif compression == "zstd":
            made = cls(OCI_LAYER_ZSTD, zstd_frame(tar))
        else:
            made = cls(OCI_LAYER, tar)
        made.tar = tar
        return made

    @classmethod
    def of(cls, files: Mapping[str, bytes], compression: Compression = "gzip") -> Self:
        """Return a layer with files by path."""
        return cls.packed(tar_of(files), compression)

    @cached_property
    def diff_id(self) -> str:
        """The digest of the tar, which the config contains."""
        return sha256(self.tar)


class Pushable:
    """An object that can be pushed. Images, indexes and artifacts define their manifest and its parts."""

    @property
    def manifest(self) -> Blob:
        """The manifest."""
        raise NotImplementedError

    @property
    def parts(self) -> tuple[Blob, ...]:
        """All blobs and manifests in an order in which they can be pushed; the manifest is last."""
        raise NotImplementedError

    @property
    def digest(self) -> str:
        """The digest of the manifest."""
        return self.manifest.digest

    @property
    def media_type(self) -> str:
        """The media type of the manifest."""
        return self.manifest.media_type


class Image(Pushable):
    """A manifest with a config and layers.

    ``more``: fields of the manifest, added or replaced. ``annotations``: those of an index entry. Bytes
    without a media type become a config or a layer of an image.
    """

    def __init__(
        self,
        config: bytes = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}',
        layers: Iterable[bytes] = (b"a layer",),
        more: Mapping[str, Any] | None = None,
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        self.config = _typed(config, OCI_CONFIG)
        self.layers = tuple(_typed(layer, OCI_LAYER_GZIP) for layer in layers)
        self.more, self.annotations = more or {}, annotations or {}

    @classmethod
    def of(cls, *layers: Layer, architecture: str = "amd64", labels: Mapping[str, str] | None = None) -> Self:
        """Return an image whose config describes these layers."""
        settings = {
            "Env": ["PATH=/usr/bin:/bin", "GREETING=hello"],
            "Entrypoint": ["/bin/program"],
            "Cmd": ["--help"],
            "WorkingDir": "/data",
            "User": "1000",
            "ExposedPorts": {"8080/tcp": {}},
            "Labels": dict(labels or {}),
        }
        history = [{"created": CREATED, "created_by": f"COPY {number}.bin /data/"} for number in range(len(layers))]
        document = {
            "created": CREATED,
            "architecture": architecture,
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [*history, {"created": CREATED, "created_by": "CMD --help", "empty_layer": True}],
        }
        title = {"org.opencontainers.image.title": "한글 이름"}
        return cls(canonical_json(document), layers, {"annotations": title})

    @classmethod
    def random(
        cls,
        seed: str,
        *,
        layers: int = 2,
        layer_size: int = 4096,
        compression: Compression = "gzip",
    ) -> Self:
        """Return an image of layers that each hold one file of random bytes."""
        made = [
            Layer.of({f"data/{number}.bin": random_bytes(f"{seed}/{number}", layer_size)}, compression)
            for number in range(layers)
        ]
        return cls.of(*made, labels={"test.kcr.seed": seed})

    @property
    def platform(self) -> dict[str, str]:
        """The platform of the config, in the form of an index entry."""
        told = json.loads(self.config)
        return {name: told[name] for name in ("architecture", "os")}

    @property
    def architecture(self) -> str:
        """The architecture of the config."""
        return self.platform["architecture"]

    @cached_property
    def manifest(self) -> Blob:
        """The OCI manifest."""
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.config.descriptor(),
            "layers": [layer.descriptor() for layer in self.layers],
            **self.more,
        }
        return Blob(OCI_MANIFEST, canonical_json(document), self.annotations)

    @property
    def parts(self) -> tuple[Blob, ...]:
        """All blobs and manifests in an order in which they can be pushed; the manifest is last."""
        return (self.config, *self.layers, self.manifest)

    def write_docker_archive(self, path: Path, *names: str) -> Path:
        """Write an archive as ``docker save`` does, for ``docker load`` and ``podman load``. Return its path."""
        config = f"{self.config.digest.removeprefix('sha256:')}.json"
        layers = [layer for layer in self.layers if isinstance(layer, Layer)]
        assert len(layers) == len(self.layers), "only layers of files can be loaded"
        parts = {layer.diff_id.removeprefix("sha256:") + "/layer.tar": layer.tar for layer in layers}
        manifest = [{"Config": config, "RepoTags": list(names), "Layers": list(parts)}]
        path.write_bytes(tar_of({config: self.config, **parts, "manifest.json": json.dumps(manifest).encode()}))
        return path


def image_of(text: str = "app", arch: str = "amd64", **config: Any) -> Image:
    """Return an image whose config has a history, labels and an environment. Its layers are not tars."""
    layers = [f"{text} {number}".encode() * 50 for number in range(2)]
    document = {
        "architecture": arch,
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Entrypoint": ["/run"], "User": "app", "Labels": {"team": text}} | config,
        "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]},
        "history": [
            {"created_by": f"COPY {text} /"},
            {"created_by": "ENV A=1", "empty_layer": True},
            {"created_by": f"RUN make {text}"},
        ],
    }
    return Image(config=canonical_json(document), layers=layers)


def _typed(content: bytes, media_type: str) -> Blob:
    return content if isinstance(content, Blob) else Blob(media_type, content)


def index_of(*entries: Mapping[str, Any], **more: Any) -> Blob:
    """Return an OCI index of these descriptors, with more fields such as ``subject``."""
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}
    return Blob(OCI_INDEX, canonical_json(document | more))


@dataclass(frozen=True)
class Index(Pushable):
    """One image for several platforms, and perhaps attestations of BuildKit."""

    images: tuple[Image, ...]

    @classmethod
    def random(cls, seed: str, *, layer_size: int = 4096) -> Self:
        """Return an index for linux/amd64 and linux/arm64 whose images share their first layer."""
        shared = Layer.of({"data/0.bin": random_bytes(f"{seed}/0", layer_size)})
        labels = {"test.kcr.seed": seed}
        return cls(
            tuple(
                Image.of(shared, Layer.of({"etc/architecture": name.encode()}), architecture=name, labels=labels)
                for name in ("amd64", "arm64")
            )
        )

    @cached_property
    def manifest(self) -> Blob:
        """The OCI index."""
        return index_of(*(image.manifest.descriptor(platform=image.platform) for image in self.images))

    @property
    def parts(self) -> tuple[Blob, ...]:
        """All blobs and manifests in an order in which they can be pushed; the index is last."""
        return (*(part for image in self.images for part in image.parts), self.manifest)


@dataclass(frozen=True)
class Artifact(Pushable):
    """An artifact, perhaps a referrer of an image (``subject``)."""

    artifact_type: str
    content: Blob
    subject: Blob | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Blob:
        """The empty config that the specification prescribes for artifacts."""
        return Blob(OCI_EMPTY, b"{}")

    @cached_property
    def manifest(self) -> Blob:
        """The OCI manifest."""
        document: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "artifactType": self.artifact_type,
            "config": self.config.descriptor(),
            "layers": [self.content.descriptor()],
            "annotations": dict(self.annotations),
        }
        if self.subject is not None:
            document["subject"] = self.subject.descriptor()
        return Blob(OCI_MANIFEST, canonical_json(document))

    @property
    def parts(self) -> tuple[Blob, ...]:
        """All blobs and manifests in an order in which they can be pushed; the manifest is last."""
        return (self.config, self.content, self.manifest)


def write_layout(folder: Path, tagged: Mapping[str, Pushable]) -> Path:
    """Write an OCI image layout with objects by tag, for ``skopeo copy oci:FOLDER:TAG``. Return the folder."""
    contents = folder / "blobs" / "sha256"
    contents.mkdir(parents=True)
    entries = []
    for tag, thing in tagged.items():
        for part in thing.parts:
            (contents / part.digest.removeprefix("sha256:")).write_bytes(part)
        entries.append(thing.manifest.descriptor(annotations={"org.opencontainers.image.ref.name": tag}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_bytes(canonical_json({"schemaVersion": 2, "manifests": entries}))
    return folder


def layout_blobs(folder: Path) -> dict[str, bytes]:
    """Return the blobs and manifests of an OCI image layout by digest, each checked against its name."""
    found = {}
    for path in (folder / "blobs" / "sha256").iterdir():
        content = path.read_bytes()
        if sha256(content) != f"sha256:{path.name}":
            raise AssertionError(f"{path} holds other bytes than its name says")
        found[f"sha256:{path.name}"] = content
    return found
