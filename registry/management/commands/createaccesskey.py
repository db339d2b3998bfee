"""``manage.py createaccesskey EMAIL``"""

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser
from django.utils import timezone

from accounts import keys, organizations
from accounts.actors import command_actor
from accounts.errors import Refusal
from registry.management.json_command import JsonCommand

MAX_DAYS = 36_500


class Command(JsonCommand):
    help = "Make an access key for docker login: prints its id (the user name) and its secret (the password), once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--name", default="command line")
        parser.add_argument("--project", help="good in this project only")
        parser.add_argument("--pull-only", action="store_true")
        parser.add_argument("--expires-days", type=int, help="ends after so many days (default: never)")

    def run(self, **options: Any) -> dict[str, Any]:
        days = options["expires_days"]
        if days is not None and not 1 <= days <= MAX_DAYS:
            raise Refusal(f"a key expires after 1 to {MAX_DAYS} days, or never")
        new = keys.create(
            organizations.find_user(options["email"]),
            options["name"],
            project=organizations.find_project(options["project"]) if options["project"] else None,
            pull_only=options["pull_only"],
            expires_at=timezone.now() + timedelta(days=days) if days is not None else None,
            by=command_actor("createaccesskey"),
        )
        return {"id": new.key.identifier, "secret": new.secret}
