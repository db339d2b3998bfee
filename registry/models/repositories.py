"""Repositories, images, and permissions on single repositories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models import Subquery
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from guardian.models import GroupObjectPermissionBase, UserObjectPermissionBase

from accounts.models import Project
from registry.database.fields import NameField
from registry.database.locks import KeyShareQuerySet
from registry.oci import names

from .audit import DELETED, LIVE, deletion_key

if TYPE_CHECKING:
    from django.utils.functional import Promise


class Severity(models.IntegerChoices):
    """The severity of a vulnerability, or the worst of several. Greater is worse."""

    NONE = 0, _("None")
    UNKNOWN = 1, _("Unknown")
    LOW = 2, _("Low")
    MEDIUM = 3, _("Medium")
    HIGH = 4, _("High")
    CRITICAL = 5, _("Critical")

    @property
    def and_above(self) -> str | Promise:
        """The words of a filter that keeps this severity and worse ones."""
        return {
            Severity.LOW: _("Low and above"),
            Severity.MEDIUM: _("Medium and above"),
            Severity.HIGH: _("High and above"),
            Severity.CRITICAL: _("Critical only"),
        }.get(self, _("All"))


class RepositoryQuerySet(KeyShareQuerySet["Repository"]):
    """Reads of repositories."""

    def live(self) -> Self:
        """Repositories that are not deleted."""
        return self.filter(deletion=None)

    def named(self, name: names.ImageName) -> Self:
        """The live repository of an image's name, with its project."""
        return self.live().filter(project__name=name.project, name=name.repository).select_related("project")


class Repository(models.Model):
    """The boundary of permission: images that the same people may push and pull. Its name never changes.

    ``tag_rules``: the rules of its tags in order (``registry.tag_rules``). ``tag_overwrite`` is the last rule, for tags
    that no other rule matches: False makes them immutable.

    The pull policy is for users who may not push. ``block_severity``: they cannot pull images whose
    ``Manifest.worst_severity`` is this or worse; NONE: they can pull all. ``unscanned_grace_hours``: how long after its
    push they can pull an image that has not been scanned; None: for ever. ``auto_scan``: images are scanned after a
    push or a recovery and once a day; without it on request only.
    """

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="repositories")
    name = NameField(max_length=names.MAX_REPOSITORY)
    description = models.CharField(max_length=100, blank=True)
    is_public = models.BooleanField(default=False)
    tag_rules = models.JSONField(default=list, db_default=models.Value([], models.JSONField()))
    tag_overwrite = models.BooleanField(default=True)
    auto_scan = models.BooleanField(default=True)
    block_severity = models.PositiveSmallIntegerField(choices=Severity, default=Severity.NONE)
    unscanned_grace_hours = models.PositiveSmallIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="+"
    )
    updated_at = models.DateTimeField(default=timezone.now)
    deletion = deletion_key("repositories")

    objects = RepositoryQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["project", "name"], condition=models.Q(deletion=None), name="one_live_repository_a_name"
            )
        ]
        indexes: ClassVar = [models.Index(fields=["deletion"], name="deleted_repositories", condition=DELETED)]
        permissions: ClassVar = [
            ("pull_repository", "Can pull from the repository"),
            ("push_repository", "Can push to the repository"),
        ]
        verbose_name_plural = "repositories"

    def __str__(self) -> str:
        return f"{self.project.name}/{self.name}"


class Readme(models.Model):
    """The long description of a repository, in Markdown. No row: it has none.

    A table of its own, so that only the pages that show the text read it.
    """

    repository = models.OneToOneField(Repository, on_delete=models.CASCADE, primary_key=True, related_name="readme")
    text = models.TextField()

    def __str__(self) -> str:
        return str(self.repository)


class RepositoryUserPermission(UserObjectPermissionBase):
    """A permission of a user on one repository (table of guardian)."""

    content_object = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="user_permissions")


class RepositoryGroupPermission(GroupObjectPermissionBase):
    """A permission of a group on one repository. Unused; guardian requires the table."""

    content_object = models.ForeignKey(Repository, on_delete=models.CASCADE, related_name="group_permissions")


def id_at(path: Any) -> Subquery:
    """The id of the live image of this path, found before anything else of the query.

    With a join, a database may begin with all tags of that name, or with all images of the repository.
    """
    return Subquery(Image.objects.live().filter(path=path).values("pk"))


class ImageQuerySet(models.QuerySet["Image"]):
    """Reads of images."""

    def live(self) -> Self:
        """Images that are not deleted."""
        return self.filter(deletion=None)

    def at(self, path: Any) -> Self:
        """The live image of this path, found by its path and nothing else."""
        return self.filter(pk=id_at(path))

    def with_contents(self) -> Self:
        """Live images that have a digest. Lists, the catalog and the quota of images leave out the others."""
        return self.live().filter(emptied_at=None)


class Image(models.Model):
    """An image: tags and manifests. A lock on its row protects them.

    ``path`` is the full project/repository/image: names never change, and one index serves look-ups and lists.
    ``emptied_at``: when its last digest was deleted; None if it has one. An empty image keeps its settings for the time
    of Recovery, then ``trash.sweep_images`` deletes it.
    """

    repository = models.ForeignKey(Repository, on_delete=models.PROTECT, related_name="images")
    name = NameField(max_length=names.MAX_NAME)
    path = NameField(max_length=names.MAX_NAME)
    description = models.CharField(max_length=100, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    pushed_at = models.DateTimeField(default=timezone.now)
    pulled_at = models.DateTimeField(null=True, blank=True)
    emptied_at = models.DateTimeField(null=True, blank=True)
    deletion = deletion_key("images")

    objects = ImageQuerySet.as_manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["path"], condition=models.Q(deletion=None), name="one_live_image_a_path")
        ]
        indexes: ClassVar = [
            models.Index(fields=["repository", "path"], name="images_by_name", condition=LIVE),
            models.Index(fields=["repository", "-pushed_at", "-id"], name="images_by_push", condition=LIVE),
            models.Index(
                fields=["expires_at"],
                name="images_that_expire",
                condition=models.Q(deletion=None, expires_at__isnull=False),
            ),
            models.Index(fields=["deletion"], name="deleted_images", condition=DELETED),
            models.Index(fields=["path"], name="deleted_images_by_path", condition=DELETED),
            models.Index(fields=["emptied_at"], name="empty_images", condition=models.Q(emptied_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return str(self.path)

    @property
    def is_expired(self) -> bool:
        """Whether push and pull are refused because ``expires_at`` has passed."""
        return self.expires_at is not None and self.expires_at <= timezone.now()
