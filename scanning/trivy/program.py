"""Runs Trivy, the only program that scanning starts. Each run is separate, limited, and isolated from KCR.

Trivy reads and writes files: an image as a layout, a list of packages, a database. It gets no environment, no
credentials and no cache that another image could have poisoned. Where the system allows it, it has its own file system
and user, no network, and does not see other processes (``isolation``). Its output files are read as untrusted input.
This module maps its error messages to ``Problem``.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import select
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings

from registry import env, tracing
from scanning.models.scans import Problem
from scanning.trivy import sandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import IO

SECONDS = 600
FILE_BYTES = 2 * 1024**3  # that one run may write to one file
DISK_BYTES = 4 * 1024**3  # that one run may write to all files
DATA_BYTES = 1024**3  # memory; an image with 50,000 packages needs three quarters of it
OUTPUT_BYTES = 256 * 1024**2
TURN = 0.25  # seconds between two checks of a run
HEARTBEAT = 10.0
SAID_BYTES = 64 * 1024  # of standard error, from the beginning and from the end

_PLAIN = ("--config", "", "--ignorefile", "", "--disable-telemetry", "--skip-version-check")
_OFFLINE = ("--skip-db-update", "--skip-java-db-update", "--offline-scan", "--cache-backend", "memory")
_FOR_DOWNLOADS = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)
_JAVA_TABLES = """
    CREATE TABLE artifacts (id INTEGER PRIMARY KEY, group_id TEXT, artifact_id TEXT);
    CREATE TABLE indices (artifact_id INTEGER, version TEXT, sha1 BLOB, archive_type TEXT,
        FOREIGN KEY (artifact_id) REFERENCES artifacts (id));
    CREATE UNIQUE INDEX artifacts_idx ON artifacts (artifact_id, group_id);
    CREATE INDEX indices_artifact_idx ON indices (artifact_id);
    CREATE UNIQUE INDEX indices_sha1_idx ON indices (sha1);
"""
# Texts in Trivy's standard error, and their Problem. The first match counts.
_MEANINGS = (
    ("cannot be specified on the first run", Problem.DATABASE_MISSING),
    ("old DB schema", Problem.DATABASE_BROKEN),
    ("Trivy version is old", Problem.DATABASE_BROKEN),
    ("failed to open db", Problem.DATABASE_BROKEN),
    ("DB error", Problem.DATABASE_BROKEN),
    ("failed to get advisories", Problem.DATABASE_BROKEN),
    ("assertion failed", Problem.DATABASE_BROKEN),
    ("bbolt", Problem.DATABASE_BROKEN),
    ("trivy-db", Problem.DATABASE_BROKEN),
    ("file too large", Problem.DISK),
    ("no space left on device", Problem.DISK),
    ("out of memory", Problem.MEMORY),
    ("cannot allocate memory", Problem.MEMORY),
    ("deadline exceeded", Problem.TIMEOUT),
    ("failed to extract the archive", Problem.DAMAGED),
    ("unexpected EOF", Problem.DAMAGED),
    ("invalid tar header", Problem.DAMAGED),
    ("gzip:", Problem.DAMAGED),
    ("zip:", Problem.DAMAGED),
    ("config file", Problem.DAMAGED),
    ("invalid character", Problem.DAMAGED),
    ("permission denied", Problem.OTHER),
    ("too many open files", Problem.OTHER),
    ("input/output error", Problem.OTHER),
    ("failed analysis", Problem.DAMAGED),  # every other error while Trivy reads an image
)


class ScanFailed(Exception):
    """Trivy failed, or is missing. ``detail`` is for people: at most 500 characters, without paths of this machine."""

    def __init__(self, problem: Problem, detail: str = "") -> None:
        super().__init__(f"{problem}: {detail}")
        self.problem, self.detail = problem, detail[:500]


def _nothing() -> None:
    """No heartbeat."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """An empty folder for one scan. ``heartbeat`` is called every HEARTBEAT seconds of a run.

    If ``heartbeat`` raises, the run is stopped and the exception passes through.
    """

    folder: Path
    heartbeat: Callable[[], None] = _nothing


@dataclass(frozen=True, slots=True)
class Isolation:
    """How Trivy is isolated from KCR on this machine. ``kind``: a kind of ``sandbox``, or "runner".

    ``why``: the errors of the stronger kinds, if only "limits" works.
    """

    kind: str
    why: str = ""

    @property
    def is_none(self) -> bool:
        """Whether Trivy runs as KCR's own user and can reach its files and its network."""
        return self.kind == "limits"

    @property
    def takes_copies(self) -> bool:
        """Whether Trivy runs as another user, who cannot read KCR's files and needs copies."""
        return self.kind in {"namespaces", "user"} and os.geteuid() == 0


