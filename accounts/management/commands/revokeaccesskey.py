"""``manage.py revokeaccesskey ID``"""

from typing import Any

from django.core.management.base import CommandParser

from accounts import organizations
from accounts.actors import command_actor
from accounts.management.json_command import JsonCommand


class Command(JsonCommand):
    help = "End an access key of any user at once; its tokens fail at their next request. Its holder gets a mail."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("id", help="the key's ID: KCRK and 16 letters and digits")

    def run(self, **options: Any) -> dict[str, Any]:
        key = organizations.find_key(options["id"])
        changed = organizations.revoke_key(command_actor("revokeaccesskey"), key)
        return {"id": key.identifier, "name": key.name, "user": key.user.email, "revoked": True, "changed": changed}
