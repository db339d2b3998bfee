"""``manage.py createproject ORGANIZATION PROJECT``"""

from typing import Any

from django.core.management.base import CommandParser

from accounts import organizations
from accounts.actors import command_actor
from accounts.management.json_command import JsonCommand
from registry import hosts, projects


class Command(JsonCommand):
    help = "Make a project. Its ID becomes part of every image URI and never changes."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("organization")
        parser.add_argument("project", help="3 to 40 of a-z 0-9 -, starts with a letter; unique in the installation")
        parser.add_argument("--display-name", default="", help="the name that people read")

    def run(self, **options: Any) -> dict[str, Any]:
        organization = organizations.find_organization(options["organization"])
        actor, display_name = command_actor("createproject"), options["display_name"]
        project, created = projects.create(actor, organization, options["project"], display_name=display_name)
        if display_name and not created:
            projects.update(actor, project, display_name=display_name)
        return {"project": project.name, "created": created, "host": hosts.Host(project.name).service}
