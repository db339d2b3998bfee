"""``manage.py createorganization NAME``"""

from typing import Any

from django.core.management.base import CommandParser

from accounts import organizations
from accounts.management.json_command import JsonCommand


class Command(JsonCommand):
    help = "Make an organization: the people and projects of one company or team."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="2 to 64 letters, digits, - or _")
        parser.add_argument("--display-name", default="", help="the name that people read")

    def run(self, **options: Any) -> dict[str, Any]:
        organization, created = organizations.create_organization(options["name"], options["display_name"])
        return {"organization": organization.name, "created": created}
