"""A real KCR, started as by an operator, on a free port of the loopback address."""

import http.client
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest

from tests.support import PASSWORD
from tests.support.once import made_once
from tests.support.programs import (
    Daemon,
    PostgresServer,
    TemporaryFolder,
    environment_for,
    free_port,
    require_postgres,
    run,
)
from tests.support.registry_client import RegistryClient
from tests.support.visitor import Visitor

SOURCE = Path(__file__).resolve().parents[2]
REGION = "kr-central-2"
DOMAIN = "kcr.localhost"
ORGANIZATION = "acme"
PROJECT = "demo"
NO_SETTINGS: Mapping[str, str] = {}


# Migrating takes seconds of processor time, so the servers of the tests start with copies of a migrated database.
def empty_database() -> bytes:
    """Return a migrated SQLite database."""
    return made_once("sqlite", _migrated_sqlite)


def _migrated_sqlite() -> bytes:
    with TemporaryFolder("database") as made:
        _migrate(made.folder, KCR_DATA_DIR=str(made.folder))
        return (made.folder / "kcr.sqlite3").read_bytes()


def _migrated_postgres() -> bytes:
    with PostgresServer("database") as made:
        _migrate(made.folder, KCR_DATA_DIR=str(made.folder / "kcr"), KCR_DATABASE_URL=made.url)
        dump = run([require_postgres("pg_dump"), "--no-owner", made.url], environment=environment_for(made.folder))
        return dump.output.encode()


def _migrate(home: Path, **settings: str) -> None:
    command = [sys.executable, str(SOURCE / "manage.py"), "migrate"]
    run(command, environment=environment_for(home, **settings), directory=SOURCE, timeout=600)


def _is_empty(url: str) -> bool:
    """Return whether a PostgreSQL database has no table of KCR."""
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT to_regclass('django_migrations')").fetchone() == (None,)


@dataclass(frozen=True)
class AccessKey:
    """An access key."""

    id: str
    secret: str


class Server(Daemon):
    """A KCR with its own data, port and database.

    ``settings`` are further ``KCR_`` variables, such as ``KCR_DATABASE_URL``. Leaving the context ends the
    server and fails when it does not end with status 0. Clients connect to ``port``: the server listens there
    itself, unless ``tests.support.nginx.behind_nginx`` has put a proxy in front.
    """

    start_timeout = 240.0  # so slow is a crowded machine
    stop_timeout = 40.0
    proxy: Daemon | None = None

    def __init__(self, name: str = "server", settings: Mapping[str, str] = NO_SETTINGS) -> None:
        super().__init__(name)
        self.port = self.own_port = free_port()
        self.settings = dict(settings)

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    @property
    def host(self) -> str:
        """The bare host, where names begin with the project."""
        return f"localhost:{self.port}"

    @property
    def address_host(self) -> str:
        """The bare host by its address."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address of the console."""
        return f"http://{self.host}"

    def connect(self, timeout: float = 60) -> http.client.HTTPConnection:
        """Open a connection to the port of clients."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def project_host(self, project: str = PROJECT) -> str:
        """Return the host of a project, where names begin with the repository."""
        return f"{project}.{REGION}.{DOMAIN}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the server and of ``manage.py``."""
        return environment_for(
            self.folder,
            DJANGO_SETTINGS_MODULE="registry.settings",
            KCR_DATA_DIR=str(self.data),
            KCR_LISTEN=f"127.0.0.1:{self.own_port}",
            KCR_PUBLIC_URL=self.url,
            KCR_DOMAIN=DOMAIN,
            KCR_REGION=REGION,
            **self.settings,
        )

    def start(self) -> None:
        """Create the database and start the server. Returns when the server is ready."""
        self.migrate()
        self.serve()

    def migrate(self) -> None:
        """Create the database."""
        url = self.settings.get("KCR_DATABASE_URL")
        if not url:
            self.data.mkdir(mode=0o700)
            (self.data / "kcr.sqlite3").write_bytes(empty_database())
        elif _is_empty(url):
            made = made_once("postgresql", _migrated_postgres).decode()
            command = [require_postgres("psql"), "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", url]
            run(command, environment=environment_for(self.folder), text_input=made)
        else:
            run(self.command("migrate"), environment=self.environment, directory=SOURCE, timeout=600)

    def serve(self) -> None:
        """Start the server on its existing data."""
        self.launch(self.command("serve"), self.environment, cwd=SOURCE)
        if not self.await_ready(self.is_ready):
            pytest.fail(f"the server is not ready after {self.start_timeout} seconds:\n{self.said()}")

    def python(self, *arguments: str) -> list[str]:
        """Return the command line of the interpreter."""
        return [sys.executable, *arguments]

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of ``manage.py``."""
        return self.python(str(SOURCE / "manage.py"), *arguments)

    def is_ready(self) -> bool:
        """Return whether the server is ready."""
        try:
            answer = self.client().ask("GET", "/readyz")
        except (OSError, http.client.HTTPException):
            return False
        return answer.status == http.client.OK

    def manage(self, *arguments: str) -> Any:
        """Run a command of ``manage.py``. Return its JSON output, None without output."""
        return self._said(self.command(*arguments))

    def manage_all(self, *lines: Sequence[str]) -> list[Any]:
        """Run several commands of ``manage.py`` in one process, in this order. Return the output of each."""
        command = self.python("-m", "tests.support.commands")
        output = run(command, environment=self.environment, directory=SOURCE, text_input=json.dumps(lines)).output
        answers: list[Any] = json.loads(output)
        return answers

    def run_module(self, module: str, *arguments: str) -> Any:
        """Run ``python -m MODULE`` beside the server. Return its JSON output, None without output."""
        return self._said([sys.executable, "-m", module, *arguments])

    def work(self, module: str, function: str, *arguments: str) -> Any:
        """Call a function of tests/workers/MODULE.py in a process beside the server. Return its result."""
        return self.run_module("tests.workers", module, function, *arguments)

    def _said(self, command: list[str]) -> Any:
        output = run(command, environment=self.environment, directory=SOURCE).output
        return json.loads(output) if output.strip() else None

    def end(self) -> None:
        """Stop the server as an operator does. Fail if its exit status is not 0."""
        status = self.stop()
        if status not in (None, 0):
            pytest.fail(f"the server ended with status {status}:\n{self.said()}")

    def close(self) -> None:
        """Stop the server and remove its data."""
        try:
            self.end()
        finally:
            super().close()

    def access_key(self, email: str, *options: str) -> AccessKey:
        """Create an access key of a person; ``options`` are those of ``createaccesskey``."""
        made = self.manage("createaccesskey", email, *options)
        return AccessKey(made["id"], made["secret"])

    def client(self, key: AccessKey | None = None, *, project: str | None = None) -> RegistryClient:
        """Return a client of the registry API, on the bare host or on a project's."""
        return RegistryClient(self, key, host=self.project_host(project) if project else "")

    def visitor(self, email: str, *options: str) -> Visitor:
        """Create a user of the organization with these options of ``adduser``, and sign in to the console."""
        command = self.command("adduser", email, "--organization", ORGANIZATION, *options, "--password-stdin")
        run(command, environment=self.environment, directory=SOURCE, text_input=PASSWORD)
        return Visitor(self, email)


