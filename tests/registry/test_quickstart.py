"""``manage.py quickstart``: first start, restarts of its processes, and the stop."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import time
from pathlib import Path

import pytest

from tests.support.documents import blocks, here
from tests.support.images import Image, sha256
from tests.support.programs import environment_for, require, run
from tests.support.server import SOURCE, AccessKey, LiveServer

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]


class Quickstart(LiveServer):
    """The process tree of quickstart: web server, worker, beat."""

    def start(self) -> None:
        """Start with the one command."""
        self.launch(self.command("quickstart"), self.environment, cwd=SOURCE)
        assert self.await_ready(self.is_ready), self.said()

    def tree(self) -> dict[int, str]:
        """Return process id and command line of all processes of this quickstart."""
        found, mark = {}, f"KCR_DATA_DIR={self.data}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
        return found

    def await_said(self, words: str) -> bool:
        """Return whether the log contains this within half a minute."""
        return eventually(lambda: words in self.said(lines=1000))


def eventually(true) -> bool:
    """Return whether ``true()`` becomes true within half a minute."""
    end = time.monotonic() + 30
    while not (found := true()) and time.monotonic() < end:
        time.sleep(0.1)
    return bool(found)


@pytest.fixture
def quickstart():
    """A quickstart with existing tables: migrating takes seconds."""
    made = Quickstart("quickstart")
    made.migrate()
    with made as running:
        yield running


@pytest.fixture
def first_quickstart():
    """A quickstart with an empty data directory."""
    with Quickstart("first-quickstart") as running:
        yield running


def test_first_start_creates_a_project_and_shows_its_key_once(first_quickstart):
    said, file = first_quickstart.said(lines=1000), first_quickstart.data / "first-sign-in.txt"
    assert str(file) in said
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shown = re.search(r"registry +(KCRK\w+) +(kcrs_\w+)", file.read_text())
    password = re.search(r"console +admin@kcr.localhost +(\w+)\n", file.read_text())
    assert shown
    assert password
    for secret in (shown[2], password[1]):
        assert secret not in said, "the output of a service stays in its journal"
    assert first_quickstart.client(AccessKey(*shown.groups())).request("GET", "/v2/").status == 200

    readable = [
        path for path in first_quickstart.data.rglob("*") if path.stat().st_mode & 0o077 and not is_static(path)
    ]
    assert readable == [], "only our own user reads what is in the data directory"

    first_quickstart.end()
    file.unlink()
    first_quickstart.log.write_text("")
    first_quickstart.start()
    assert first_quickstart.await_said("docker login")
    assert "kcrs_" not in first_quickstart.said(lines=1000)
    assert not file.exists()


def is_static(path: Path) -> bool:
    """Return whether the file is a static file, which has other permissions and no secret."""
    return "static" in path.parts


class Unit(Quickstart):
    """The service of docs/operate/install.md, "One machine", at an address of this machine."""

    def start(self) -> None:
        """Start the command of the unit, with the variables of the unit alone, on existing tables."""
        self.migrate()
        (unit,) = blocks("install.md", "One machine", "ini")
        changed = {"/opt/kcr/.venv": ".venv", "/opt/kcr": str(SOURCE), "/srv/kcr": str(self.data)}
        text = here(unit, changed | {"https://registry.example.com": self.url})
        file = self.folder / "kcr.service"
        file.write_text(text)
        assert run([require("systemd-analyze"), "verify", str(file)]).text == ""
        variables = dict(re.findall(r"^Environment=(\w+)=(.*)$", text, re.MULTILINE))
        assert set(variables) == {"KCR_DATA_DIR", "KCR_PUBLIC_URL", "KCR_TRUSTED_PROXIES"}
        environment = environment_for(self.folder, KCR_LISTEN=f"127.0.0.1:{self.port}", **variables)
        command, folder = (
            re.search(rf"^{name}=(.*)$", text, re.MULTILINE)[1] for name in ("ExecStart", "WorkingDirectory")
        )
        self.launch(command.split(), environment, cwd=folder)
        assert self.await_ready(self.is_ready), self.said()


def test_documented_unit_starts_kcr():
    with Unit("unit") as server:
        key = re.search(r"registry +(KCRK\w+) +(kcrs_\w+)", (server.data / "first-sign-in.txt").read_text())
        api = server.client(AccessKey(*key.groups()))
        assert api.push("demo/web/hello", Image.random("unit"), "1").status == 201


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_the_whole_tree(quickstart, number):
    assert eventually(lambda: len(quickstart.tree()) >= 4)
    quickstart.process.send_signal(number)
    assert quickstart.process.wait(40) == 0
    assert quickstart.tree() == {}
    assert "Stopped." in quickstart.said(lines=1000)


@pytest.mark.parametrize(
    "part", ["serve", "celery --app=registry --quiet worker", "celery --app=registry --quiet beat"]
)
def test_crashed_process_is_restarted_and_reported(quickstart, part):
    assert eventually(lambda: any(part in line for line in quickstart.tree().values()))
    killed = {pid for pid, line in quickstart.tree().items() if part in line}
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert quickstart.await_said("SIGKILL); again in 1 s")
    assert eventually(lambda: {p for p, line in quickstart.tree().items() if part in line} - killed)
    assert eventually(quickstart.is_ready)


def test_queued_task_is_done_by_the_worker(quickstart):
    quickstart.work("tasks", "queue_sweep_of_uploads")
    assert eventually(lambda: quickstart.work("tasks", "count_uploads") == 0)


def test_used_port_is_reported(quickstart):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environment = {**quickstart.environment, "KCR_LISTEN": f"127.0.0.1:{port}"}
        with pytest.raises(AssertionError, match="KCR cannot listen at"):
            run(quickstart.command("quickstart"), environment=environment, directory=SOURCE)


def test_running_download_is_finished_before_the_stop(quickstart):
    quickstart.key = quickstart.access_key("admin@kcr.localhost")
    api = quickstart.api()
    data = os.urandom(8 * 1024 * 1024)
    assert api.push_blob(data) == 201
    with api.open("GET", f"blobs/{sha256(data)}") as answer:
        received = answer.read(1000)
        quickstart.process.send_signal(signal.SIGTERM)
        time.sleep(1)
        received += answer.read()
    assert received == data
    assert quickstart.process.wait(40) == 0
