"""Container images made from nothing but the standard library, and a small client that pushes and reads them.

Everything made here is the same for the same arguments: layers hold random bytes drawn from a seed, times
are zero.
"""

import base64
import gzip
import hashlib
import http.client
import io
import json
import random
import re
import tarfile
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Self

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
MANIFEST_TYPES = (OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_LIST)
CREATED = "2026-01-02T03:04:05Z"
MEBIBYTE = 1024 * 1024
NO_HEADERS: Mapping[str, str] = {}

Compression = Literal["gzip", "zstd", "none"]


def digest_of(content: bytes) -> str:
    """The sha256 digest of bytes, as registries write it."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def canonical_json(document: Mapping[str, Any]) -> bytes:
    """A document as the bytes whose digest names it."""
    return json.dumps(document, indent=2, ensure_ascii=False).encode()


def random_bytes(seed: str, size: int) -> bytes:
    """Bytes that do not compress, the same for the same seed."""
    return random.Random(seed).randbytes(size)


def zstd_frame(content: bytes) -> bytes:
    """A Zstandard frame (RFC 8878) that stores the content in raw blocks, readable by every decoder."""
    largest = 128 * 1024
    blocks = [content[start : start + largest] for start in range(0, len(content), largest)] or [b""]
    frame = [b"\x28\xb5\x2f\xfd\xa0", len(content).to_bytes(4, "little")]
    for number, block in enumerate(blocks, start=1):
        frame += [(len(block) << 3 | (number == len(blocks))).to_bytes(3, "little"), block]
    return b"".join(frame)


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar with files by their path and the folders around them, owned by root, from the year 1970."""
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


@dataclass(frozen=True)
class Blob:
    """Bytes with the media type, and perhaps annotations, by which a manifest refers to them."""

    media_type: str
    content: bytes = field(repr=False)
    annotations: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """The name of the bytes."""
        return digest_of(self.content)

    def descriptor(self, **more: Any) -> dict[str, Any]:
        """The reference to the bytes, with more fields such as ``platform``."""
        if self.annotations:
            more = {"annotations": dict(self.annotations), **more}
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.content), **more}


@dataclass(frozen=True)
class Layer:
    """A layer of files: the tar of them and the compressed form that travels."""

    tar: bytes = field(repr=False)
    compression: Compression = "gzip"

    @classmethod
    def of(cls, files: Mapping[str, bytes], compression: Compression = "gzip") -> Self:
        """A layer with files by their path."""
        return cls(tar_of(files), compression)

    @cached_property
    def diff_id(self) -> str:
        """The digest of the tar, by which a config names the layer."""
        return digest_of(self.tar)

    @cached_property
    def blob(self) -> Blob:
        """The bytes that travel."""
        if self.compression == "gzip":
            return Blob(f"{OCI_LAYER}+gzip", gzip.compress(self.tar, compresslevel=1, mtime=0))
        if self.compression == "zstd":
            return Blob(f"{OCI_LAYER}+zstd", zstd_frame(self.tar))
        return Blob(OCI_LAYER, self.tar)


