"""Programs that are used with a registry, started and stopped by tests.

Docker daemons, podman, buildah, skopeo, containerd's ctr, PostgreSQL, Redis and Trivy: each gets its own folders,
configuration and credentials below a temporary folder, so that no file of the machine is read or
changed.
A program that is missing skips the test with the reason; with ``KCR_TEST_REQUIRE_ALL=1`` it fails it.
"""

import contextlib
import fcntl
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import pytest

from tests.support.logs import secrets_in
from tests.support.once import run_folder

SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
POSTGRES_PROGRAMS = Path("/usr/lib/postgresql")
#: Environment variables that would change the behaviour of a client.
FOREIGN_SETTINGS = re.compile(
    r"(KCR|AWS|DJANGO|DOCKER|CONTAINERS?|REGISTRY|BUILDAH|PODMAN|STORAGE|TRIVY|XDG)_.*|PG[A-Z]+|(HTTPS?|NO|ALL)_PROXY",
    re.IGNORECASE,
)


class ProgramFailedError(AssertionError):
    """A program ended with an unexpected status. The message has its command line and output."""


@dataclass(frozen=True)
class Result:
    """Exit status and output of a program."""

    arguments: tuple[str, ...]
    status: int
    output: str
    errors: str

    @property
    def text(self) -> str:
        """The whole output."""
        return self.output + self.errors

    def json(self) -> Any:
        """The JSON that the program printed on standard output."""
        return json.loads(self.output)

    def __str__(self) -> str:
        return (
            f"{' '.join(self.arguments)}\nexit status {self.status}\n"
            f"--- standard output\n{self.output}\n--- standard error\n{self.errors}"
        )


def unavailable(reason: str) -> NoReturn:
    """Skip the running test with the reason, or fail it where everything is required."""
    if os.environ.get("KCR_TEST_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


def search_path() -> str:
    """Return the caller's ``PATH`` with the folders of system programs, which ordinary users lack."""
    return os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS))


def require(name: str) -> str:
    """Return the path of a program. Calls ``unavailable`` without one."""
    found = shutil.which(name, path=search_path())
    return found or unavailable(f"this test needs the program {name}, which is not on this machine")


def require_postgres(name: str) -> str:
    """Return the path of a PostgreSQL program, which Debian keeps off the ``PATH``."""
    found = sorted(POSTGRES_PROGRAMS.glob(f"*/bin/{name}"), key=lambda path: float(path.parents[1].name))
    return str(found[-1]) if found else require(name)


def require_trivy() -> str:
    """Return the path of Trivy, which may be installed beside this Python."""
    return shutil.which("trivy", path=sysconfig.get_path("scripts")) or require("trivy")


def require_node() -> str:
    """Return the path of Node.js, which may be installed beside this Python."""
    return shutil.which("node", path=sysconfig.get_path("scripts")) or require("node")


def require_oidc_provider() -> Path:
    """Return the folder of oidc-provider of npm: below KCR_TEST_OIDC_PROVIDER, by default build/oidc-provider."""
    above = os.environ.get("KCR_TEST_OIDC_PROVIDER") or Path(__file__).resolve().parents[2] / "build" / "oidc-provider"
    found = Path(above) / "node_modules" / "oidc-provider"
    return (
        found if found.is_dir() else unavailable("this test needs oidc-provider of npm, which is not on this machine")
    )


def environment_for(home: Path, **settings: str) -> dict[str, str]:
    """Return the caller's environment without settings for clients and proxies, and with a separate home."""
    kept = {name: value for name, value in os.environ.items() if not FOREIGN_SETTINGS.fullmatch(name)}
    if kept.pop("PYTHONDONTWRITEBYTECODE", ""):  # else each of hundreds of processes compiles all of the source
        kept["PYTHONPYCACHEPREFIX"] = str(run_folder() / "bytecode")
    return {**kept, "PATH": search_path(), "HOME": str(home), "LC_ALL": "C.UTF-8", **settings}


