"""``manage.py collectgarbage [--dry-run] [--project PROJECT]``"""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import organizations
from accounts.actors import command_actor
from accounts.errors import Refusal
from accounts.management.json_command import say
from accounts.models import Project
from registry import garbage, trash
from registry.models import Collection

SLICE = 2.0  # seconds between two lines about progress
OBJECTS = 2_000


class Command(BaseCommand):
    help = (
        "Delete unreferenced blobs and their bytes, while pushes and pulls go on. Prints progress to standard error."
        " Ctrl-C stops after the present batch; the next run continues."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--dry-run", action="store_true", help="say what would be collected, and change nothing")
        parser.add_argument("--project", help="only what this project has used")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print one JSON object; a run that failed ends with status 1."""
        try:
            projects = _projects(options["project"])
        except Refusal as error:
            raise CommandError(str(error)) from error
        if options["dry_run"]:
            found = [garbage.preview(project) for project in projects]
            say(self, blobs=sum(each.blobs for each in found), bytes=sum(each.size for each in found), dry_run=True)
            return
        purged = trash.purge()
        runs = [self.collect(project) for project in projects]
        failed = [run.problem for run in runs if run.state == Collection.State.FAILED]
        if failed:
            raise CommandError(f"a run failed: {failed[0]}")
        say(
            self,
            purged=purged,
            blobs=sum(run.collected for run in runs),
            bytes=sum(run.size for run in runs),
            objects=self.reap(),
            dry_run=False,
        )

    def reap(self) -> int:
        """Delete all stored bytes that are due; returns how many objects."""
        reaped = 0
        while some := garbage.reap(OBJECTS):
            reaped += some
            self.stderr.write(f"bytes of {reaped:,} objects deleted")
        return reaped

    def collect(self, project: Project | None) -> Collection:
        """Work on a run until it ends."""
        collection, _ = garbage.request(command_actor("collectgarbage"), project)
        try:
            while (run := garbage.run(collection.pk, seconds=SLICE)) is not None:
                collection = run
                self.stderr.write(
                    f"{project or 'what no project claims'}: {run.reviewed:,} of {run.total:,} looked at,"
                    f" {run.collected:,} collected, {run.size:,} bytes"
                )
        except KeyboardInterrupt:
            garbage.stop(collection)
            garbage.run(collection.pk)
            raise
        return collection


def _projects(name: str | None) -> list[Project | None]:
    return [organizations.find_project(name)] if name else [*Project.objects.order_by("name"), None]
