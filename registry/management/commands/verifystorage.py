"""``manage.py verifystorage [--full]``"""

from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.management.json_command import say
from registry import storage_check


class Command(BaseCommand):
    help = (
        "Compare the database with the stored bytes; with --full, read every byte. Prints problems to standard error;"
        " status 1 if there is one. Repairs nothing: push an image again to repair missing or short blobs; remove the"
        " file or object of a damaged blob first."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--full", action="store_true", help="read everything and compare digests")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print one JSON object: blobs looked at, and problems by kind."""
        looked, problems = 0, Counter[str](missing=0, short=0, damaged=0, orphan=0)
        try:
            for found in storage_check.verify(full=options["full"]):
                if isinstance(found, storage_check.Problem):
                    problems[found.kind] += 1
                    self.stderr.write(f"{found.kind}: {found.digest} {found.key}")
                else:
                    looked = found
                    self.stderr.write(f"{looked:,} blobs looked at")
        except OSError as error:
            raise CommandError(f"the storage does not answer: {error}") from error
        say(self, blobs=looked, **problems)
        if problems.total():
            raise SystemExit(1)
