"""Commands for scripts: one JSON object on standard output, a refusal in words on standard error, safe to repeat."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounts.errors import Refusal

#: The tag of the system checks that commands run (registry.checks). To check pages and models as well takes longer than
#: the commands do.
CHECKS = "kcr"


def say(command: BaseCommand, **answer: Any) -> None:
    """Print the answer of a command as JSON."""
    command.stdout.write(json.dumps(answer))


class JsonCommand(BaseCommand):
    """A command whose ``run`` returns the JSON object to print."""

    requires_system_checks = (CHECKS,)

    def run(self, **options: Any) -> dict[str, Any]:
        """Carry the command out. May raise Refusal."""
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the answer as JSON; a refusal ends with status 1."""
        try:
            with transaction.atomic():
                answer = self.run(**options)
        except Refusal as error:
            raise CommandError(str(error)) from error
        self.print(answer)

    def print(self, answer: dict[str, Any]) -> None:
        """Print what ``run`` returned, when it has been committed."""
        say(self, **answer)
