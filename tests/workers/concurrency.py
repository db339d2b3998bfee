"""Steps of tests/registry/test_concurrency.py."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from django.utils import timezone

from accounts.actors import SYSTEM
from accounts.models import Project
from registry import errors, garbage, repositories, trash
from registry.garbage import collector
from registry.models import (
    Blob,
    BlobReview,
    Deletion,
    Event,
    Image,
    Manifest,
    ObjectTrash,
    Repository,
    Tag,
    UploadSession,
)
from tests.support.threads import at_once

if TYPE_CHECKING:
    from django.db.models import QuerySet


# ── Tags, recovery and garbage collection ────────────────────────────────────────────────────────────────────────────
def tag_intervals(name: str) -> list[list[float | None]]:
    """Return start and end of each interval of the tag, as seconds, in order of creation."""
    tags = Tag.objects.filter(name=name).order_by("pk")
    return [[tag.started_at.timestamp(), tag.ended_at.timestamp() if tag.ended_at else None] for tag in tags]


def restore_against_purge() -> list[dict[str, Any]]:
    """Delete each image doomed-*, and then recover and purge its deletion at once. Return the rows afterwards."""
    web, found = repositories.find("demo/web"), []
    doomed = Image.objects.live().filter(repository=web, name__startswith="doomed").order_by("name")
    for name in list(doomed.values_list("name", flat=True)):
        (deletion,) = trash.delete_images(SYSTEM, web, [name])
        answers = at_once(partial(_restored, deletion), partial(_purged, deletion))
        live = Image.objects.live().filter(repository=web, name=name).first()
        found.append(
            {
                "said": answers,
                "tags": Tag.objects.live().filter(image=live).count() if live else 0,
                "manifests": Manifest.objects.live().filter(image=live).count() if live else 0,
                "rows": Image.objects.filter(name=name).count(),
                "deletions": Deletion.objects.filter(pk=deletion.pk).count(),
            }
        )
    return found


def _restored(deletion: Deletion) -> int | str:
    try:
        return len(trash.restore(SYSTEM, [deletion.pk]).deletions)
    except errors.RegistryError as error:
        return type(error).__name__


def _purged(deletion: Deletion) -> int | str:
    try:
        trash.purge_now(SYSTEM, deletion)
    except errors.RegistryError as error:
        return type(error).__name__
    return "purged"


def collect_in_four_threads() -> dict[str, Any]:
    """Make 500 unreferenced blobs, and request and run a collection in four threads at once."""
    collector.BATCH, collector.PAUSE = 20, 0
    project = repositories.find("demo/web").project
    made = Blob.objects.bulk_create(
        Blob(digest=f"sha256:{number:064x}", size=10, storage_key=f"blobs/zz/{number}") for number in range(1, 501)
    )
    yesterday = timezone.now() - timedelta(days=1)
    BlobReview.objects.bulk_create(BlobReview(blob=blob, project=project, review_after=yesterday) for blob in made)
    asked = at_once(*[lambda: garbage.request(SYSTEM, project)] * 4)
    run = asked[0][0]
    at_once(*[lambda: garbage.run(run.pk)] * 4)
    run.refresh_from_db()
    trashed = ObjectTrash.objects.filter(pk__startswith="blobs/zz/")
    found = {
        "runs": len({each.pk for each, _ in asked}),
        "new": sum(is_new for _, is_new in asked),
        "state": run.state,
        "total": run.total,
        "reviewed": run.reviewed,
        "collected": run.collected,
        "size": run.size,
        "left": Blob.objects.filter(storage_key__startswith="blobs/zz/").count(),
        "trash": trashed.count(),
        "asked": Event.objects.filter(action="collection.run").count(),
        "done": Event.objects.filter(action="collection.done").count(),
    }
    trashed.delete()
    return found


# ── Limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def count(what: str) -> int:
    """Return the number of rows that count for a quota."""
    return _counted(what).count()


def leave_room_for_one(what: str) -> int:
    """Set the quota one above the number of rows. Return that number."""
    number = count(what)
    _set_limit(what, number + 1)
    return number


def lift_limit(what: str) -> None:
    """Set the quota to 1,000."""
    _set_limit(what, 1_000)


def _counted(what: str) -> QuerySet[Any]:
    return {
        "repositories": Repository.objects.live(),
        "images": Image.objects.live().filter(repository__name="web"),
        "tags": Tag.objects.live().filter(image__name="app"),
        "digests": Manifest.objects.filter(image__name="app"),
    }[what]


def _set_limit(what: str, limit: int) -> None:
    field = {
        "repositories": "repository_limit",
        "images": "image_limit",
        "tags": "tag_limit",
        "digests": "digest_limit",
    }
    Project.objects.update(**{field[what]: limit})


def delete_uploads() -> None:
    """Delete all uploads."""
    UploadSession.objects.all().delete()


def count_open_uploads() -> int:
    """Return the number of open uploads."""
    return UploadSession.objects.open().count()
