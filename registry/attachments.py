"""Signatures, attestations and SBOMs of a digest: its referrers, and tags such as ``sha256-….sig``.

``Tag.objects.attached`` decides which tags these are. They are no releases: they may be overwritten, do not count for
the quota of tags, and are deleted with the digest that they are attached to.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from django.db.models import CharField, Count, F, Max, Value

from registry.models import Image, Manifest, Tag
from registry.oci import names

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_ROWS = 2_000  # of all digests of a page; a digest has a row for each artifactType, and one for each attached tag


class Kind(StrEnum):
    """What is attached. REFERRERS: an index of the referrers tag schema (distribution-spec 1.1)."""

    SIGNATURE = "signature"
    ATTESTATION = "attestation"
    SBOM = "sbom"
    REFERRERS = "referrers"
    OTHER = "other"


# In this order: an SBOM in an attestation is an SBOM to its reader.
_WORDS = (
    (Kind.SBOM, ("sbom", "spdx", "cyclonedx", "syft")),
    (Kind.ATTESTATION, ("attestation", "in-toto", "provenance", "slsa")),
    (Kind.SIGNATURE, ("signature", "cosign", "sigstore")),
)
_SUFFIXES = {"": Kind.REFERRERS, "sig": Kind.SIGNATURE, "att": Kind.ATTESTATION, "sbom": Kind.SBOM}


@dataclass(frozen=True, slots=True)
class Attachment:
    """What is attached to a digest: one tag, or ``number`` referrers of one artifactType.

    ``artifact_type`` is "" for a tag, ``tag`` is "" for referrers. ``digest``: of the attached manifest; if ``number``
    is greater than 1, of one of them.
    """

    kind: Kind
    artifact_type: str
    tag: str
    digest: str
    number: int = 1


def attached(image: Image, digests: Collection[str]) -> dict[str, list[Attachment]]:
    """Return what is attached to each of these digests of the image; digests without any are missing. One query."""
    wanted = {digest[: names.SUBJECT_LENGTH]: digest for digest in digests}
    referrers = (
        Manifest.objects.live()
        .filter(image=image, subject__in=list(digests))
        .values("subject", "artifact_type")
        .annotate(tag=Value("", CharField()), newest=Max("digest"), number=Count("pk"))
    )
    tags = (
        Tag.objects.live()
        .filter(image=image, subject__gt="", subject__in=list(wanted))
        .annotate(of=F("manifest__digest"))
        .values_list("subject", Value("", CharField()), "name", "of", Value(1))
    )
    columns = referrers.order_by().values_list("subject", "artifact_type", "tag", "newest", "number")
    found = defaultdict(list)
    for subject, artifact_type, tag, digest, number in columns.union(tags, all=True)[:MAX_ROWS]:
        of = wanted.get(subject, subject)
        if digest != of:
            kind = _kind_of_tag(tag) if tag else _kind_of_type(artifact_type)
            found[of].append(Attachment(kind, artifact_type, tag, digest, number))
    order = list(Kind)
    return {of: sorted(those, key=lambda one: (order.index(one.kind), one.tag)) for of, those in found.items()}


def is_attached(image: Image, tag: str, manifest: Manifest) -> bool:
    """Whether a tag of this name would be attached if it named this manifest. A query if the name has the form."""
    subject = names.tag_subject(tag)
    return (
        bool(subject) and Manifest.objects.live().begins(subject).filter(image=image).exclude(pk=manifest.pk).exists()
    )


def _kind_of_tag(tag: str) -> Kind:
    return _SUFFIXES.get(tag.partition(".")[2], Kind.OTHER)


def _kind_of_type(artifact_type: str) -> Kind:
    lower = artifact_type.lower()
    return next((kind for kind, words in _WORDS if any(word in lower for word in words)), Kind.OTHER)
