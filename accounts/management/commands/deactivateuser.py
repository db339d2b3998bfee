"""``manage.py deactivateuser EMAIL``"""

from typing import Any

from django.core.management.base import CommandParser

from accounts import organizations
from accounts.actors import command_actor
from accounts.management.json_command import JsonCommand
from accounts.models import AccessKey


class Command(JsonCommand):
    help = "Shut a user out at once: sessions end, access keys and tokens fail until activateuser. Roles are kept."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def run(self, **options: Any) -> dict[str, Any]:
        user = organizations.find_user(options["email"])
        keys = AccessKey.objects.alive().filter(user=user).values_list("identifier", flat=True)
        stopped = sorted(keys)
        changed = organizations.deactivate(command_actor("deactivateuser"), user)
        return {
            "user": user.email,
            "active": False,
            "changed": changed,
            "stopped_access_keys": stopped,
            "organizations_without_owner": [each.name for each in organizations.without_owner(user)],
        }
