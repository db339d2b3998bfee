"""``manage.py copystorage SOURCE TARGET``"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.management.json_command import say
from registry import storage_copy


class Command(BaseCommand):
    help = (
        "Copy all blobs from one storage to another one. Both are values of KCR_STORAGE_URL. KCR may run"
        " meanwhile. Run it until it has nothing left to copy, stop KCR, run it once more, then set KCR_STORAGE_URL to"
        " the target. Status 1 when a blob is damaged or missing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", help="where the blobs are, such as file:///srv/kcr/storage")
        parser.add_argument("target", help="where they are to be, such as s3://blobs?region=eu-central-1")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print one JSON object: numbers of blobs, and bytes copied."""
        progress = storage_copy.Progress()
        try:
            for progress in storage_copy.copy(options["source"], options["target"]):
                self.stderr.write(f"{progress.there + progress.copied:,} blobs are there, {progress.copied:,} copied")
        except ValueError as error:
            raise CommandError(f"this storage cannot be used: {error}") from error
        except OSError as error:
            raise CommandError(f"a storage does not do what it is asked: {error}; run this again to go on") from error
        say(self, there=progress.there, copied=progress.copied, failed=progress.failed, size=progress.size)
        if progress.failed:
            raise SystemExit(1)
        self.stderr.write(
            "Nothing was left to copy. If KCR is stopped, set KCR_STORAGE_URL to the new storage, and start it."
            if progress.is_complete
            else "Stop KCR and run this again: it copies what has arrived since. Then switch."
        )
