"""Manifests, their references, and the versions of tags."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.db import models
from django.db.models import Exists, OuterRef, Q, Subquery, Value
from django.db.models.functions import Coalesce, Concat, Now
from django.utils import timezone

from registry.database.fields import (
    DIGEST_LENGTH,
    GENERAL_DIGEST_LENGTH,
    MEDIA_TYPE_LENGTH,
    ComputedNameField,
    NameField,
)
from registry.natural import MAX_LENGTH as MAX_NATURAL
from registry.natural import natural_key
from registry.oci import names

from .audit import DELETED, LIVE, Event, deletion_key
from .blobs import Blob
from .repositories import Image, Repository, Severity, id_at

if TYPE_CHECKING:
    from datetime import datetime


MAX_PLATFORMS = 500  # characters
CONTENT_FIELDS = ("content", "annotations")  # up to 4 MiB each: lists defer them
MANIFEST_CONTENT_FIELDS = tuple(f"manifest__{name}" for name in CONTENT_FIELDS)


def undeleted(prefix: str = "") -> Q:
    """Neither the manifest nor its image nor its repository is deleted. ``prefix``: "manifest__" beside a manifest."""
    return Q(
        **{f"{prefix}deletion": None, f"{prefix}image__deletion": None, f"{prefix}image__repository__deletion": None}
    )


def begins(field: str, text: str | OuterRef) -> Q:
    """Rows whose digest in this field begins with the text. A range uses the index in every database."""
    end = Concat(text, Value("g")) if isinstance(text, OuterRef) else f"{text}g"  # "g" follows all hexadecimal digits
    return Q(**{f"{field}__gte": text, f"{field}__lt": end})


class ManifestQuerySet(models.QuerySet["Manifest"]):
    """Reads of manifests."""

    def without_content(self) -> Self:
        """Defer CONTENT_FIELDS."""
        return self.defer(*CONTENT_FIELDS)

    def live(self) -> Self:
        """Manifests that are not deleted."""
        return self.filter(deletion=None)

    def referenced(self, path: str, reference: str, *, by_digest: bool) -> Self:
        """The live manifest of a digest or a tag in the live image of this path."""
        if by_digest:
            pushed = self.filter(image=id_at(path), digest=reference)
            return self._undeleted().filter(pk=Subquery(pushed.values("pk")))
        named = Tag.objects.live().filter(image=id_at(path), name=reference)
        return self._undeleted().filter(tags=Subquery(named.values("pk")))

    def _undeleted(self) -> Self:
        """As ``live``, by a condition of no index: PostgreSQL without statistics takes such an index for small."""
        return self.alias(taken_by=Coalesce("deletion_id", Value(0))).filter(taken_by=0)

    def as_of(self, path: str, reference: str, name: str, moment: datetime) -> Self:
        """The manifest that the tag ``name`` of this live image named at that moment, if it is live.

        A live tag with the literal name ``reference`` takes precedence.
        """
        tags = Tag.objects.filter(image=id_at(path))
        spelled = Subquery(tags.filter(name=reference, ended_at=None).values("pk")[:1])
        begun = Subquery(tags.filter(name=name, started_at__lte=moment).order_by("-started_at", "-pk").values("pk")[:1])
        still = Q(tags__ended_at=None) | Q(tags__ended_at__gt=moment)
        return self._undeleted().filter(still, tags=Coalesce(spelled, begun))

    def begins(self, text: str | OuterRef) -> Self:
        """Manifests whose digest begins with this text, such as a ``Tag.subject``."""
        return self.filter(begins("digest", text))

    def referring_to(self, image: Image, subject: str) -> Self:
        """Live manifests of the image whose subject this is, oldest first."""
        return self.live().filter(image=image, subject=subject).order_by("pk")


class Manifest(models.Model):
    """A manifest or index, byte for byte as pushed, in its row (at most 4 MiB).

    The media type of a digest in an image never changes. ``total_size`` (bytes): the document, its config and layers;
    for an index the sum of its children. ``annotations``: stored for manifests with a subject, for the list of
    referrers. ``platforms``: os/architecture[/variant] of the config, or of the entries of an index, separated by
    spaces. ``worst_severity``: of the vulnerabilities that a scan found, accepted ones left out; NONE also for what no
    client could run; None: not known (yet). The pull policy of the repository compares it with ``block_severity``.
    ``risk_summary`` names the worst of these: {"vulnerabilities": three names at most, "total": how many names there
    are}; {} when not known. When the vulnerability database does not cover the operating system, ``worst_severity`` is
    None, and ``risk_summary`` has that of the other packages as "worst_severity", and the system as "uncovered".
    ``pushed_at``: the push that added or restored it; the pull policy counts its grace period from then.
    ``last_pushed_at``: its last push, by any tag or by digest; ``registry.statistics`` writes it.
    """

    image = models.ForeignKey(Image, on_delete=models.CASCADE, related_name="manifests", db_index=False)
    digest = models.CharField(max_length=DIGEST_LENGTH)
    media_type = models.CharField(max_length=MEDIA_TYPE_LENGTH)
    artifact_type = models.CharField(max_length=MEDIA_TYPE_LENGTH, blank=True)
    subject = models.CharField(max_length=GENERAL_DIGEST_LENGTH, blank=True)
    annotations = models.JSONField(default=dict)
    content = models.BinaryField()
    platforms = models.CharField(max_length=MAX_PLATFORMS, blank=True)
    worst_severity = models.PositiveSmallIntegerField(choices=Severity, null=True)
    risk_summary = models.JSONField(default=dict)
    size = models.PositiveIntegerField()
    total_size = models.BigIntegerField()
    pushed_at = models.DateTimeField(default=timezone.now)
    last_pushed_at = models.DateTimeField(default=timezone.now)
    deletion = deletion_key("manifests")

    objects = ManifestQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["image", "digest"], name="one_manifest_a_digest")]
        indexes: ClassVar = [
            models.Index(fields=["image", "subject", "id"], name="referrers", condition=LIVE),
            models.Index(fields=["image", "subject", "artifact_type", "id"], name="referrers_by_type", condition=LIVE),
            # With the image: PostgreSQL takes this index for a digest of one image, since most digests are in one only.
            models.Index(fields=["digest", "image"], name="manifests_by_digest_and_image"),
            models.Index(fields=["deletion"], name="deleted_manifests", condition=DELETED),
        ]

    def __str__(self) -> str:
        return f"{self.image}@{self.digest}"


class ManifestBlobQuerySet(models.QuerySet["ManifestBlob"]):
    """Reads of references to blobs."""

    def live(self) -> Self:
        """References by manifests that are not deleted."""
        return self.filter(manifest__deletion=None)

    def pulled(self) -> Self:
        """References by manifests that may be pulled as far as their image's date says: live, and not expired."""
        never = Q(manifest__image__expires_at=None)
        return self.live().filter(never | Q(manifest__image__expires_at__gt=Now()))

    def naming(self, repository: Any, blob: Any, *, pulled: bool = False) -> Self:
        """References of the repository to a blob by live manifests; ``pulled``: whose image has not expired.

        Each manifest is looked up by its id. A join may begin with all manifests, or with all of the repository.
        """
        manifests = Manifest.objects.live().filter(pk=OuterRef("manifest"))
        if pulled:
            unexpired = Image.objects.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), pk=OuterRef("image"))
            manifests = manifests.filter(image=Subquery(unexpired.values("pk")))
        return self.filter(repository=repository, blob=blob, manifest=Subquery(manifests.values("pk")))

    def of_repository(self, name: names.ImageName) -> Self:
        """References within the live repository of an image's name."""
        return self.filter(
            repository__project__name=name.project, repository__name=name.repository, repository__deletion=None
        )