class LiveServer(Server):
    """A server with one project, one repository and one member with a key."""

    key: AccessKey

    def people(self) -> Self:
        """Create them."""
        *_, made = self.manage_all(
            ["createorganization", ORGANIZATION],
            ["createproject", ORGANIZATION, PROJECT],
            ["createrepository", f"{PROJECT}/web"],
            ["adduser", "member@acme.test", "--organization", ORGANIZATION, "--project", f"{PROJECT}:member"],
            ["createaccesskey", "member@acme.test"],
        )
        self.key = AccessKey(made["id"], made["secret"])
        return self

    def restart(self, **settings: str) -> None:
        """Kill everything and serve again on the same data, with these further settings."""
        self.crash()
        self.settings = {name: value for name, value in self.settings.items() if name != "KCR_FAILPOINT"} | settings
        self.serve()

    def api(self, image: str = f"{PROJECT}/web/app") -> RegistryClient:
        """Return a client of the member with a token for this image."""
        return RegistryClient(self, self.key, image=image).authorized()


class People:
    """The people of the tests, named by their role, each with an access key.

    Project ``demo`` has the repositories ``web`` (private), ``public`` and ``fixed`` (private, no tag
    overwrite). ``admin``, ``member`` and ``reader`` belong to the project, ``pusher`` and ``viewer`` hold a
    grant on ``web``, ``stranger`` is of the same organization and holds nothing.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        server.manage_all(
            ["createorganization", ORGANIZATION],
            ["createproject", ORGANIZATION, PROJECT],
            ["createrepository", f"{PROJECT}/web"],
            ["createrepository", f"{PROJECT}/public", "--public"],
            ["createrepository", f"{PROJECT}/fixed", "--no-tag-overwrite"],
        )
        self.admin = self.add("admin", "--project", f"{PROJECT}:admin")
        self.member = self.add("member", "--project", f"{PROJECT}:member")
        self.reader = self.add("reader", "--project", f"{PROJECT}:reader")
        self.pusher = self.add("pusher", grant="member")
        self.viewer = self.add("viewer", grant="viewer")
        self.stranger = self.add("stranger")

    def add(self, name: str, *options: str, grant: str | None = None) -> AccessKey:
        """Create a user of the organization, perhaps with a role on ``web``. Return the user's access key."""
        email = self.email(name)
        *_, made = self.server.manage_all(
            ["adduser", email, "--organization", ORGANIZATION, *options],
            *([["grant", f"{PROJECT}/web", email, grant]] if grant else []),
            ["createaccesskey", email, "--name", "tests"],
        )
        return AccessKey(made["id"], made["secret"])

    def revoke(self, name: str) -> None:
        """Remove a person's role on ``web``."""
        self.server.manage("revoke", f"{PROJECT}/web", self.email(name))

    @staticmethod
    def email(name: str) -> str:
        """Return the sign-in address of a person."""
        return f"{name}@acme.test"
