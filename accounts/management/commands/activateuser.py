"""``manage.py activateuser EMAIL``"""

from typing import Any

from django.core.management.base import CommandParser

from accounts import organizations
from accounts.actors import command_actor
from accounts.management.json_command import JsonCommand
from accounts.models import AccessKey


class Command(JsonCommand):
    help = "Let a deactivated user in again. Their access keys work again, but for those that were revoked or expired."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")

    def run(self, **options: Any) -> dict[str, Any]:
        user = organizations.find_user(options["email"])
        changed = organizations.activate(command_actor("activateuser"), user)
        keys = AccessKey.objects.alive().filter(user=user).values_list("identifier", flat=True)
        return {"user": user.email, "active": True, "changed": changed, "access_keys": sorted(keys)}
