"""``manage.py setorganizationquota ORGANIZATION --bytes SIZE``"""

from typing import Any

from django.core.management.base import CommandParser

from accounts import organizations
from accounts.actors import command_actor
from accounts.management.json_command import JsonCommand
from registry.management.commands.setquota import NONE, size_or_none


class Command(JsonCommand):
    help = "Limit the stored bytes of all projects of an organization. A limit below the present size deletes nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization")
        parser.add_argument("--bytes", type=size_or_none, metavar="SIZE", required=True, help="such as 2TB; none: any")

    def run(self, **options: Any) -> dict[str, Any]:
        organization = organizations.find_organization(options["organization"])
        limit = None if options["bytes"] == NONE else options["bytes"]
        organizations.set_size_limit(command_actor("setorganizationquota"), organization, limit)
        return {"organization": organization.name, "bytes": limit}
