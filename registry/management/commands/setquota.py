"""``manage.py setquota PROJECT [--repositories N] [--images N] [--tags N] [--digests N] [--bytes SIZE]``"""

import re
from decimal import Decimal
from typing import Any

from django.core.management.base import CommandParser

from accounts import organizations
from accounts.actors import command_actor
from accounts.management.json_command import JsonCommand
from registry import projects, quotas

NONE = -1  # no limit


class Command(JsonCommand):
    help = "Change the quotas of a project. A limit below the present number deletes nothing, and refuses more."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("project")
        parser.add_argument("--repositories", type=_limit, metavar="N", help="repositories in the project")
        parser.add_argument("--images", type=_limit, metavar="N", help="images in each repository")
        parser.add_argument("--tags", type=_limit, metavar="N", help="tags of each image")
        parser.add_argument(
            "--digests", type=_limit, metavar="N", help="digests of each image, those in Recovery included"
        )

        parser.add_argument("--bytes", type=size_or_none, metavar="SIZE", help="stored bytes, such as 500GB; none: any")

    def run(self, **options: Any) -> dict[str, Any]:
        project = organizations.find_project(options["project"])
        wanted = {field: options[name] for name, field in quotas.LIMITS.items() if options[name] is not None}
        if wanted.get("size_limit") == NONE:
            wanted["size_limit"] = None
        projects.update(command_actor("setquota"), project, **wanted)
        return {"project": project.name, **{name: getattr(project, field) for name, field in quotas.LIMITS.items()}}


def size_or_none(text: str) -> int:
    """Bytes of a size such as 500GB or 1.5TB (units of 1,000); NONE for "none". Raises ValueError."""
    if text.lower() == "none":
        return NONE
    found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)\s*([kMGTP]?)B?", text, re.ASCII)
    if found is None:
        raise ValueError(text)
    return int(Decimal(found[1]) * 1000 ** " kMGTP".index(found[2] or " "))


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 10_000_000:
        raise ValueError(text)
    return int(text)
