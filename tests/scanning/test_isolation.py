"""Isolation of Trivy: a hostile program in its place reports what it reaches in each kind of isolation."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone

from scanning import scans
from scanning.models import ScannerHost
from scanning.models.scans import Problem
from scanning.trivy import program, sandbox
from tests.support.programs import unavailable, wait_until

pytestmark = pytest.mark.real

SECRET = "the secret key of the registry"
EVERYTHING = {"environment", "network", "blob", "data", "key", "process", "database"}
ATTEMPTS = """#!/bin/bash
[ "$1" = --version ] && exit 0
exec 2>/dev/null
reached() { echo "$1" >> reached; }
touch reached
tr '\\0' '\\n' < /proc/%(process)s/environ | grep -q = && reached environment
exec 3<>/dev/tcp/127.0.0.1/%(port)s && reached network
for file in layout/*; do echo x >> "$file" && reached blob; done
for file in database/*; do echo x >> "$file" && reached database; done
echo x > %(data)s/planted && reached data
cat %(data)s/secret_key && reached key
kill -0 %(process)s && reached process
ln -s %(data)s/secret_key link
ls layout database > listed
exit 0
"""


@pytest.fixture
def place(tmp_path, settings):
    """Create a data folder with a secret, a stored blob, a database and a working folder."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    settings.DATA_DIR = settings.SCAN_DIR = data
    for name in ("blob", "database", "secret_key"):
        (data / name).write_text(SECRET)
        (data / name).chmod(0o600)
    workplace = data / "scanning"
    workplace.mkdir(mode=0o700)
    return program.Workplace(workplace)


@pytest.fixture
def hostile(place, tmp_path, monkeypatch):
    """Run the program instead of Trivy in a kind of isolation. Return what it reached, and its folder."""

    def run(kind):
        data = place.folder.parent
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            values = {"process": os.getpid(), "port": listener.getsockname()[1], "data": data}
            fake = tmp_path / "trivy"
            fake.write_text(ATTEMPTS % values)
            fake.chmod(0o755)
            tmp_path.chmod(0o755)
            isolation = program.Isolation(kind)
            monkeypatch.setattr(program, "_program", lambda: str(fake))
            monkeypatch.setattr(program, "isolation", lambda: isolation)
            folder = program._new_folder(place)
            (folder / "layout").mkdir()
            (folder / "database").mkdir()
            if isolation.takes_copies:
                shutil.copyfile(data / "blob", folder / "layout" / "blob")
            else:
                (folder / "layout" / "blob").hardlink_to(data / "blob")
            (folder / "database" / "trivy.db").hardlink_to(data / "database")
            program._run(["image"], folder, place, read_only=(Path("layout"), Path("database")))
        assert (folder / "listed").read_text().split() == ["database:", "trivy.db", "layout:", "blob"]
        return set((folder / "reached").read_text().split()), folder

    return run


def let_pass(folder):
    """Let other users enter the folder: the folders of pytest are private to its user."""
    for each in (folder, *folder.parents):
        if each != Path("/") and each.stat().st_uid == os.geteuid():
            each.chmod(each.stat().st_mode | 0o011)


def offered(kind):
    """Skip the test if the machine does not support this kind."""
    if kind == "user" and os.geteuid() != 0:
        unavailable("only root becomes another user")
    try:
        found = program.isolation()
    except program.ScanFailed:
        unavailable("there is no Trivy")
    if kind == "namespaces" and found.kind != "namespaces":
        unavailable(f"this system gives no namespaces: {found.why}")


def test_program_without_isolation_reaches_everything(hostile, place):
    reached, _ = hostile("limits")
    assert reached == EVERYTHING - {"environment"}  # the application refuses other users there


def test_program_in_namespaces_reaches_nothing(hostile, place):
    offered("namespaces")
    reached, _ = hostile("namespaces")
    assert reached == set()
    data = place.folder.parent
    assert {(data / name).read_text() for name in ("blob", "database", "secret_key")} == {SECRET}
    assert not (data / "planted").exists()


def test_program_of_another_user_reaches_only_the_network(hostile, place, tmp_path):
    offered("user")
    let_pass(tmp_path)
    reached, _ = hostile("user")
    assert reached - {"blob"} == {"network"}  # the program gets a copy of the blob
    data = place.folder.parent
    assert {(data / name).read_text() for name in ("blob", "database", "secret_key")} == {SECRET}


def test_namespaces_work_for_an_ordinary_user(tmp_path):
    """Embedded installations run like this: not as root, in a user namespace."""
    python = Path("/usr/bin/python3")
    if os.geteuid() != 0 or not python.exists() or not shutil.which("setpriv"):
        unavailable("needs root, setpriv and the system's Python")
    let_pass(tmp_path)
    code = shutil.copy(sandbox.__file__, tmp_path)
    data, run = tmp_path / "data", tmp_path / "data" / "run"
    for folder in (data, run, run / "layout", run / "database"):
        folder.mkdir()
    (data / "secret_key").write_text(SECRET)
    (run / "layout" / "blob").write_text(SECRET)
    (run / "database" / "trivy.db").write_text(SECRET)
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as listener,
        subprocess.Popen(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sleep", "60"], env={"SECRET": SECRET}
        ) as victim,
    ):
        fake = tmp_path / "trivy"
        values = {"process": victim.pid, "port": listener.getsockname()[1], "data": data}
        fake.write_text(ATTEMPTS % values)
        fake.chmod(0o755)
        for path in (data, *data.glob("**/*")):
            os.chown(path, 65534, 65534)
        reached = {}
        for kind in ("limits", "namespaces"):
            wanted = sandbox.Specification(kind, str(run), read_only=("layout", "database"), hidden=str(data))
            as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(python), "-I", "-S"]
            done = subprocess.run(
                [*as_nobody, code, wanted.written(), str(fake)],
                cwd=run,
                env={},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode == sandbox.FAILED:
                victim.kill()
                unavailable(f"this system gives ordinary users no namespaces: {done.stderr}")
            reached[kind] = set((run / "reached").read_text().split())
            for path in run.glob("*ed"):
                path.unlink()
            (run / "link").unlink()
        victim.kill()
    assert reached == {"limits": EVERYTHING, "namespaces": set()}


# ── Files and processes of a run ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_links_left_by_a_run_are_not_followed(place, kind):
    output = place.folder / "sbom.json"
    if kind == "link":
        output.symlink_to(place.folder.parent / "secret_key")
    elif kind == "pipe":
        os.mkfifo(output)
    else:
        output.mkdir()
    with pytest.raises(program.ScanFailed) as failed:
        program._output(output)
    assert SECRET not in str(failed.value)


def test_each_run_has_a_folder_of_its_own(place):
    assert program._new_folder(place) != program._new_folder(place)


def test_processes_of_a_stopped_run_are_ended(hostile, place, tmp_path, monkeypatch):
    offered("namespaces")
    fake = tmp_path / "trivy"
    fake.write_text("#!/bin/bash\nsleep 12345 & sleep 12345\n")
    fake.chmod(0o755)
    monkeypatch.setattr(program, "_program", lambda: str(fake))
    monkeypatch.setattr(program, "isolation", lambda: program.Isolation("namespaces"))
    monkeypatch.setattr(program, "SECONDS", 1)

    def sleeping() -> int:
        found = 0
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                found += entry.read_bytes() == b"sleep\x0012345\x00"
            except OSError:
                continue
        return found

    before = sleeping()
    with pytest.raises(program.ScanFailed) as failed:
        program._run([], program._new_folder(place), place)
    assert failed.value.problem == Problem.TIMEOUT
    assert wait_until(lambda: sleeping() == before, timeout=5)


# ── Log of the start ─────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def refused(monkeypatch):
    """Simulate a machine that refuses every sandbox."""
    monkeypatch.setattr(program, "_program", lambda: "/bin/true")
    monkeypatch.setattr(sandbox, "__file__", "/nowhere/sandbox.py")
    program.isolation.cache_clear()
    yield
    program.isolation.cache_clear()


@pytest.mark.django_db
def test_start_without_isolation_is_logged(refused, caplog, world):
    with caplog.at_level(logging.WARNING):
        found = scans.check_isolation()
    assert found is not None
    assert found.is_none
    assert found.why
    assert "scans are not isolated on this machine" in caplog.text
    scans.check_isolation()
    host = ScannerHost.objects.get()
    assert (host.isolation, host.name) == ("limits", socket.gethostname())

    def is_told(who: str) -> bool:
        client = Client(SERVER_NAME="localhost", SERVER_PORT="8080")
        client.force_login(world.people[who].user, backend="django.contrib.auth.backends.ModelBackend")
        return "Scans are not isolated" in client.get("/projects/demo/scans").text

    assert [is_told(who) for who in ("admin", "owner", "reader")] == [True, True, False]
    ScannerHost.objects.update(seen_at=timezone.now() - ScannerHost.SEEN_LATELY)
    assert not is_told("admin")


@pytest.mark.django_db
def test_start_with_isolation_logs_nothing(caplog):
    offered("namespaces")
    scans.check_isolation()
    assert "not isolated" not in caplog.text
    assert ScannerHost.objects.get().isolation == "namespaces"


# ── Separate container ───────────────────────────────────────────────────────────────────────────────────────────────
def test_runner_accepts_only_paths_below_its_folder(place, tmp_path, monkeypatch, settings):
    folder = place.folder
    settings.TRIVY_SOCKET = str(folder / "trivy.sock")
    let_pass(tmp_path)
    programs = tmp_path / "programs"
    programs.mkdir()
    programs.chmod(0o755)  # as /usr/local/bin is
    (programs / "trivy").write_text(
        '#!/bin/sh\necho "FATAL $1" >&2\nenv > env\n[ "$1" = wait ] && exec sleep 60\nexit $2\n'
    )
    (programs / "trivy").chmod(0o755)
    python = programs / "python"
    python.symlink_to(sys.executable)
    environment = {"PATH": f"{programs}:{os.defpath}", "PYTHONPATH": str(Path(sandbox.__file__).parents[1])}
    command = [str(python), "-m", "scanning.trivy.runner", settings.TRIVY_SOCKET]
    monkeypatch.setattr(program, "isolation", lambda: program.Isolation("runner"))
    monkeypatch.setattr(sandbox, "find", lambda *_: None)
    with pytest.raises(program.ScanFailed) as failed:
        program._run(["x", "0"], program._new_folder(place), place)
    assert failed.value.problem == Problem.SCANNER_MISSING
    with subprocess.Popen(command, env=environment | {"KCR_TEST_TRIVY": "1"}) as runner:
        try:
            assert wait_until(lambda: Path(settings.TRIVY_SOCKET).exists(), timeout=20)
            done = program._new_folder(place)
            program._run(["x", "0"], done, place)
            assert {line.partition("=")[0] for line in (done / "env").read_text().split()} <= {
                *("PATH", "HOME", "TMPDIR", "PWD", "LC_CTYPE", "SHLVL", "_", "OLDPWD")
            }
            with pytest.raises(program.ScanFailed) as failed:
                program._run(["gzip: broken", "3"], program._new_folder(place), place)
            assert (failed.value.problem, failed.value.detail) == (Problem.DAMAGED, "gzip: broken")
            outside = tmp_path / "outside"
            outside.mkdir()
            with pytest.raises(program.ScanFailed):
                program._run(["x", "0"], outside, place)
            assert not (outside / "env").exists()
            monkeypatch.setattr(program, "SECONDS", 1)
            started = time.monotonic()
            with pytest.raises(program.ScanFailed) as failed:
                program._run(["wait"], program._new_folder(place), place)
            assert failed.value.problem == Problem.TIMEOUT
            assert time.monotonic() - started < 30
        finally:
            runner.terminate()
