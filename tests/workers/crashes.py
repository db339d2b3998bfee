"""Steps of tests/registry/test_crashes.py and tests/registry/test_s3_crashes.py."""

import os
import sys
import traceback
from datetime import timedelta

from django.conf import settings
from django.core.management import call_command
from django.test import override_settings
from django.utils import timezone

from accounts.actors import SYSTEM
from registry import env, garbage, repositories, storage_check, trash, uploads
from registry.models import Blob, BlobLease, BlobReview, Deletion, Image, ObjectTrash, Repository, UploadSession
from registry.storage import blob_storage

PAST = timedelta(days=3)


def call_in_children() -> None:
    """Read lines: a function of this module, or a command of manage.py, and arguments. Call each in a process of its own.

    Print its status: 0, 1 after an exception, or minus the number of a signal.
    """
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os._exit(_call(*line.split()))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _call(name: str, *arguments: str) -> int:
    sys.stdout = sys.stderr
    try:
        function = globals().get(name)
        if function:
            function(*arguments)
        else:
            call_command(name, *arguments)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def delete_image() -> None:
    """Delete the image app."""
    trash.delete_images(SYSTEM, repositories.find("demo/web"), ["app"])


def delete_everything() -> None:
    """Delete all images, purge and collect what they had, and delete its bytes."""
    for repository in Repository.objects.all():
        names = Image.objects.live().filter(repository=repository).values_list("name", flat=True)
        if names:
            trash.delete_images(SYSTEM, repository, list(names))
    settle_and_expire_deletions()
    call_command("collectgarbage")
    reap()


def restore_image() -> None:
    """Recover the latest deletion."""
    trash.restore(SYSTEM, [Deletion.objects.latest("pk").pk])


def settle() -> None:
    """End all leases and finished uploads, and make reviews and trash due."""
    BlobLease.objects.all().delete()
    UploadSession.objects.filter(state="done").delete()
    BlobReview.objects.update(review_after=timezone.now())
    ObjectTrash.objects.update(delete_after=timezone.now())


def settle_and_expire_deletions() -> None:
    """Settle, and end the time of all deletions."""
    settle()
    Deletion.objects.update(purge_after=timezone.now())


def release_uploads() -> None:
    """End the leases of the writers of uploads."""
    UploadSession.objects.update(writer_until=timezone.now() - PAST)


def sweep_uploads() -> None:
    """End all uploads, open and finished ones."""
    UploadSession.objects.update(expires_at=timezone.now() - PAST)
    uploads.sweep()


def reap() -> None:
    """Delete the bytes of all keys in the trash."""
    ObjectTrash.objects.update(delete_after=timezone.now() - PAST)
    garbage.reap()


def forget_uploads() -> None:
    """Do what a cancel of each upload does before it asks the storage."""
    for session in UploadSession.objects.filter(state="open"):
        uploads._trash(session.storage_key)
        session.delete()


def sweep_everything() -> None:
    """Delete all bytes that no blob needs, as the sweeps of the next days do."""
    sweep_uploads()
    reap()
    discard_abandoned()


def discard_abandoned() -> None:
    """Delete the bytes of uploads without rows, new ones too."""
    uploads.ABANDONED_AGE = timedelta(seconds=-60)
    uploads.discard_abandoned()


def discard_abandoned_at(url: str) -> None:
    """Do that in another storage."""
    with override_settings(STORAGES=settings.STORAGES | {"blobs": env.storage_at(url)}):
        discard_abandoned()


def compare_rows_and_bytes() -> None:
    """Fail if a blob is damaged, or if the storage has other keys than those of the blobs."""
    storage_check.ORPHAN_AGE = timedelta(seconds=-60)
    problems = [each for each in storage_check.verify(full=True) if not isinstance(each, int)]
    assert problems == []
    keys = blob_storage().keys(older_than=timezone.now() + PAST)
    assert sorted(keys) == sorted(Blob.objects.values_list("storage_key", flat=True))
