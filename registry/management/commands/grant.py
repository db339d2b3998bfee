"""``manage.py grant PROJECT/REPOSITORY EMAIL member|viewer``"""

from typing import Any

from django.core.management.base import CommandParser

from accounts import organizations
from accounts.actors import command_actor
from accounts.management.json_command import JsonCommand
from accounts.models import RepositoryRole
from registry import repositories


class Command(JsonCommand):
    help = "Give a user of the organization a role on one repository."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", metavar="PROJECT/REPOSITORY")
        parser.add_argument("email")
        parser.add_argument("role", choices=RepositoryRole.values, help="member: pull and push; viewer: pull")

    def run(self, **options: Any) -> dict[str, Any]:
        repository = repositories.find(options["path"])
        user = organizations.find_user(options["email"])
        role = RepositoryRole(options["role"])
        changed = repositories.set_role(command_actor("grant"), repository, user, role)
        return {"repository": str(repository), "user": user.email, "role": role, "changed": changed is not None}
