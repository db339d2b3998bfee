"""Quotas. They are exact, because each count is taken under the lock that every addition needs.

The lock is the Project row for the repositories of a project, the Repository row for the images of a repository, and
the Image row for the tags and digests of an image. Digests in Recovery count, since their manifests are kept. So
restoring a digest never exceeds a quota. Attached tags (``registry.attachments``) do not count for the quota of tags:
a digest may have ATTACHED_LIMIT of them.

The quotas of bytes are not exact: see ``check_bytes``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db.models import BigIntegerField, Count, Exists, OuterRef, Subquery, Sum, Value
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Coalesce
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from accounts.models import Project
from registry import attachments
from registry.database.prepared import Prepared, prepare
from registry.errors import Denied
from registry.models import Blob, Event, Image, Manifest, ManifestBlob, Repository, Tag
from registry.oci import names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.models import QuerySet

    from accounts.actors import Actor

LIMITS = {  # the field of Project for each quota
    "repositories": "repository_limit",
    "images": "image_limit",
    "tags": "tag_limit",
    "digests": "digest_limit",
    "bytes": "size_limit",
}
ATTACHED_LIMIT = 32
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
_FULL = {
    "repositories": gettext_noop(
        "the project %(full)s is full: %(used)s of %(limit)s repositories. Delete repositories, or ask an operator to"
        " raise the quota"
    ),
    "images": gettext_noop(
        "%(full)s is full: %(used)s of %(limit)s images. Delete images, or ask an operator to raise the quota"
    ),
    "tags": gettext_noop(
        "%(full)s is full: %(used)s of %(limit)s tags. Delete tags, or ask an operator to raise the quota"
    ),
    "attached": gettext_noop(
        "%(full)s has %(used)s of %(limit)s tags such as sha256-….sig for this digest. Delete some of them"
    ),
    "digests": gettext_noop(
        "%(full)s is full: %(used)s of %(limit)s digests, those in Recovery included. Delete digests for good, or ask"
        " an operator to raise the quota"
    ),
}


def check_repositories(project: Project) -> None:
    """Raises Denied when the (locked) project is full."""
    _check(Repository.objects.live().filter(project=project).count(), project.repository_limit, project, "repositories")


def check_images(repository: Repository, used: int | None = None) -> None:
    """Raises Denied when the (locked) repository is full. Empty images do not count.

    ``used``: the number of its images, if it is known.
    """
    if used is None:
        used = Image.objects.with_contents().filter(repository=repository).count()
    _check(used, repository.project.image_limit, repository, "images")


def check_tags(image: Image, tag: str, manifest: Manifest) -> None:
    """Raises Denied when the (locked) image has no room for a new tag of this name that names the manifest."""
    live = Tag.objects.live().filter(image=image)
    if attachments.is_attached(image, tag, manifest):
        _check(live.filter(subject=names.tag_subject(tag)).count(), ATTACHED_LIMIT, image, "attached")
    else:
        _check(_count(_tags, image), image.repository.project.tag_limit, image, "tags")


def check_digests(image: Image) -> None:
    """Raises Denied when the (locked) image is full."""
    _check(_count(_digests, image), image.repository.project.digest_limit, image, "digests")


class _Number(NamedTuple):
    number: int


@prepare(_Number, image=BigIntegerField())
def _tags(actor: Actor, image: Any) -> QuerySet[Any, Any]:
    return _counted(Tag.objects.live().filter(image=image).unattached())


@prepare(_Number, image=BigIntegerField())
def _digests(actor: Actor, image: Any) -> QuerySet[Any, Any]:
    return _counted(Manifest.objects.filter(image=image))


def _counted(of_image: QuerySet[Any, Any]) -> QuerySet[Any, Any]:
    counted: QuerySet[Any, Any] = of_image.order_by().values("image").annotate(number=Count("pk")).values_list("number")
    return counted


def _count(prepared: Prepared[_Number], image: Image) -> int:
    row = prepared.first(image=image.pk)
    return row.number if row else 0


@dataclass(frozen=True, slots=True)
class Stored:
    """The stored bytes of a project and of all projects of its organization, and their limits; None: no limit."""

    project: int
    project_limit: int | None
    organization: int
    organization_limit: int | None


def check_bytes(image: Image, named: Sequence[Blob]) -> int | None:
    """How many bytes a manifest that names these blobs adds to the project. Raises Denied if they are too many.

    None without a query if neither the project nor its organization has a limit; one query if one has. Pushes that run
    at the same time do not see each other: each may pass a limit by what the others add (see docs/design/storage.md).
    """
    project = image.repository.project
    if project.size_limit is None and project.organization.size_limit is None:
        return None
    blobs = [blob.pk for blob in named]
    stored, known = _stored(project, blobs)
    added = sum(blob.size for blob in named) - known
    if added > 0:
        for full, used, limit in (
            (project, stored.project, stored.project_limit),
            (project.organization, stored.organization, stored.organization_limit),
        ):
            if limit is not None and used + added > limit:
                raise Denied(
                    _(
                        "%(full)s is full: %(used)s of %(limit)s are stored, and this push adds %(added)s. Delete"
                        " images, or ask an operator to raise the quota"
                    )
                    % {"full": full, "used": in_words(used), "limit": in_words(limit), "added": in_words(added)},
                    detail={"quota": "bytes", "used": used, "limit": limit},
                )
    return added


def check_room(full: object, used: int, limit: int | None) -> None:
    """Raises Denied if ``full``, a project or an organization, stores as many bytes as it may."""
    if limit is not None and used >= limit:
        raise Denied(
            _(
                "%(full)s is full: %(used)s of %(limit)s are stored. Delete images, or ask an operator to raise the"
                " quota"
            )
            % {"full": full, "used": in_words(used), "limit": in_words(limit)},
            detail={"quota": "bytes", "used": used, "limit": limit},
        )


def stored(project: Project) -> Stored:
    """What the project and its organization store now. One query; the project's organization has to be loaded."""
    return _stored(project, ())[0]


