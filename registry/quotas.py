"""Quotas. They are exact, because each count is taken under the lock that every addition needs.

The lock is the Project row for the repositories of a project, the Repository row for the images of a repository, and
the Image row for the tags and digests of an image. Digests in Recovery count, since their manifests are kept. So
restoring a digest never exceeds a quota. Attached tags (``registry.attachments``) do not count for the quota of tags:
a digest may have ATTACHED_LIMIT of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from django.db.models import BigIntegerField, Count
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from registry import attachments
from registry.database.prepared import Prepared, prepare
from registry.errors import Denied
from registry.models import Image, Manifest, Repository, Tag
from registry.oci import names

if TYPE_CHECKING:
    from django.db.models import QuerySet

    from accounts.actors import Actor
    from accounts.models import Project

ATTACHED_LIMIT = 32
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


def _check(used: int, limit: int, full: object, what: str) -> None:
    if used >= limit:
        raise Denied(
            _(_FULL[what]) % {"full": full, "used": f"{used:,}", "limit": f"{limit:,}"},
            detail={"quota": what, "used": used, "limit": limit},
        )