@dataclass(frozen=True)
class Image:
    """An image for one platform."""

    layers: tuple[Layer, ...]
    architecture: str = "amd64"
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def random(cls, seed: str, *, layers: int = 2, layer_size: int = 4096, compression: Compression = "gzip") -> Self:
        """An image of layers that each hold one file of random bytes."""
        made = [
            Layer.of({f"data/{number}.bin": random_bytes(f"{seed}/{number}", layer_size)}, compression)
            for number in range(layers)
        ]
        return cls(tuple(made), labels={"test.kcr.seed": seed})

    def for_architecture(self, architecture: str) -> Self:
        """The same image for another architecture, with a layer that says so."""
        told = Layer.of({"etc/architecture": architecture.encode()}, self.layers[0].compression)
        return replace(self, layers=(*self.layers, told), architecture=architecture)

    @property
    def platform(self) -> dict[str, str]:
        """The platform as an index describes it."""
        return {"architecture": self.architecture, "os": "linux"}

    @cached_property
    def config(self) -> Blob:
        """The config; its digest is what Docker and podman call the image's ID."""
        settings = {
            "Env": ["PATH=/usr/bin:/bin", "GREETING=hello"],
            "Entrypoint": ["/bin/program"],
            "Cmd": ["--help"],
            "WorkingDir": "/data",
            "User": "1000",
            "ExposedPorts": {"8080/tcp": {}},
            "Labels": dict(self.labels),
        }
        history = [
            {"created": CREATED, "created_by": f"COPY {number}.bin /data/"} for number in range(len(self.layers))
        ]
        document = {
            "created": CREATED,
            **self.platform,
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
            "history": [*history, {"created": CREATED, "created_by": "CMD --help", "empty_layer": True}],
        }
        return Blob(OCI_CONFIG, canonical_json(document))

    @cached_property
    def manifest(self) -> Blob:
        """The OCI manifest."""
        document = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self.config.descriptor(),
            "layers": [layer.blob.descriptor() for layer in self.layers],
            "annotations": {"org.opencontainers.image.title": "한글 이름"},
        }
        return Blob(OCI_MANIFEST, canonical_json(document))

    @property
    def parts(self) -> tuple[Blob, ...]:
        """Everything that travels in an order in which it can be pushed; the manifest is last."""
        return (self.config, *(layer.blob for layer in self.layers), self.manifest)

    def write_docker_archive(self, path: Path, *names: str) -> Path:
        """Write what ``docker save`` writes, for ``docker load`` and ``podman load``; the path."""
        config = f"{self.config.digest.removeprefix('sha256:')}.json"
        parts = {layer.diff_id.removeprefix("sha256:") + "/layer.tar": layer.tar for layer in self.layers}
        manifest = [{"Config": config, "RepoTags": list(names), "Layers": list(parts)}]
        path.write_bytes(tar_of({config: self.config.content, **parts, "manifest.json": json.dumps(manifest).encode()}))
        return path