def _stored(project: Project, blobs: Sequence[int]) -> tuple[Stored, int]:
    """What is stored, and the bytes of those of the blobs that a live manifest of the project names.

    The size of a project is that of its last measurement, and what the pushes since then say that they added.
    """
    since = Event.objects.filter(
        project=OuterRef("pk"),
        action=Event.Action.IMAGE_PUSH,
        pk__gt=Coalesce(OuterRef("usage__event_id"), 0),
        detail__has_key="added",
    )
    added = since.order_by().values("project").annotate(total=Sum(Cast(KT("detail__added"), BigIntegerField())))
    live = ManifestBlob.objects.live().filter(repository__project=project, repository__deletion=None)
    known = Blob.objects.filter(Exists(live.filter(blob=OuterRef("pk"))), pk__in=blobs).order_by()
    size = known.annotate(one=Value(1)).values("one").annotate(total=Sum("size")).values("total")
    of = {"pk": project.pk} if project.organization.size_limit is None else {"organization": project.organization_id}
    rows = Project.objects.filter(**of).values_list(
        "pk",
        Coalesce("usage__size", 0) + Coalesce(Subquery(added.values("total")), 0),
        Coalesce(Subquery(size), 0) if blobs else Value(0),
    )
    sizes, all_known = {}, 0
    for pk, stored_now, number in rows:
        sizes[pk], all_known = stored_now, number
    limits = project.size_limit, project.organization.size_limit
    return Stored(sizes[project.pk], limits[0], sum(sizes.values()), limits[1]), all_known


def in_words(size: int) -> str:
    """Bytes as docker shows them: 1.2 GB, thousands of 1,000."""
    value, unit = float(size), 0
    while value >= 999.95 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{size} B"


def _check(used: int, limit: int, full: object, what: str) -> None:
    if used >= limit:
        raise Denied(
            _(_FULL[what]) % {"full": full, "used": f"{used:,}", "limit": f"{limit:,}"},
            detail={"quota": what, "used": used, "limit": limit},
        )