def make_sbom(layout: Path, workplace: Workplace) -> bytes:
    """The packages of an image in a layout (a folder with one manifest), as CycloneDX in JSON. Raises ScanFailed.

    Moves the layout into the folder of the run.
    """
    folder = _new_folder(workplace)
    layout.rename(folder / "layout")
    write_java_database(folder / "cache")
    arguments = ["image", "--quiet", "--input", "layout", "--format", "cyclonedx", *_common("cache", "sbom.json")]
    _run(arguments, folder, workplace, read_only=(Path("layout"),))
    return _output(folder / "sbom.json")


def make_report(sbom: bytes, database: Path, workplace: Workplace) -> tuple[dict[str, Any], str]:
    """Trivy's report on these packages from the database (a cache folder of Trivy), and its log. Raises ScanFailed."""
    folder = _new_folder(workplace)
    (folder / "packages.json").write_bytes(sbom)
    cache_folder = _link(database, folder / "database")
    arguments = ["sbom", "packages.json", "--format", "json", "--list-all-pkgs=false"]
    arguments += _common(str(cache_folder), "report.json")
    log = _run(arguments, folder, workplace, read_only=(cache_folder,))
    try:
        report: dict[str, Any] = json.loads(_output(folder / "report.json"))
    except ValueError as error:
        raise ScanFailed(Problem.OTHER, "the report is not JSON") from error
    return report, log


def download_database(repository: str, workplace: Workplace) -> Path:
    """Fetch the vulnerability database from an OCI repository ("": Trivy's own repository). Raises ScanFailed.

    Returns the folder with ``trivy.db`` and ``metadata.json``.
    """
    folder = _new_folder(workplace)
    named = ["--db-repository", repository] if repository else []
    arguments = ["image", "--quiet", "--download-db-only", *named, *_PLAIN, "--no-progress", "--cache-dir", "cache"]
    _run(arguments, folder, workplace, downloads=True)
    fetched = workplace.folder / "fetched"
    fetched.mkdir()
    for name in ("trivy.db", "metadata.json"):
        try:
            with _opened(folder / "cache" / "db" / name) as source, (fetched / name).open("xb") as target:
                shutil.copyfileobj(source, target)
        except FileNotFoundError as error:
            raise ScanFailed(Problem.OTHER, "trivy fetched no database") from error
    return fetched


def write_java_database(cache_folder: Path) -> None:
    """Put an empty index of Java archives into a cache folder. Without an index, Trivy refuses images with a .jar.

    With the empty index, Trivy identifies archives by their pom.properties, not by their digest.
    """
    folder = cache_folder / "java-db"
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "trivy-java.db")) as database:
        database.executescript(_JAVA_TABLES)
    moments = dict.fromkeys(("NextUpdate", "UpdatedAt", "DownloadedAt"), "2100-01-01T00:00:00Z")
    (folder / "metadata.json").write_text(json.dumps({"Version": 1, **moments}))


@cache
def version() -> str:
    """Trivy's version, such as 0.76.0. Raises ScanFailed without Trivy."""
    done = subprocess.run(  # noqa: S603  our own words
        [_program(), "--version"], capture_output=True, text=True, timeout=60, check=False, env={"HOME": os.devnull}
    )
    name, _, number = done.stdout.partition("\n")[0].partition(": ")
    if done.returncode or name != "Version":
        raise ScanFailed(Problem.SCANNER_MISSING, "trivy does not say its version")
    return number.strip()


@cache
def isolation() -> Isolation:
    """The strongest isolation that works on this machine, tried once. Raises ScanFailed without Trivy."""
    if settings.TRIVY_SOCKET:
        return Isolation("runner")
    kinds = ("namespaces", "user") if os.geteuid() == 0 else ("namespaces",)
    said = []
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            command, user = _command(Isolation(kind), Path(folder), [_program(), "--version"])
            if user:
                os.chown(folder, user, user)
            try:
                done = subprocess.run(  # noqa: S603  our own words
                    command, cwd=folder, env={"HOME": "."}, capture_output=True, text=True, timeout=60, check=False
                )
            except subprocess.TimeoutExpired:
                said.append(f"{kind}: no answer")
                continue
        if done.returncode == 0:
            return Isolation(kind)
        said.append(f"{kind}: {done.stderr.strip().rpartition(chr(10))[2].removeprefix('sandbox: ')}")
    return Isolation("limits", "; ".join(said)[:300])


