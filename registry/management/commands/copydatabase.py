"""``manage.py copydatabase SOURCE``"""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from accounts.management.json_command import say
from registry import database_copy


class Command(BaseCommand):
    help = (
        "Copy all rows from another database into the empty one of KCR_DATABASE_URL, such as from SQLite to"
        " PostgreSQL. Stop KCR first. Run it again to continue after it was stopped. The source is not changed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", help="sqlite:///srv/kcr/kcr.sqlite3 or postgres://user:password@host/name")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print one JSON object: numbers of tables and rows."""
        rows: dict[str, int] = {}
        try:
            for progress in database_copy.copy(options["source"]):
                rows[progress.table] = progress.rows
                if progress.total:
                    self.stderr.write(f"{progress.step} {progress.table}: {progress.rows:,} of {progress.total:,}")
        except database_copy.Unfit as error:
            raise CommandError("\n".join([*error.problems, str(error)])) from error
        except database_copy.Refused as error:
            raise CommandError(str(error)) from error
        except ValueError as error:
            raise CommandError(f"this database cannot be used: {error}") from error
        except DatabaseError as error:
            raise CommandError(f"a database does not do what it is asked: {error}; run this again to go on") from error
        except KeyboardInterrupt:
            raise CommandError("stopped; run this again to go on") from None
        say(self, tables=len(rows), rows=sum(rows.values()))
        target = settings.DATABASES["default"]
        where = f"on {target['HOST'] or 'this machine'}" if target["ENGINE"].endswith("postgresql") else "(SQLite)"
        self.stderr.write(
            f"All rows are there. Give every process of KCR the KCR_DATABASE_URL of this command, which is"
            f" {target['NAME']} {where}, and start KCR. Keep the source until you have seen it work."
        )
