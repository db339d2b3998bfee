"""The registries that ``make bench`` compares: KCR in its shapes, Debian's docker-registry, and distribution v3."""

from __future__ import annotations

import functools
import http.client
import os
import re
import shutil
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.client import Client
from bench.machine import DurablePostgres
from tests.support.programs import Daemon, environment_for, free_port, run
from tests.support.s3 import CREDENTIALS, SeaweedFS
from tests.support.server import LiveServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

IMAGE = "demo/web/bench"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Registry:
    """A running registry. ``services``: its database and storage, if they are processes of their own."""

    name: str
    server: Daemon
    port: int
    headers: Callable[[], dict[str, str]] = dict
    services: list[Daemon] = field(default_factory=list)
    is_ours: bool = False
    start_seconds: float = 0.0
    idle: dict[str, list[int]] = field(default_factory=dict)

    def client(self) -> Client:
        """A new connection, with a new token."""
        return Client(self.port, {"Host": f"localhost:{self.port}", **self.headers()})

    def processor(self) -> tuple[float, float]:
        """Seconds of processor time that its processes, and those of its services, have used."""
        return _processor([self.server]), _processor(self.services)

    def memory(self, line: str) -> dict[str, list[int]]:
        """Bytes of memory of each of its processes, without services. ``line``: VmRSS (now) or VmHWM (at most)."""
        parent, *children = _descendants(_pid(self.server))
        found = {"parent" if children else "process": [_memory(parent, line)], "web process": []}
        found["web process"] = [_memory(each, line) for each in children]
        return {name: sizes for name, sizes in found.items() if sizes}


class Distribution(Daemon):
    """docker-registry 2.8, or the program of distribution v3, with files, and without login and log."""

    def __init__(self, program: str) -> None:
        super().__init__("distribution")
        self.program, self.port = program, free_port()

    def start(self) -> None:
        """Write the configuration and start it."""
        files = f"{{rootdirectory: {self.folder / 'storage'}}}"
        (self.folder / "registry.yml").write_text(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {files}, cache: {{blobdescriptor: inmemory}}}}\n"
            f"http: {{addr: '127.0.0.1:{self.port}'}}\n"
        )
        self.serve()

    def serve(self) -> None:
        """Start it on its existing data."""
        environment = environment_for(self.folder, OTEL_TRACES_EXPORTER="none", OTEL_SDK_DISABLED="true")
        self.launch([self.program, "serve", str(self.folder / "registry.yml")], environment)
        if not self.await_ready(self._answers):
            raise SystemExit(f"{self.program} does not start:\n{self.said()}")

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()

    @functools.cached_property
    def version(self) -> str:
        """Its version, as it says."""
        said = run([self.program, "--version"], succeeds=None).text
        found = re.search(r"v?(\d+\.\d[\w.]*)", said)
        return found[1] if found else "?"


def kcr(stack: ExitStack, database: str, storage: str, processes: int) -> Registry:
    """Start a KCR, and the services that it needs. ``processes`` 0: as many as it starts by default."""
    settings: dict[str, str] = {}
    services: list[Daemon] = []
    if database == "postgresql":
        postgres = stack.enter_context(DurablePostgres("bench-postgres"))
        settings["KCR_DATABASE_URL"] = postgres.url
        services.append(postgres)
    if storage == "s3":
        seaweed = stack.enter_context(SeaweedFS())
        settings |= CREDENTIALS | {"KCR_STORAGE_URL": seaweed.url("bench")}
        services.append(seaweed)
    if processes:
        settings["KCR_WEB_WORKERS"] = str(processes)
    server = stack.enter_context(LiveServer("bench", settings)).people()

    def headers() -> dict[str, str]:
        return {"Authorization": server.api(IMAGE).headers["Authorization"]}

    parts = [{"sqlite": "SQLite", "postgresql": "PostgreSQL"}[database], *(["S3"] if storage == "s3" else [])]
    if processes:
        parts.append(f"{processes} {'process' if processes == 1 else 'processes'}")
    name = f"KCR, {', '.join(parts)}"
    return _restarted(Registry(name, server, server.port, headers, services, is_ours=True), server.end, server.serve)


def peers(stack: ExitStack) -> list[Registry]:
    """Start the other registries that this machine has."""
    found = {"2.8": shutil.which("docker-registry"), "v3": shutil.which("registry")}
    started = []
    for program in filter(None, found.values()):
        server = stack.enter_context(Distribution(program))
        name = "docker-registry" if program.endswith("docker-registry") else "distribution"
        registry = Registry(f"{name} {server.version}", server, server.port)
        started.append(_restarted(registry, server.stop, server.serve))
    return started


def _restarted(registry: Registry, stop: Callable[[], object], serve: Callable[[], None]) -> Registry:
    stop()
    began = time.perf_counter()
    serve()
    registry.start_seconds = time.perf_counter() - began
    with registry.client() as client:
        client.ask(200, "GET", "/v2/")
    registry.idle = registry.memory("VmRSS")
    return registry


# ── Processes ────────────────────────────────────────────────────────────────────────────────────────────────────────
def _pid(daemon: Daemon) -> int:
    assert daemon.process is not None
    return daemon.process.pid


def _descendants(pid: int) -> list[int]:
    """A process and all below it."""
    children = defaultdict(list)
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            children[int(entry.read_text().rpartition(")")[2].split()[1])].append(int(entry.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    found = [pid]
    for each in found:
        found += children[each]
    return found


def _processor(daemons: list[Daemon]) -> float:
    """Seconds of processor time, with those of children that have ended."""
    ticks = 0
    for pid in (pid for daemon in daemons for pid in _descendants(_pid(daemon))):
        try:
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return ticks / TICKS


def _memory(pid: int, line: str) -> int:
    found = re.search(rf"^{line}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