def _common(cache_folder: str, output: str) -> list[str]:
    return [*_PLAIN, *_OFFLINE, "--cache-dir", cache_folder, "--timeout", f"{SECONDS}s", "--output", output]


def _program() -> str:
    """The path of Trivy: beside Python, or in PATH."""
    found = sandbox.find("trivy", env.of_the_system("PATH").get("PATH", os.defpath))
    if found is None:
        raise ScanFailed(Problem.SCANNER_MISSING, "the program trivy is not installed where the scanner runs")
    return found


def _new_folder(workplace: Workplace) -> Path:
    """A new folder for one run, so that files of an earlier run have no effect."""
    return Path(tempfile.mkdtemp(dir=workplace.folder))


def _link(source: Path, target: Path) -> Path:
    """Hard-link the files into another folder. Returns the path to read: ``source`` if it is on another file system."""
    target.mkdir()
    for path in sorted(source.glob("**/*")):
        path.chmod(0o755 if path.is_dir() else 0o644)  # they hold no secrets, and Trivy may run as another user
        place = target / path.relative_to(source)
        if path.is_dir():
            place.mkdir()
            continue
        try:
            place.hardlink_to(path)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP}:
                raise
            return source
    return Path(target.name)


def _command(
    isolated: Isolation,
    folder: Path,
    command: Sequence[str],
    *,
    read_only: Sequence[Path] = (),
    downloads: bool = False,
) -> tuple[list[str], int]:
    """The command that runs ``command`` in isolation, and the id of the user that it runs as (0: KCR's)."""
    user = secrets.choice(sandbox.USERS) if isolated.takes_copies else 0
    wanted = sandbox.Specification(
        kind="limits" if isolated.kind == "runner" else isolated.kind,
        folder=str(folder),
        user=user,
        network=downloads,
        read_only=tuple(str(path) for path in read_only if not path.is_absolute()),
        readable=(
            *(str(path) for path in read_only if path.is_absolute()),
            *(env.of_the_system("SSL_CERT_FILE", "SSL_CERT_DIR").values() if downloads else ()),
        ),
        hidden=str(settings.DATA_DIR),
        file_bytes=2 * DISK_BYTES if downloads else FILE_BYTES,
        data_bytes=DATA_BYTES,
    )
    return [sys.executable, "-I", "-S", sandbox.__file__, wanted.written(), *command], user


def _run(
    arguments: Sequence[str],
    folder: Path,
    workplace: Workplace,
    *,
    read_only: Sequence[Path] = (),
    downloads: bool = False,
) -> str:
    """Run Trivy in its folder until it ends; what it logged. Raises ScanFailed, and passes on heartbeat errors."""
    (folder / "tmp").mkdir()
    environment = env.of_the_system(*_FOR_DOWNLOADS) if downloads else {}
    isolated = isolation()
    if downloads and isolated.kind != "namespaces":  # it reads from the operator's repository only
        isolated = Isolation("limits")
    # Another user cannot pass through the parent folders, so the paths are relative.
    home = Path() if isolated.kind in {"user", "runner"} else folder
    environment |= {"PATH": os.defpath, "HOME": str(home), "TMPDIR": str(home / "tmp")}
    user = 0
    with tempfile.TemporaryFile() as errors:
        if isolated.kind == "runner":
            process: subprocess.Popen[bytes] | _Remote = _Remote(arguments, folder, environment)
        else:
            command, user = _command(
                isolated, folder, [_program(), *arguments], read_only=read_only, downloads=downloads
            )
            process = _start(command, folder, environment, errors, user)
        try:
            with tracing.span("trivy", **{"kcr.isolation": isolated.kind}):
                status = _watch(process, folder, workplace)
        finally:
            _stop(process, user if isolated.kind == "user" else 0)
        said = process.said if isinstance(process, _Remote) else _words(errors)
        if status:
            raise _failure(status, said, workplace.folder)
        return said


def _start(
    command: list[str], folder: Path, environment: dict[str, str], errors: IO[bytes], user: int
) -> subprocess.Popen[bytes]:
    if user:
        sandbox.give(folder, user)
    return subprocess.Popen(  # noqa: S603  no part of the command comes from a user
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,  # Trivy writes nothing to it; its end is noticed at once
        stderr=errors,
    )