class ManifestBlob(models.Model):
    """A manifest refers to a blob. Rows of deleted manifests stay: the trash keeps its bytes by this foreign key."""

    manifest = models.ForeignKey(Manifest, on_delete=models.CASCADE, related_name="blob_references", db_index=False)
    blob = models.ForeignKey(Blob, on_delete=models.PROTECT, related_name="references")
    repository = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="+", db_index=False)

    objects = ManifestBlobQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["manifest", "blob"], name="one_reference_a_blob")]
        indexes: ClassVar = [models.Index(fields=["repository", "blob"], name="blobs_of_repository")]

    def __str__(self) -> str:
        return f"{self.manifest} -> {self.blob}"


class ManifestChild(models.Model):
    """An index names a manifest of the same image."""

    parent = models.ForeignKey(Manifest, on_delete=models.CASCADE, related_name="child_references", db_index=False)
    child = models.ForeignKey(Manifest, on_delete=models.PROTECT, related_name="parent_references")

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["parent", "child"], name="one_reference_a_child")]

    def __str__(self) -> str:
        return f"{self.parent} -> {self.child}"


class TagQuerySet(models.QuerySet["Tag"]):
    """Reads of tags."""

    def with_manifests(self) -> Self:
        """With the manifests that they name, without CONTENT_FIELDS."""
        return self.select_related("manifest").defer(*MANIFEST_CONTENT_FIELDS)

    def live(self) -> Self:
        """The current versions of tags."""
        return self.filter(ended_at=None)

    def attached(self) -> Self:
        """Tags such as ``sha256-….sig`` whose subject is another live manifest of the same image."""
        return self.filter(_has_subject(), subject__gt="")

    def unattached(self) -> Self:
        """All tags that are not ``attached``."""
        return self.filter(Q(subject="") | ~Q(_has_subject()))

    def history(self, image: Image, name: str | None = None) -> Self:
        """Every version of the tags, or of one, newest first; with the events that began and ended it.

        For the page after a row: ``.filter(pk__lt=row.pk)``. Ids follow time: tags change under the image's lock.
        """
        found = self.filter(image=image) if name is None else self.filter(image=image, name=name)
        return found.with_manifests().select_related("opened_by", "closed_by").order_by("-pk")

    def as_of(self, image: Image, name: str, moment: datetime) -> Tag | None:
        """The version of the tag at that moment, even if it was deleted since; None: there was none."""
        begun = self.filter(image=image, name=name, started_at__lte=moment)
        found = begun.with_manifests().order_by("-started_at", "-pk").first()
        return found if found is None or found.ended_at is None or found.ended_at > moment else None

    def names_after(self, image: Image, last: str, limit: int) -> list[str]:
        """Up to ``limit`` live tag names of an image in byte order, after ``last`` (which need not exist)."""
        found = self.live().filter(image=image, name__gt=last).order_by("name")
        return list(found.values_list("name", flat=True)[:limit])


