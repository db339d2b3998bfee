"""``manage.py createrepository PROJECT/REPOSITORY``"""

from typing import Any

from django.core.management.base import CommandParser

from accounts import organizations
from accounts.actors import command_actor
from accounts.errors import Refusal
from accounts.management.json_command import JsonCommand
from registry import repositories

OPTIONS = {
    "description": "--description",
    "is_public": "--public",
    "tag_overwrite": "--no-tag-overwrite",
    "auto_scan": "--scan",
}


class Command(JsonCommand):
    help = "Make a repository. Its name never changes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", metavar="PROJECT/REPOSITORY")
        parser.add_argument("--description", default="")
        parser.add_argument("--public", action="store_true", help="everyone may pull, without login")
        parser.add_argument("--no-tag-overwrite", action="store_true", help="a tag cannot be moved to another digest")
        parser.add_argument("--scan", choices=("auto", "manual"), help="when images are scanned (default: auto)")

    def run(self, **options: Any) -> dict[str, Any]:
        project, _, name = options["path"].partition("/")
        wanted = _settings(options)
        repository, created = repositories.create(
            command_actor("createrepository"), organizations.find_project(project), name, **wanted
        )
        present = repositories.settings_of(repository)
        if other := [OPTIONS[setting] for setting, value in wanted.items() if present[setting] != value]:
            raise Refusal(
                f"{repository} exists with other settings ({', '.join(other)}): change them in the console, or leave"
                " these options out"
            )
        return {
            "repository": str(repository),
            "created": created,
            "public": repository.is_public,
            "tag_overwrite": repository.tag_overwrite,
            "scan": "auto" if repository.auto_scan else "manual",
        }


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """The settings that the options name."""
    named = {
        "description": options["description"] or None,
        "is_public": options["public"] or None,
        "tag_overwrite": False if options["no_tag_overwrite"] else None,
        "auto_scan": options["scan"] == "auto" if options["scan"] else None,
    }
    return {setting: value for setting, value in named.items() if value is not None}
