"""``manage.py rotatesigningkey``"""

from typing import Any

from django.core.management.base import CommandParser

from accounts import tokens
from accounts.actors import command_actor
from accounts.management.json_command import JsonCommand


class Command(JsonCommand):
    help = "Sign tokens with a new key from now on. Tokens in use stay valid until they run out."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--forget-others",
            action="store_true",
            help="delete all other signing keys, after a leak: every token in use fails, and clients ask for a new one",
        )

    def run(self, **options: Any) -> dict[str, Any]:
        actor = command_actor("rotatesigningkey")
        if options["forget_others"]:
            return {"rotated": True, "forgotten": tokens.replace_signing_keys(actor)}
        return {"rotated": tokens.rotate_signing_key(actor)}