def run(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    text_input: str = "",
    succeeds: bool | None = True,
    timeout: float = 120,
) -> Result:
    """Run a program to its end.

    ``succeeds`` is the expected end: True for status 0, False for any other, None for either.
    Raises ProgramFailedError when it ends otherwise, or after ``timeout`` seconds.
    """
    try:
        ended = subprocess.run(
            arguments,
            env=dict(environment) if environment is not None else None,
            cwd=directory,
            input=text_input,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        said = b"\n".join(part for part in (late.stdout, late.stderr) if part).decode(errors="replace")
        raise ProgramFailedError(f"{' '.join(arguments)}\nnot done after {timeout} seconds\n{said}") from late
    result = Result(tuple(arguments), ended.returncode, ended.stdout, ended.stderr)
    if succeeds is not None and succeeds != (result.status == 0):
        raise ProgramFailedError(f"expected {'success' if succeeds else 'a failure'}: {result}")
    return result


def _unprivileged(user: str) -> str:
    """Return the name of the user if the system has this account. Without it, return ``nobody``."""
    try:
        return pwd.getpwnam(user).pw_name
    except KeyError:
        return "nobody"


_ports = (Path(tempfile.gettempdir()) / f"kcr-ports-{os.getuid()}").open("wb")
_taken: set[int] = set()


def free_port() -> int:
    """Return a free TCP port of the loopback address. No process of the tests gets it before this one has ended.

    It is outside the range for outgoing connections, which could take it in the meantime.
    """
    while True:
        port = secrets.choice(range(15_000, 32_000))
        with contextlib.suppress(OSError), socket.socket() as listener:
            fcntl.lockf(_ports, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)  # a byte of the file for each port
            listener.bind(("127.0.0.1", port))
            if port not in _taken:
                _taken.add(port)
                return port


def wait_until(ready: Callable[[], bool], *, timeout: float) -> bool:
    """Poll; return True as soon as the answer is true, False after ``timeout`` seconds."""
    end = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def unmount_below(folder: Path) -> None:
    """Unmount all mounts in a folder, innermost first."""
    with contextlib.suppress(FileNotFoundError):
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        points = [Path(line.split(" ")[4].replace(r"\040", " ")) for line in lines]
        for point in sorted((point for point in points if folder in point.parents), reverse=True):
            run(["umount", "--lazy", str(point)], succeeds=None)


def overlay_works(folder: Path) -> bool:
    """Return whether an overlay file system can be mounted in a folder (root only, not on an overlay)."""
    parts = {name: folder / "overlay-probe" / name for name in ("lower", "upper", "work", "merged")}
    for part in parts.values():
        part.mkdir(parents=True)
    options = f"lowerdir={parts['lower']},upperdir={parts['upper']},workdir={parts['work']}"
    arguments = ["mount", "-t", "overlay", "overlay", "-o", options, str(parts["merged"])]
    works = run(arguments, succeeds=None).status == 0
    unmount_below(folder)
    shutil.rmtree(folder / "overlay-probe")
    return works


class TemporaryFolder:
    """A temporary folder; closing it unmounts everything in it and removes it."""

    def __init__(self, name: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"kcr-{name}-"))

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the contents of the folder. Subclasses override it."""

    def close(self) -> None:
        """Remove the folder."""
        unmount_below(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)


class Daemon(TemporaryFolder):
    """A program that runs until it is stopped. Its log is in its folder."""

    stop_signal = signal.SIGTERM
    start_timeout = 240.0  # so slow is a crowded machine
    stop_timeout = 30.0

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.log = self.folder / "log"

    def launch(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        user: str | None = None,
        **more: Any,
    ) -> None:
        """Start the program in the background, as another user if one is named."""
        assert not self.is_running(), f"{self.name} is running: two of them would share data and port"
        if user is not None:
            account = pwd.getpwnam(user)
            more.update(user=account.pw_uid, group=account.pw_gid, extra_groups=[])
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                arguments,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **more,
            )

    def is_running(self) -> bool:
        """Return whether the program was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def await_ready(self, ready: Callable[[], bool]) -> bool:
        """Wait until ``ready`` returns True. Return False if the program ends before, or at the timeout."""
        end = time.monotonic() + self.start_timeout
        while self.is_running() and time.monotonic() < end:
            if ready():
                return True
            time.sleep(0.05)
        return False

    def said(self, *, lines: int = 60) -> str:
        """Return the end of the program's log."""
        with contextlib.suppress(FileNotFoundError):
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def stop(self) -> int | None:
        """Terminate the program and wait for it. Return its exit status, None if it was not running."""
        process, self.process = self.process, None
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(self.stop_signal)
        try:
            return process.wait(self.stop_timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def crash(self) -> None:
        """Kill the program and its processes, as a power cut would."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def close(self) -> None:
        """Stop the program and remove its folder. Its log must not contain a secret (``tests.support.logs``)."""
        self.stop()
        written = self.log.read_text(errors="replace") if self.log.exists() else ""
        super().close()
        assert not secrets_in(written.splitlines()), f"the log of {self.name} holds a secret"


@dataclass(frozen=True)
class DockerCommand:
    """The ``docker`` command of one person: a daemon and a folder for that person's logins."""

    daemon: "DockerDaemon"
    configuration: Path

    def __call__(self, *arguments: str, text_input: str = "", succeeds: bool | None = True) -> Result:
        """Run ``docker`` with arguments; see ``run``."""
        return run(
            [require("docker"), *arguments], environment=self.environment, text_input=text_input, succeeds=succeeds
        )

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the command, and of shell lines that call it."""
        return environment_for(
            self.configuration, DOCKER_HOST=self.daemon.address, DOCKER_CONFIG=str(self.configuration)
        )

    def login(self, host: str, name: str, secret: str, *, succeeds: bool = True) -> Result:
        """Log in to a registry; ``succeeds`` is whether the login must succeed."""
        arguments = ("login", "--username", name, "--password-stdin", host)
        return self(*arguments, text_input=secret, succeeds=succeeds)

    def image(self, reference: str) -> dict[str, Any]:
        """Return the output of ``docker image inspect``."""
        found: dict[str, Any] = self("image", "inspect", reference).json()[0]
        return found

    def push(self, image: str, reference: str, *, succeeds: bool = True) -> Result:
        """Push an image of the daemon under a name."""
        self("tag", image, reference)
        return self("push", reference, succeeds=succeeds)


class DockerDaemon(Daemon):
    """A Docker daemon with its own containerd, images and socket, and without network for containers.

    Plain HTTP works with registries on 127.0.0.0/8, which the daemon treats as insecure by default.
    """

    def start(self) -> None:
        """Start the daemon and wait for it; the test is skipped where a daemon cannot run."""
        if os.geteuid() != 0:
            unavailable("only root can run a Docker daemon")
        require("docker")
        require("containerd")
        driver = "overlay2" if overlay_works(self.folder) else "vfs"
        # fmt: off
        arguments = [
            require("dockerd"), "--host", self.address, "--data-root", str(self.folder / "data"),
            "--exec-root", str(self.folder / "exec"), "--pidfile", str(self.folder / "pid"),
            "--storage-driver", driver, "--iptables=false", "--bridge=none",
            "--config-file", str(self.folder / "daemon.json"),
        ]
        # fmt: on
        (self.folder / "daemon.json").write_text("{}")
        self.launch(arguments, environment_for(self.folder))
        client = self.client("nobody")
        if not self.await_ready(lambda: client("version", succeeds=None).status == 0):
            unavailable(f"the Docker daemon does not start on this machine:\n{self.said()}")

    @property
    def address(self) -> str:
        """The address of the daemon's socket."""
        return f"unix://{self.folder / 'docker.sock'}"

    def client(self, person: str) -> DockerCommand:
        """Return the ``docker`` command of a person with its own logins."""
        configuration = self.folder / "people" / person
        configuration.mkdir(parents=True, exist_ok=True)
        return DockerCommand(self, configuration)

    def containerd(self, *arguments: str, succeeds: bool | None = True) -> Result:
        """Run containerd's ``ctr`` with the daemon's containerd, in a namespace apart from Docker's."""
        sockets = self.folder / "exec" / "containerd" / "containerd.sock"
        command = [require("ctr"), "--address", str(sockets), "--namespace", "kcr", *arguments]
        return run(command, environment=environment_for(self.folder), succeeds=succeeds)


class ContainersHome(TemporaryFolder):
    """podman, buildah and skopeo of one person: storage, configuration and logins in one folder.

    Only the cache of blob locations is shared with the machine, because it has no setting for root.
    """

    storage_options = ""

    def start(self) -> None:
        """Write the configuration."""
        if os.geteuid() != 0:
            unavailable("podman and buildah are tested as root only")
        settings = self.folder / ".config" / "containers"
        settings.mkdir(parents=True)
        driver = "overlay" if overlay_works(self.folder) else "vfs"
        (settings / "storage.conf").write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{self.folder / "storage"}"\n'
            f'runroot = "{self.folder / "run"}"\n[storage.options]\n{self.storage_options}\n'
        )
        (settings / "containers.conf").write_text(
            f'[engine]\ntmp_dir = "{self.folder / "tmp"}"\nimage_copy_tmp_dir = "{self.folder}"\n'
            'events_logger = "none"\ncgroup_manager = "cgroupfs"\n'
        )
        (settings / "registries.conf").write_text("unqualified-search-registries = []\n")
        (settings / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        (self.folder / "auth.json").write_text("{}")  # podman does not start without the file
        (self.folder / "runtime").mkdir(mode=0o700)

    @property
    def environment(self) -> dict[str, str]:
        """The environment that makes the three programs use only this folder."""
        settings = self.folder / ".config" / "containers"
        return environment_for(
            self.folder,
            TMPDIR=str(self.folder),
            XDG_CONFIG_HOME=str(self.folder / ".config"),
            XDG_RUNTIME_DIR=str(self.folder / "runtime"),
            CONTAINERS_CONF=str(settings / "containers.conf"),
            CONTAINERS_STORAGE_CONF=str(settings / "storage.conf"),
            CONTAINERS_REGISTRIES_CONF=str(settings / "registries.conf"),
            REGISTRY_AUTH_FILE=str(self.folder / "auth.json"),
        )

    def run(self, program: str, *arguments: str, text_input: str = "", succeeds: bool | None = True) -> Result:
        """Run one of the programs. See ``run``."""
        command = [require(program), *arguments]
        return run(command, environment=self.environment, text_input=text_input, succeeds=succeeds)

    def login(self, program: str, host: str, name: str, secret: str, *, succeeds: bool = True) -> Result:
        """Log in to a registry; the login holds for all three programs."""
        arguments = ("login", "--tls-verify=false", "--username", name, "--password-stdin", host)
        return self.run(program, *arguments, text_input=secret, succeeds=succeeds)

    def skopeo(self, *arguments: str, succeeds: bool | None = True) -> Result:
        """Run ``skopeo``."""
        return self.run("skopeo", *arguments, succeeds=succeeds)

    def podman(self, *arguments: str, succeeds: bool | None = True) -> Result:
        """Run ``podman``."""
        return self.run("podman", *arguments, succeeds=succeeds)

    def buildah(self, *arguments: str, succeeds: bool | None = True) -> Result:
        """Run ``buildah``."""
        return self.run("buildah", *arguments, succeeds=succeeds)


class PartialPullsHome(ContainersHome):
    """A home whose podman asks only for the missing files of a zstd:chunked layer, in multi-range requests."""

    storage_options = 'pull_options = {enable_partial_images = "true", use_hard_links = "false"}'


class PostgresServer(Daemon):
    """A PostgreSQL server on a free port with one empty database.

    The database sorts by the rules of English, not by bytes, so that a query without its collation is
    noticed.
    """

    stop_signal = signal.SIGINT  # PostgreSQL's "fast" shutdown
    settings: tuple[str, ...] = ("fsync=off", "max_connections=200")

    def __init__(self, name: str = "postgres") -> None:
        super().__init__(name)
        self.port = free_port()
        self.user = _unprivileged("postgres") if os.geteuid() == 0 else None  # PostgreSQL does not run as root

    @property
    def url(self) -> str:
        """The address of the database."""
        return f"postgres://kcr@127.0.0.1:{self.port}/kcr"

    def start(self) -> None:
        """Make the cluster and the database, and start the server."""
        initialize = require_postgres("initdb")
        data = self.folder / "data"
        if self.user is not None:
            shutil.chown(self.folder, self.user)
        environment = environment_for(self.folder)
        # fmt: off
        self.launch([
            initialize, "--pgdata", str(data), "--username", "kcr", "--auth", "trust", "--encoding", "UTF8",
            "--locale", "C.UTF-8", "--locale-provider", "icu", "--icu-locale", "en-US", "--no-sync",
        ], environment, user=self.user, cwd=self.folder)
        # fmt: on
        made = self.process.wait() if self.process is not None else 1
        if made != 0:
            pytest.fail(f"initdb ended with {made}:\n{self.said()}")
        self.serve(("createdb", "kcr"))

    def serve(self, probe: Sequence[str] = ("psql", "--command", "SELECT 1", "kcr")) -> None:
        """Start the server on its existing data and wait until a client's command succeeds."""
        environment = environment_for(self.folder)
        # fmt: off
        self.launch([
            require_postgres("postgres"), "-D", str(self.folder / "data"), "-p", str(self.port),
            "-k", str(self.folder), "-c", "listen_addresses=127.0.0.1",
            *(word for setting in self.settings for word in ("-c", setting)),
        ], environment, user=self.user, cwd=self.folder)
        # fmt: on
        name, *words = probe
        command = [require_postgres(name), "--host", "127.0.0.1", "--port", str(self.port), "--username", "kcr", *words]
        if not self.await_ready(lambda: run(command, environment=environment, succeeds=None).status == 0):
            pytest.fail(f"PostgreSQL does not start:\n{self.said()}")

    def count_connections(self) -> int:
        """Return the number of connected clients, except the asking one."""
        question = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        command = [require_postgres("psql"), "--host", "127.0.0.1", "--port", str(self.port), "--username", "kcr"]
        told = run([*command, "--tuples-only", "--command", question, "kcr"], environment=environment_for(self.folder))
        return int(told.output) - 1


class RedisServer(Daemon):
    """A Redis server on a free port without persistence."""

    def __init__(self, name: str = "redis") -> None:
        super().__init__(name)
        self.port = free_port()

    @property
    def url(self) -> str:
        """The address of the server's first database."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        # fmt: off
        self.launch([
            require("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
            "--appendonly", "no", "--dir", str(self.folder),
        ], environment_for(self.folder))
        # fmt: on
        if not self.await_ready(self.answers):
            pytest.fail(f"Redis does not start:\n{self.said()}")

    def answers(self) -> bool:
        """Return whether the server answers a ping."""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection,
        ):
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        return False
