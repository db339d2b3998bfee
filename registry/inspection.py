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
OF = "vnd.docker.reference.digest"  # BuildKit's annotation: the manifest that an attestation is about
PREDICATE = "in-toto.io/predicate-type"  # the annotation of a layer with a statement
MAX_ATTESTATIONS = 16  # of an index
MAX_STATEMENT = 256 * 1024  # bytes of an attestation that is read
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
    """An entry of an index. ``manifest`` is None if the entry is deleted."""

    digest: str
    media_type: str
    platform: str
    artifact_type: str
    manifest: Manifest | None


@dataclass(frozen=True, slots=True)
class Attestation:
    """A statement in an index about one of its manifests. ``about``: its platform, or its digest if that is unknown.

    ``predicate_type`` and ``builder``: see ``configs.Statement``; ``digest``: of the manifest with the statement.
    """

    predicate_type: str
    builder: str
    about: str
    digest: str


@dataclass(frozen=True, slots=True)
class Contents:
    """An index has ``parts`` and ``attestations``; all other manifests have ``layers``, and a Helm chart ``chart``.

    ``has_config``: the config has an image type and its bytes are stored. ``annotations``: the first of the document.
    """

    document: documents.Document
    layers: list[Layer] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    attestations: list[Attestation] = field(default_factory=list)
    chart: configs.Chart | None = None
    config: Config = field(default_factory=Config)
    has_config: bool = False
    referrers: list[Manifest] = field(default_factory=list)
    annotations: Some[tuple[str, str]] = NONE


def contents(manifest: Manifest) -> Contents:
    """Return the contents of a live manifest.

    At most four queries, and reads at most the config blob; a query more and reads for each attestation of an index.
    """
    document = documents.parse(bytes(manifest.content), manifest.media_type)
    referrers = list(Manifest.objects.referring_to(manifest.image, manifest.digest).defer("content")[:MAX_REFERRERS])
    if manifest.media_type in media_types.INDEXES:
        parts, attestations = _parts(manifest, document)
        return Contents(
            document,
            parts=parts,
            attestations=attestations,
            referrers=referrers,
            annotations=configs.pairs(document.annotations),
        )
    content = chart = None
    if document.config and document.config.media_type == media_types.HELM_CONFIG:
        described = blobs.read(manifest.image.repository, document.config.digest, configs.MAX_BYTES)
        chart = configs.read_chart(described) if described is not None else None
    if document.config and configs.is_image_type(document.config.media_type):
        content = blobs.read(manifest.image.repository, document.config.digest, configs.MAX_BYTES)
    config = configs.parse(content) if content is not None else Config()
    return Contents(
        document,
        layers=_layers(document, config),
        chart=chart,
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


def _parts(manifest: Manifest, document: documents.Document) -> tuple[list[Part], list[Attestation]]:
    digests = [entry.digest for entry in document.manifests]
    here = Manifest.objects.live().filter(image=manifest.image, digest__in=digests).defer("content")
    known = {child.digest: child for child in here}
    platforms = {entry.digest: configs.platform(entry.platform) for entry in document.manifests}
    parts = [
        Part(entry.digest, entry.media_type, platforms[entry.digest], entry.artifact_type, known.get(entry.digest))
        for entry in document.manifests
        if documents.REFERENCE_TYPE not in entry.annotations
    ]
    attested = [
        entry for entry in document.manifests if documents.REFERENCE_TYPE in entry.annotations and entry.digest in known
    ]
    attestations = [
        Attestation(said.predicate_type, said.builder, platforms.get(about, "") or about, entry.digest)
        for entry in attested[:MAX_ATTESTATIONS]
        for about in [entry.annotations.get(OF, "")]
        for said in _statements(manifest, known[entry.digest])
    ]
    return parts, attestations


def _statements(index: Manifest, manifest: Manifest) -> list[configs.Statement]:
    """What the layers of an attestation say. Those that are too large to be read say their predicate's type at most."""
    found = []
    for layer in documents.parse(bytes(manifest.content), manifest.media_type).layers[:MAX_ATTESTATIONS]:
        content = blobs.read(index.image.repository, layer.digest, MAX_STATEMENT)
        said = configs.read_statement(content) if content is not None else configs.Statement()
        found.append(said if said.predicate_type else configs.Statement(layer.annotations.get(PREDICATE, "")[:500]))
    return found
