"""Contents of a manifest for the console: layers with their commands, config, parts of an index, referrers."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.utils.text import Truncator

from registry import blobs
from registry.models import Manifest
from registry.oci import configs, documents, media_types
from registry.oci.configs import Config, Some

MAX_REFERRERS = 100
NONE: Some[tuple[str, str]] = Some()
COMMANDS_WEIGHT = 60_000  # bytes of all layer commands on a page; longer ones are truncated


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: ``size`` in bytes as it is transferred; ``created_by`` as its builder wrote it, cut, perhaps ""."""

    digest: str
    media_type: str
    size: int
    created_by: str


@dataclass(frozen=True, slots=True)
class Part:
    """An entry of an index. ``manifest`` is None if the entry is deleted.

    ``is_attestation``: BuildKit marks entries that describe a platform (provenance, SBOM) and are none.
    """

    digest: str
    media_type: str
    platform: str
    artifact_type: str
    is_attestation: bool
    manifest: Manifest | None


@dataclass(frozen=True, slots=True)
class Contents:
    """An index has ``parts``; all other manifests have ``layers``.

    ``has_config``: the config has an image type and its bytes are stored. ``annotations``: the first of the document.
    """

    document: documents.Document
    layers: list[Layer] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    config: Config = field(default_factory=Config)
    has_config: bool = False
    referrers: list[Manifest] = field(default_factory=list)
    annotations: Some[tuple[str, str]] = NONE

    @property
    def platforms(self) -> list[Part]:
        """The parts that clients choose from."""
        return [part for part in self.parts if not part.is_attestation]

    @property
    def attestations(self) -> list[Part]:
        """The parts that describe platforms."""
        return [part for part in self.parts if part.is_attestation]


def contents(manifest: Manifest) -> Contents:
    """Return the contents of a live manifest. At most four queries, and reads at most the config blob."""
    document = documents.parse(bytes(manifest.content), manifest.media_type)
    referrers = list(Manifest.objects.referring_to(manifest.image, manifest.digest).defer("content")[:MAX_REFERRERS])
    if manifest.media_type in media_types.INDEXES:
        parts = _parts(manifest, document)
        return Contents(document, parts=parts, referrers=referrers, annotations=configs.pairs(document.annotations))
    content = None
    if document.config and configs.is_image_type(document.config.media_type):
        content = blobs.read(manifest.image.repository, document.config.digest, configs.MAX_BYTES)
    config = configs.parse(content) if content is not None else Config()
    return Contents(
        document,
        layers=_layers(document, config),
        config=config,
        has_config=content is not None,
        referrers=referrers,
        annotations=configs.pairs(document.annotations),
    )


def _layers(document: documents.Document, config: Config) -> list[Layer]:
    commands = [step.created_by or step.comment for step in config.history if step.made_layer]
    if len(commands) != len(document.layers):  # the history does not match the layers: show no commands
        commands = [""] * len(document.layers)
    if configs.weight(*commands) > COMMANDS_WEIGHT:
        longest = max(50, COMMANDS_WEIGHT // 6 // len(commands))
        commands = [Truncator(command).chars(longest) for command in commands]
    return [
        Layer(layer.digest, layer.media_type, layer.size, command)
        for layer, command in zip(document.layers, commands, strict=True)
    ]


def _parts(manifest: Manifest, document: documents.Document) -> list[Part]:
    digests = [entry.digest for entry in document.manifests]
    here = Manifest.objects.live().filter(image=manifest.image, digest__in=digests).defer("content")
    known = {child.digest: child for child in here}
    return [
        Part(
            entry.digest,
            entry.media_type,
            configs.platform(entry.platform),
            entry.artifact_type or entry.annotations.get(documents.REFERENCE_TYPE, ""),
            documents.REFERENCE_TYPE in entry.annotations,
            known.get(entry.digest),
        )
        for entry in document.manifests
    ]
