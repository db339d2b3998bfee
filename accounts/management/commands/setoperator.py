"""``manage.py setoperator EMAIL [--off]``"""

from typing import Any

from django.core.management.base import CommandParser

from accounts import organizations
from accounts.actors import command_actor
from accounts.management.json_command import JsonCommand


class Command(JsonCommand):
    help = "Let a user see the pages of operators in the console. It gives no right in any organization or project."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--off", action="store_true", help="make the user no operator")

    def run(self, **options: Any) -> dict[str, Any]:
        user = organizations.find_user(options["email"])
        is_operator = not options["off"]
        changed = organizations.set_operator(command_actor("setoperator"), user, is_operator=is_operator)
        return {"user": user.email, "operator": is_operator, "changed": changed}
