"""``manage.py createrepository PROJECT/REPOSITORY``"""

from typing import Any

from django.core.management.base import CommandParser

from accounts import organizations
from accounts.actors import command_actor
from accounts.management.json_command import JsonCommand
from registry import repositories


class Command(JsonCommand):
    help = "Make a repository. Its name never changes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", metavar="PROJECT/REPOSITORY")
        parser.add_argument("--description", default="")
        parser.add_argument("--public", action="store_true", help="everyone may pull, without login")
        parser.add_argument("--no-tag-overwrite", action="store_true", help="a tag cannot be moved to another digest")
        parser.add_argument("--scan", choices=("auto", "manual"), default="auto", help="when images are scanned")

    def run(self, **options: Any) -> dict[str, Any]:
        project, _, name = options["path"].partition("/")
        repository, created = repositories.create(
            command_actor("createrepository"),
            organizations.find_project(project),
            name,
            description=options["description"],
            is_public=options["public"],
            tag_overwrite=not options["no_tag_overwrite"],
            auto_scan=options["scan"] == "auto",
        )
        return {
            "repository": str(repository),
            "created": created,
            "public": repository.is_public,
            "tag_overwrite": repository.tag_overwrite,
            "scan": "auto" if repository.auto_scan else "manual",
        }