class _Remote:
    """A run of Trivy in another container (``scanning.trivy.runner``), used like a Popen. Raises ScanFailed."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
        self.said, self.returncode = "", 0
        wanted = {"arguments": list(arguments), "folder": str(folder), "environment": dict(environment)}
        limits = {"file_bytes": FILE_BYTES, "data_bytes": DATA_BYTES}
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.connect(settings.TRIVY_SOCKET)
            self._socket.sendall(json.dumps(wanted | limits).encode() + b"\n")
        except OSError as error:
            self._socket.close()
            raise ScanFailed(Problem.SCANNER_MISSING, "the runner at KCR_TRIVY_SOCKET does not answer") from error
        self._answer = self._socket.makefile("rb")

    def communicate(self, timeout: float) -> None:
        """Wait for the end. Raises TimeoutExpired."""
        readable, _, _ = select.select([self._socket], [], [], timeout)
        if not readable:
            raise subprocess.TimeoutExpired("trivy", timeout)
        try:
            answer = json.loads(self._answer.readline(4 * SAID_BYTES))
            self.returncode, self.said = int(answer["status"]), str(answer["said"])
        except (ValueError, KeyError, OSError) as error:
            raise ScanFailed(Problem.KILLED, "the runner ended") from error

    def close(self) -> None:
        """Close the connection: the runner then stops Trivy."""
        self._answer.close()
        self._socket.close()


def _watch(process: subprocess.Popen[bytes] | _Remote, folder: Path, workplace: Workplace) -> int:
    """Wait for the end, and enforce the limits of time and disk. Returns the exit status."""
    started = heard = time.monotonic()
    while True:
        try:
            process.communicate(timeout=TURN)
            return process.returncode
        except subprocess.TimeoutExpired:
            now = time.monotonic()
        if now - started > SECONDS:
            raise ScanFailed(Problem.TIMEOUT, f"stopped after {SECONDS} s")
        if now - heard > HEARTBEAT:
            heard = now
            workplace.heartbeat()
        if _size(folder / "tmp") > DISK_BYTES:
            raise ScanFailed(Problem.DISK, f"it wrote more than {DISK_BYTES // 1024**3} GiB of temporary files")


def _stop(process: subprocess.Popen[bytes] | _Remote, user: int) -> None:
    """Kill the run, and all processes of its user."""
    if isinstance(process, _Remote):
        process.close()
        return
    if process.stdout is not None:
        process.stdout.close()
    process.kill()
    process.wait()
    if user:  # fails if the user has no process
        subprocess.run(sandbox.end_all(user), stderr=subprocess.DEVNULL, check=False)  # noqa: S603  our own words


def _failure(status: int, words: str, folder: Path) -> ScanFailed:
    lines = [line for line in words.splitlines() if line.strip()]
    # A crash prints hundreds of lines of stack trace after its message.
    telling = (line for line in lines if "FATAL" in line or line.startswith(("panic:", "fatal error:")))
    told = next(telling, lines[-1] if lines else "").rpartition("FATAL")[2].strip().removeprefix("Fatal error")
    detail = " ".join(told.split()).replace(f"{folder}/", "").replace(str(settings.DATA_DIR), "…")
    for mark, problem in _MEANINGS:
        if mark in words:
            return ScanFailed(problem, detail)
    if status < 0 or status > 128:
        number = -status if status < 0 else status - 128
        return ScanFailed(Problem.KILLED, f"ended by signal {number}")
    return ScanFailed(Problem.OTHER, detail or f"status {status}")


def _words(file: IO[bytes], most: int = SAID_BYTES) -> str:
    """The beginning and the end of standard error."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    begin = file.read(most)
    file.seek(max(len(begin), size - most))
    return (begin + file.read()).decode(errors="replace")


def _output(path: Path) -> bytes:
    try:
        with _opened(path) as file:
            content = file.read(OUTPUT_BYTES + 1)
    except FileNotFoundError as error:
        raise ScanFailed(Problem.OTHER, "trivy wrote nothing") from error
    if len(content) > OUTPUT_BYTES:
        raise ScanFailed(Problem.DISK, f"the result has more than {OUTPUT_BYTES // 1024**2} MiB")
    return content


def _opened(path: Path) -> IO[bytes]:
    """Open a file that a run wrote. Raises FileNotFoundError, and ScanFailed for links and pipes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ScanFailed(Problem.OTHER, "trivy wrote something else than a file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ScanFailed(Problem.OTHER, "trivy wrote something else than a file")
    return os.fdopen(descriptor, "rb")


def _size(folder: Path) -> int:
    """Bytes used under a folder while Trivy writes to it."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_blocks * 512  # noqa: PTH118  strings are quicker
            except FileNotFoundError:
                continue
    return total
