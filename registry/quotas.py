"""Quotas. They are exact, because each count is taken under the lock that every addition needs.

The lock is the Project row for the repositories of a project, the Repository row for the images of a repository, and
the Image row for the tags and digests of an image. Digests in Recovery count, since their manifests are kept. So
restoring a digest never exceeds a quota.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from registry.errors import Denied
from registry.models import Image, Manifest, Repository, Tag

if TYPE_CHECKING:
    from accounts.models import Project

_FULL = {
    "repositories": gettext_noop(
        "%(full)s is full: %(used)s of %(limit)s repositories. Delete repositories, or ask an operator to raise the"
        " quota."
    ),
    "images": gettext_noop(
        "%(full)s is full: %(used)s of %(limit)s images. Delete images, or ask an operator to raise the quota."
    ),
    "tags": gettext_noop(
        "%(full)s is full: %(used)s of %(limit)s tags. Delete tags, or ask an operator to raise the quota."
    ),
    "digests": gettext_noop(
        "%(full)s is full: %(used)s of %(limit)s digests, those in Recovery included. Delete digests for good, or ask"
        " an operator to raise the quota."
    ),
}


def check_repositories(project: Project) -> None:
    """Raises Denied when the (locked) project is full."""
    _check(Repository.objects.live().filter(project=project).count(), project.repository_limit, project, "repositories")


def check_images(repository: Repository) -> None:
    """Raises Denied when the (locked) repository is full."""
    _check(
        Image.objects.live().filter(repository=repository).count(), repository.project.image_limit, repository, "images"
    )


def check_tags(image: Image) -> None:
    """Raises Denied when the (locked) image is full."""
    _check(Tag.objects.live().filter(image=image).count(), image.repository.project.tag_limit, image, "tags")


def check_digests(image: Image) -> None:
    """Raises Denied when the (locked) image is full."""
    used = Manifest.objects.filter(image=image).count()
    _check(used, image.repository.project.digest_limit, image, "digests")


def _check(used: int, limit: int, full: object, what: str) -> None:
    if used >= limit:
        raise Denied(
            _(_FULL[what]) % {"full": full, "used": f"{used:,}", "limit": f"{limit:,}"},
            detail={"quota": what, "used": used, "limit": limit},
        )
