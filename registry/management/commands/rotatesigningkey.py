"""``manage.py rotatesigningkey``"""

from typing import Any

from accounts import tokens
from registry.management.json_command import JsonCommand


class Command(JsonCommand):
    help = "Sign tokens with a new key from now on. Tokens in use stay valid until they run out."

    def run(self, **options: Any) -> dict[str, Any]:
        return {"rotated": tokens.rotate_signing_key()}