def _has_subject() -> Exists:
    manifests = Manifest.objects.live().filter(image=OuterRef("image")).begins(OuterRef("subject"))
    return Exists(manifests.exclude(pk=OuterRef("manifest")))


class Tag(models.Model):
    """From ``started_at`` until ``ended_at`` (None: still) this name named this manifest: one version of a tag.

    Moving a tag closes one row and opens another, so nothing is ever overwritten: usage history, the past and
    recovery are one indexed query each. ``pushed_at``: the last push of this manifest under this name, at first the
    time at which the name came to name it; the age of the tag counts from then. ``natural_name`` sorts names by
    ``registry.natural``. ``subject``: the first ``names.SUBJECT_LENGTH`` characters of the digest that the name of an
    attached tag has; "" for other names.
    """

    image = models.ForeignKey(Image, on_delete=models.CASCADE, related_name="tags", db_index=False)
    name = NameField(max_length=names.MAX_TAG)
    natural_name = ComputedNameField(max_length=MAX_NATURAL, compute=natural_key)
    subject = ComputedNameField(max_length=names.SUBJECT_LENGTH, blank=True, compute=names.tag_subject)
    manifest = models.ForeignKey(Manifest, on_delete=models.PROTECT, related_name="tags")
    started_at = models.DateTimeField(default=timezone.now)
    pushed_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)
    opened_by = models.ForeignKey(Event, on_delete=models.SET_NULL, null=True, related_name="+")
    closed_by = models.ForeignKey(Event, on_delete=models.SET_NULL, null=True, related_name="+")
    deletion = deletion_key("tags", on_delete=models.SET_NULL)

    objects = TagQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["image", "name"], condition=models.Q(ended_at=None), name="one_live_meaning_a_tag"
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["image", "name", "started_at"], name="history_of_tag"),
            models.Index(fields=["image", "name", "-id"], name="meanings_of_tag"),
            models.Index(fields=["image", "-id"], name="meanings_of_image"),
            models.Index(
                fields=["name", "image"], name="live_tags_by_name_and_image", condition=models.Q(ended_at=None)
            ),
            models.Index(
                fields=["image", "-pushed_at", "-id"], name="live_tags_by_push", condition=models.Q(ended_at=None)
            ),
            models.Index(
                fields=["image", "natural_name", "id"],
                name="live_tags_in_natural_order",
                condition=models.Q(ended_at=None),
            ),
            models.Index(
                fields=["image", "subject"],
                name="attached_tags",
                condition=models.Q(ended_at=None, subject__gt=""),
            ),
            models.Index(fields=["deletion"], name="deleted_tags", condition=DELETED),
        ]

    def __str__(self) -> str:
        return f"{self.image}:{self.name}"


class PurgedTag(models.Model):
    """A version of a write-once tag whose row was purged: the name ``path``:``name`` never names another digest.

    ``version``: the id that the row of the tag had. ``registry.tag_rules`` writes and reads it.
    """

    path = NameField(max_length=names.MAX_NAME)
    name = NameField(max_length=names.MAX_TAG)
    digest = models.CharField(max_length=DIGEST_LENGTH)
    version = models.BigIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["path", "name", "version"], name="one_row_a_purged_version")
        ]

    def __str__(self) -> str:
        return f"{self.path}:{self.name}"
