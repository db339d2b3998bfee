"""``manage.py revoke PROJECT/REPOSITORY EMAIL``"""

from typing import Any

from django.core.management.base import CommandParser

from accounts import organizations
from accounts.actors import command_actor
from accounts.management.json_command import JsonCommand
from registry import repositories


class Command(JsonCommand):
    help = "Remove a user's role on one repository. Their tokens lose it at the next request."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", metavar="PROJECT/REPOSITORY")
        parser.add_argument("email")

    def run(self, **options: Any) -> dict[str, Any]:
        repository = repositories.find(options["path"])
        user = organizations.find_user(options["email"])
        changed = repositories.set_role(command_actor("revoke"), repository, user, None)
        return {"repository": str(repository), "user": user.email, "role": None, "changed": changed is not None}
