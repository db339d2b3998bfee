"""``manage.py createaccesskey EMAIL [--docker-login]``"""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser
from django.utils import timezone

from accounts import keys, limits, organizations
from accounts.actors import command_actor
from accounts.errors import Refusal
from accounts.management.json_command import JsonCommand, say
from accounts.models import Project
from registry import hosts

MAX_DAYS = 36_500


class Command(JsonCommand):
    help = (
        "Make an access key for docker login: prints its id (the user name) and its secret (the password), once."
        " With --docker-login it prints a line for sh that logs docker in instead:"
        " manage.py createaccesskey EMAIL --docker-login | sh. Docker reads the secret from its standard input, so the"
        " secret is in no list of processes; piped to sh, it is in no shell history and on no screen either."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--name", default="command line")
        parser.add_argument("--project", help="good in this project only")
        limit = parser.add_mutually_exclusive_group()
        limit.add_argument("--pull-only", action="store_true", help="the same as --actions pull")
        limit.add_argument(
            "--actions",
            nargs="+",
            choices=limits.ACTIONS,
            metavar="ACTION",
            help=f"the only actions that it allows: {', '.join(limits.ACTIONS)} (default: all)",
        )
        parser.add_argument(
            "--repositories",
            nargs="+",
            default=[],
            metavar="REPOSITORY",
            help="the only repositories in which it is good, such as shop/web shop/team-*; with --project or for a"
            " service account of a project web is enough",
        )
        parser.add_argument(
            "--networks",
            nargs="+",
            default=[],
            metavar="NETWORK",
            help="the only addresses or networks from which it is good, such as 10.0.0.0/8",
        )
        parser.add_argument("--uncounted", action="store_true", help="pulls with it are not counted")
        parser.add_argument("--management", action="store_true", help="it may use the management API, /api/v1/")
        parser.add_argument("--expires-days", type=int, help="ends after so many days (default: never)")
        parser.add_argument("--docker-login", action="store_true", help="print a line for sh that logs docker in")

    def run(self, **options: Any) -> dict[str, Any]:
        days = options["expires_days"]
        if days is not None and not 1 <= days <= MAX_DAYS:
            raise Refusal(f"a key expires after 1 to {MAX_DAYS} days, or never")
        project = organizations.find_project(options["project"]) if options["project"] else None
        host = _host_for(project) if options["docker_login"] else None
        new = keys.create(
            organizations.find_user(options["email"]),
            options["name"],
            project=project,
            only=limits.Limits(
                ["pull"] if options["pull_only"] else options["actions"] or limits.ACTIONS,
                " ".join(options["repositories"]),
                " ".join(options["networks"]),
            ),
            counts_pulls=not options["uncounted"],
            management=options["management"],
            expires_at=timezone.now() + timedelta(days=days) if days is not None else None,
            by=command_actor("createaccesskey"),
        )
        return {"id": new.key.identifier, "secret": new.secret, "host": host}

    def print(self, answer: dict[str, Any]) -> None:
        host = answer.pop("host")
        if host is None:
            say(self, **answer)
            return
        # printf is a part of sh, not a process whose arguments others can read. Both values need no quotes.
        self.stdout.write(
            f"printf %s {answer['secret']} | docker login {host} --username {answer['id']} --password-stdin"
        )


def _host_for(project: Project | None) -> str:
    """The host to log in at. Raises Refusal when only hosts of projects are served, and the key is for no project."""
    if settings.BARE_HOST_NAMES:
        return hosts.BARE.service
    if project is None:
        raise Refusal("this installation serves project hosts only: give --project, or log in without --docker-login")
    return hosts.Host(project.name).service
