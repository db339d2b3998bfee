"""``manage.py createbucket``"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.management.json_command import say
from registry.storage import blob_storage
from registry.storage.s3 import S3BlobStorage


class Command(BaseCommand):
    help = "Create the bucket that KCR_STORAGE_URL names, unless it exists."

    def handle(self, *args: Any, **options: Any) -> None:
        """Print one JSON object: the bucket, and whether it was created."""
        storage = blob_storage()
        if not isinstance(storage, S3BlobStorage):
            raise CommandError("KCR_STORAGE_URL names no bucket")
        try:
            created = storage.create_bucket()
        except OSError as error:
            raise CommandError(f"there is no bucket: {error}") from error
        say(self, bucket=storage.bucket_name, created=created)
