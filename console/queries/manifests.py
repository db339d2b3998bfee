"""The page of one manifest, and the digests that a form suggests."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import Exists, F, OuterRef, Sum
from django.utils.translation import gettext as _

from console.queries import images, scans
from console.templatetags.commands import Kind, kind_of
from registry import errors, inspection
from registry import manifests as domain
from registry.models import Image, Manifest, ManifestBlob, Tag, TagDay
from registry.oci import digests

if TYPE_CHECKING:
    from datetime import date


SUGGESTED = 50
MIN_DIGITS = 7  # of the beginning of a digest; pages show 12
MAX_JSON = 10_000
_OCI = "org.opencontainers.image"
_HEX = re.compile(r"[0-9a-f]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Source:
    """The address of a repository of source code, and a revision in it, as the builder of the image wrote them."""

    address: str
    revision: str

    @property
    def words(self) -> str:
        """The address without its scheme."""
        return self.address.partition("://")[2] or self.address


@dataclass(frozen=True, slots=True)
class Digest:
    """One manifest, looked into. ``tags``: all that name it now; ``shared``: blobs of it that other manifests use."""

    manifest: Manifest
    contents: inspection.Contents
    tag: Tag | None
    tags: list[str]
    parents: list[Manifest]
    pulls: list[tuple[date, int]]
    exclusive: int

    @property
    def source(self) -> Source | None:
        """Where the image says that its source code is; None if it does not say."""
        said = dict((*self.contents.annotations.shown, *self.contents.config.labels.shown))
        address, revision = said.get(f"{_OCI}.source", ""), said.get(f"{_OCI}.revision", "")
        return Source(address, revision) if address or revision else None

    @property
    def json(self) -> str:
        """The document as text, indented if it is short; the first MAX_JSON bytes of a longer one."""
        content = bytes(self.manifest.content)
        if len(content) > MAX_JSON:
            return f"{content[:MAX_JSON].decode(errors='replace')}\n…"
        return json.dumps(json.loads(content), indent=2, ensure_ascii=False)

    @property
    def kind(self) -> Kind:
        """What it is for the programs that pull it."""
        return kind_of(self.manifest)


def digest(image: Image, reference: str) -> Digest | None:
    """What a tag or digest of the image holds; None when it names nothing that is live. At most twelve queries."""
    found = Manifest.objects.referenced(image.path, reference, by_digest=digests.is_digest(reference))
    manifest = found.first()
    if manifest is None:
        return None
    manifest.image = image
    live = Tag.objects.live().filter(image=image, manifest=manifest).select_related("opened_by").order_by("name")
    named = list(live)
    tag = next((each for each in named if each.name == reference), None)
    parents = Manifest.objects.live().without_content().filter(child_references__child=manifest)
    # In this project: what others have is not for this one to know.
    there = ManifestBlob.objects.filter(repository__project=image.repository.project_id)
    elsewhere = there.filter(blob=OuterRef("blob")).exclude(manifest=manifest)
    own = ManifestBlob.objects.filter(~Exists(elsewhere), manifest=manifest)
    contents = inspection.contents(manifest)
    scans.attach([manifest, *(part.manifest for part in contents.parts)])
    return Digest(
        manifest=manifest,
        contents=contents,
        tag=tag,
        tags=[each.name for each in named],
        parents=list(parents[:20]),
        pulls=_pulls(image, [each.name for each in named] if tag is None else [tag.name]),
        exclusive=own.aggregate(size=Sum("blob__size"))["size"] or 0,
    )


def _pulls(image: Image, names: list[str]) -> list[tuple[date, int]]:
    days = images.last_days()
    rows = TagDay.objects.filter(image=image, tag__in=names, day__gte=days[0]).values_list("day").order_by()
    pulls = dict(rows.annotate(number=Sum("pulls")))
    return [(day, pulls.get(day, 0)) for day in days]


def resolve(image: Image, text: str) -> Manifest:
    """The live manifest that a person names by a tag, a digest, its first MIN_DIGITS digits or more, or NAME@DIGEST.

    Raises ManifestUnknown, which says what else could be typed. At most three queries.
    """
    wanted = text.strip().rpartition("@")[2]
    algorithm, colon, digits = wanted.rpartition(":")
    known = Manifest.objects.without_content().filter(image=image)
    if not colon:
        tagged = known.filter(tags__name=wanted, tags__ended_at=None).first()
        if tagged is not None:
            return tagged
    is_hex = _HEX.fullmatch(digits.lower()) is not None
    if not is_hex or len(digits) < MIN_DIGITS:
        raise errors.ManifestUnknown(_no_tag(image, wanted))
    found = known.filter(digest__startswith=f"{algorithm or digests.DEFAULT_ALGORITHM}:{digits.lower()}")
    rows = list(found.select_related("deletion").order_by(F("deletion").asc(nulls_first=True), "pk")[:2])
    if not rows:
        words = _("%(image)s has no tag %(text)s, and no digest that begins so.")
        raise errors.ManifestUnknown(words % {"image": image.path, "text": wanted})
    if len(rows) > 1 and rows[1].deletion_id is None:
        words = _("Several digests begin with %(text)s: type more of it.")
        raise errors.ManifestUnknown(words % {"text": wanted})
    domain.check_live(rows[0])
    return rows[0]


def _no_tag(image: Image, text: str) -> str:
    like = Tag.objects.live().filter(image=image, name__startswith=text).order_by("name").values_list("name", flat=True)
    if text and (names := list(like[:3])):
        words = _("%(image)s has no tag %(text)s. Tags that begin so: %(names)s.")
        return words % {"image": image.path, "text": text, "names": ", ".join(names)}
    words = _("%(image)s has no tag %(text)s.")
    return words % {"image": image.path, "text": text}


def recent_digests(image: Image) -> list[dict[str, Any]]:
    """Digests to choose from when a tag is added: the newest, with the tags that they have."""
    newest = Manifest.objects.live().filter(image=image, subject="").order_by("-pushed_at", "-pk")[:SUGGESTED]
    rows = list(newest.values("pk", "digest", "platforms", "pushed_at"))
    named: dict[int, list[str]] = {}
    live = Tag.objects.live().filter(manifest__in=[row["pk"] for row in rows]).order_by("name")
    for manifest_id, name in live.values_list("manifest", "name"):
        named.setdefault(manifest_id, []).append(name)
    return [row | {"tags": ", ".join(named.get(row["pk"], [])[:5])} for row in rows]
