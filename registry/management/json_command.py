"""Commands for scripts: one JSON object on standard output, refusals in words on standard error, safe to repeat."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from accounts.keys import KeyRefused
from accounts.organizations import Refused
from registry.checks import OURS
from registry.errors import RegistryError


def say(command: BaseCommand, **answer: Any) -> None:
    """Print the answer of a command as JSON."""
    command.stdout.write(json.dumps(answer))


class JsonCommand(BaseCommand):
    """A command whose ``run`` returns what to print."""

    requires_system_checks = (OURS,)

    def run(self, **options: Any) -> dict[str, Any]:
        """Do it. May raise Refused, KeyRefused or RegistryError."""
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the answer as JSON; a refusal ends with status 1."""
        try:
            with transaction.atomic():
                answer = self.run(**options)
        except (Refused, KeyRefused, RegistryError) as error:
            raise CommandError(str(error)) from error
        say(self, **answer)