@dataclass(frozen=True)
class HandMade:
    """A manifest of any config and any layers, for what only looks like an image; an index adds ``annotations``.

    ``more``: further fields of the manifest.
    """

    config: Blob
    layers: tuple[Blob, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def platform(self) -> dict[str, str]:
        """The platform as an index describes it."""
        return {"architecture": "unknown", "os": "unknown"}

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
        """Everything that travels in an order in which it can be pushed; the manifest is last."""
        return (self.config, *self.layers, self.manifest)


@dataclass(frozen=True)
class Index:
    """One image for several platforms, and perhaps what BuildKit adds about them."""

    images: tuple[Image | HandMade, ...]

    @classmethod
    def random(cls, seed: str, *, layer_size: int = 4096) -> Self:
        """An index for linux/amd64 and linux/arm64 whose images share their first layer."""
        shared = Image.random(seed, layers=1, layer_size=layer_size)
        return cls((shared.for_architecture("amd64"), shared.for_architecture("arm64")))

    @cached_property
    def manifest(self) -> Blob:
        """The OCI index."""
        entries = [image.manifest.descriptor(platform=image.platform) for image in self.images]
        return Blob(OCI_INDEX, canonical_json({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}))

    @property
    def parts(self) -> tuple[Blob, ...]:
        """Everything that travels in an order in which it can be pushed; the index is last."""
        return (*(part for image in self.images for part in image.parts), self.manifest)


@dataclass(frozen=True)
class Artifact:
    """Something that is not an image, or something that is said about one (``subject``)."""

    artifact_type: str
    content: Blob
    subject: Blob | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Blob:
        """The empty config that the specification asks of artifacts."""
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
        """Everything that travels in an order in which it can be pushed; the manifest is last."""
        return (self.config, self.content, self.manifest)


Thing = Image | Index | Artifact | HandMade


def write_layout(folder: Path, tagged: Mapping[str, Thing]) -> Path:
    """Write an OCI image layout with things by their tag, for ``skopeo copy oci:FOLDER:TAG``; the folder."""
    contents = folder / "blobs" / "sha256"
    contents.mkdir(parents=True)
    entries = []
    for tag, thing in tagged.items():
        for part in thing.parts:
            (contents / part.digest.removeprefix("sha256:")).write_bytes(part.content)
        entries.append(thing.manifest.descriptor(annotations={"org.opencontainers.image.ref.name": tag}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_bytes(canonical_json({"schemaVersion": 2, "manifests": entries}))
    return folder


def layout_blobs(folder: Path) -> dict[str, bytes]:
    """The blobs and manifests of an OCI image layout by digest, each checked against its name."""
    found = {}
    for path in (folder / "blobs" / "sha256").iterdir():
        content = path.read_bytes()
        if digest_of(content) != f"sha256:{path.name}":
            raise AssertionError(f"{path} holds other bytes than its name says")
        found[f"sha256:{path.name}"] = content
    return found


@dataclass(frozen=True)
class Response:
    """An answer of a registry."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def document(self) -> Any:
        """The JSON of the body."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The words of the first error in the body."""
        words: str = self.document()["errors"][0]["message"]
        return words


class RegistryClient:
    """A registry's API over plain HTTP, with the handshake for a token that real clients make.

    ``host`` is ``name:port``; without a name and secret the client is anonymous. Images are named as in the
    path, ``project/repository/image``.
    """

    def __init__(self, host: str, name: str | None = None, secret: str | None = None) -> None:
        self.host = host
        self.basic = base64.b64encode(f"{name}:{secret}".encode()).decode() if name is not None else None

    def exchange(
        self, method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] = NO_HEADERS
    ) -> Response:
        """One request to a full URL, as it is."""
        parts = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        try:
            target = urllib.parse.urlunsplit(("", "", parts.path, parts.query, ""))
            connection.request(method, target, body, dict(headers))
            answer = connection.getresponse()
            return Response(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = NO_HEADERS
    ) -> Response:
        """One request; after a challenge a token is fetched and the request repeated."""
        url = urllib.parse.urljoin(f"http://{self.host}/", path)
        first = self.exchange(method, url, body, headers)
        challenge = first.headers.get("WWW-Authenticate", "")
        if first.status != http.client.UNAUTHORIZED or not challenge.startswith("Bearer "):
            return first
        told = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        return self.exchange(method, url, body, {**headers, "Authorization": f"Bearer {self.token(told)}"})

    def token(self, challenge: Mapping[str, str]) -> str:
        """The token for what a challenge asks."""
        asked = {name: challenge[name] for name in ("service", "scope") if name in challenge}
        headers = {"Authorization": f"Basic {self.basic}"} if self.basic is not None else {}
        url = f"{challenge['realm']}?{urllib.parse.urlencode(asked)}"
        answer = self.exchange("GET", url, headers=headers)
        if answer.status != http.client.OK:
            raise AssertionError(f"no token: {answer.status} {answer.body!r}")
        token: str = answer.document()["token"]
        return token

    def push_blob(self, name: str, blob: Blob) -> None:
        """Push bytes unless they are there."""
        if self.request("HEAD", f"/v2/{name}/blobs/{blob.digest}").status == http.client.OK:
            return
        opened = self.expect(http.client.ACCEPTED, "POST", f"/v2/{name}/blobs/uploads/")
        location = opened.headers["Location"]
        separator = "&" if "?" in location else "?"
        target = f"{location}{separator}digest={urllib.parse.quote(blob.digest)}"
        headers = {"Content-Type": "application/octet-stream"}
        self.expect(http.client.CREATED, "PUT", target, blob.content, headers)

    def push_manifest(self, name: str, manifest: Blob, reference: str | None = None) -> Response:
        """Push a manifest under a tag, or by digest without one; the answer."""
        path = f"/v2/{name}/manifests/{reference or manifest.digest}"
        headers = {"Content-Type": manifest.media_type}
        return self.expect(http.client.CREATED, "PUT", path, manifest.content, headers)

    def push(self, name: str, thing: Thing, tag: str | None = None) -> Response:
        """Push a thing, under a tag or by digest without one; the answer to its manifest."""
        for part in thing.parts[:-1]:
            if part.media_type in MANIFEST_TYPES:
                self.push_manifest(name, part)
            else:
                self.push_blob(name, part)
        return self.push_manifest(name, thing.manifest, tag)

    def manifest(self, name: str, reference: str) -> Response:
        """The answer to a request for a manifest."""
        headers = {"Accept": ", ".join(MANIFEST_TYPES)}
        return self.request("GET", f"/v2/{name}/manifests/{reference}", headers=headers)

    def referrers(self, name: str, digest: str, artifact_type: str | None = None) -> Response:
        """The answer to the question what refers to a digest."""
        query = f"?{urllib.parse.urlencode({'artifactType': artifact_type})}" if artifact_type else ""
        return self.request("GET", f"/v2/{name}/referrers/{digest}{query}")

    def expect(
        self,
        status: int,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> Response:
        """One request that has to be answered with a status; AssertionError with the answer otherwise."""
        answer = self.request(method, path, body, headers)
        if answer.status != status:
            raise AssertionError(
                f"{method} {path}: {answer.status} instead of {status}\n{answer.headers}\n{answer.body!r}"
            )
        return answer
