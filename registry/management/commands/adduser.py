"""``manage.py adduser EMAIL --organization NAME``"""

import sys
from typing import Any

from django.core.management.base import CommandParser

from accounts import organizations
from accounts.actors import command_actor
from accounts.errors import Refusal
from accounts.management.json_command import JsonCommand
from accounts.models import OrganizationRole, ProjectRole
from registry import members


class Command(JsonCommand):
    help = "Add a user to an organization, and give roles in its projects."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--organization", required=True)
        parser.add_argument("--name", default="", help="the name that people read")
        parser.add_argument("--role", choices=OrganizationRole.values, help="in the organization (default: member)")
        parser.add_argument(
            "--project",
            action="append",
            default=[],
            metavar="PROJECT:ROLE",
            help=f"a role in a project: {', '.join(ProjectRole.values)}; may be repeated",
        )
        parser.add_argument(
            "--password-stdin", action="store_true", help="read the console password from standard input"
        )

    def run(self, **options: Any) -> dict[str, Any]:
        roles = [_role(text) for text in options["project"]]
        organization = organizations.find_organization(options["organization"])
        actor = command_actor("adduser")
        given = {
            "name": options["name"],
            "password": sys.stdin.readline().rstrip("\n") if options["password_stdin"] else None,
        }
        user, created = organizations.add_user(organization, options["email"], role=options["role"], **given, by=actor)
        if not created:
            organizations.update_user(actor, user, **given)
        if options["role"]:
            members.set_organization_role(actor, organization, user, OrganizationRole(options["role"]))
        for project, role in roles:
            members.set_role(actor, organizations.find_project(project), user, role)
        return {"user": user.email, "created": created}


def _role(text: str) -> tuple[str, ProjectRole]:
    project, _, role = text.partition(":")
    if role not in ProjectRole.values:
        raise Refusal(f"--project takes PROJECT:ROLE, the role one of {', '.join(ProjectRole.values)}")
    return project, ProjectRole(role)
