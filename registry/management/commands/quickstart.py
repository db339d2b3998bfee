"""``manage.py quickstart``: everything on one machine, from nothing, in one process tree."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.utils.crypto import get_random_string

from accounts import keys, organizations
from accounts.actors import command_actor
from accounts.errors import Refusal
from accounts.models import OrganizationRole, User
from registry import env, hosts, projects, repositories
from registry.models import Repository

ORGANIZATION, PROJECT, REPOSITORY = "home", "demo", "web"
FIRST_SIGN_IN = "first-sign-in.txt"
SCANNER = ("--concurrency=2", "--hostname=scanner@%h", "--loglevel=WARNING")
RESTART_SECONDS = (1, 2, 5, 10, 30)
STABLE_SECONDS = 60
STOP_SECONDS = 40


@dataclass
class Child:
    """One process of the tree."""

    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    crashes: int = field(default=0)

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches the parent alone, which stops all in order."""
        self.process = subprocess.Popen(self.command, start_new_session=True)
        self.started_at, self.restart_at = time.monotonic(), 0.0

    def seconds_until_restart(self) -> int:
        """How long to wait after this crash: longer each time, from the start again after a good minute."""
        self.crashes = 0 if time.monotonic() - self.started_at > STABLE_SECONDS else self.crashes
        seconds = RESTART_SECONDS[min(self.crashes, len(RESTART_SECONDS) - 1)]
        self.crashes += 1
        return seconds


class Command(BaseCommand):
    help = "Prepare the database, make a first project and admin, and run web server, worker and beat until Ctrl-C."

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until SIGINT or SIGTERM; returns when every child has ended."""
        self.stopping = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.stop)
        call_command("check", fail_level="ERROR", databases=["default"], stdout=StringIO())
        call_command("migrate", verbosity=0, interactive=False)
        check_addresses()
        self.introduce()
        self.supervise(
            [
                Child("web server", [sys.executable, sys.argv[0], "serve"]),
                Child("worker", [*_celery(), "worker", "--concurrency=1", "--loglevel=WARNING"]),
                Child("scanner", [*_celery(), "worker", "--queues=scans", "--pool=threads", *SCANNER]),
                # No pid file: one left by a power cut would prevent the next start.
                Child("beat", [*_celery(), "beat", "--loglevel=WARNING", "--pidfile="]),
            ]
        )

    def stop(self, *args: Any) -> None:
        """Make ``supervise`` stop."""
        self.stopping = True

    def introduce(self) -> None:
        """If there is no user, make the first organization, project, repository and owner. Show a first push."""
        if not User.objects.exists():
            email, password = settings.ADMIN_EMAIL, settings.ADMIN_PASSWORD
            shown = password or get_random_string(20)
            actor = command_actor("quickstart")
            organization, _ = organizations.create_organization(ORGANIZATION)
            project, _ = projects.create(actor, organization, PROJECT, display_name="First project")
            repositories.create(actor, project, REPOSITORY)
            try:
                user, _ = organizations.add_user(
                    organization, email, role=OrganizationRole.OWNER, password=shown, by=actor
                )
            except Refusal as error:
                raise CommandError(f"KCR_ADMIN_EMAIL and KCR_ADMIN_PASSWORD: {error}") from error
            organizations.set_operator(actor, user, is_operator=True)
            key = keys.create(user, "quickstart", by=actor)
            self.hand_over(
                f"  console   {user.email}  {'(your password)' if password else shown}\n"
                f"  registry  {key.key.identifier}  {key.secret}\n"
            )
        host = hosts.BARE.service
        repository = Repository.objects.live().order_by("pk").first()
        image = f"{host}/{repository or 'PROJECT/REPOSITORY'}/hello:1"
        self.stdout.write(f"KCR serves console and registry at {settings.PUBLIC_URL} (Ctrl-C stops it)\n")
        self.stdout.write(f"A first push:\n  docker login {host}\n")
        self.stdout.write(f"  echo hello > hello.txt && tar c hello.txt | docker import - {image}\n")
        self.stdout.write(f"  docker push {image}\n")
        self.stdout.flush()

    def hand_over(self, credentials: str) -> None:
        """Show the first credentials at a terminal. Other outputs are kept as logs: there, write them to a file."""
        made = "A first project and its owner have been made."
        if self.stdout.isatty():
            self.stdout.write(f"{made} This is shown once:\n\n{credentials}\n")
            return
        path = settings.DATA_DIR / FIRST_SIGN_IN
        env.write_private(path, credentials)
        self.stdout.write(f"{made} Read its password and access key in {path}, then delete the file.\n")

    def supervise(self, children: list[Child]) -> None:
        """Keep the children running until told to stop; then stop them all and wait."""
        for child in children:
            child.start()
        while not self.stopping:
            for child in children:
                self.look_after(child)
            time.sleep(0.2)
        self.stdout.write("Stopping…")
        for child in children:
            if child.process and child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in children:
            _wait(child, deadline)
        self.stdout.write("Stopped.")

    def look_after(self, child: Child) -> None:
        """Restart a crashed child after a pause, and print it."""
        if child.restart_at:
            if time.monotonic() >= child.restart_at:
                child.start()
        elif child.process and child.process.poll() is not None:
            seconds = child.seconds_until_restart()
            child.restart_at = time.monotonic() + seconds
            self.stderr.write(f"The {child.name} ended ({_ending(child.process.returncode)}); again in {seconds} s.")


def check_addresses() -> None:
    """Raises CommandError when KCR_LISTEN is in use: the server would only crash again and again."""
    for address in settings.LISTEN.split(","):
        host, _, port = address.rpartition(":")
        family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host.strip("[]"), int(port)))
            except (OSError, OverflowError, ValueError) as error:
                raise CommandError(
                    f"KCR cannot listen at {address}: {error}. Another address: KCR_LISTEN=127.0.0.1:8090"
                    " KCR_PUBLIC_URL=http://localhost:8090"
                ) from error


def _celery() -> list[str]:
    quiet = ["-W", "ignore"] if os.geteuid() == 0 else []  # hides Celery's warning about root
    return [sys.executable, *quiet, "-m", "celery", "--app=registry", "--quiet"]


def _ending(status: int) -> str:
    return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"


def _wait(child: Child, deadline: float) -> None:
    if child.process is None:
        return
    try:
        child.process.wait(max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
