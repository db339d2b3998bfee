"""Trivy, the only program that scanning starts: each run by itself, within limits, with nothing of ours around it.

It reads files and writes files: an image as a layout, a list of packages, a database. It gets no environment, no
credentials, no cache that another image could have poisoned, and, where the system allows it, no network. What it says
about its failures is turned into a Problem here, once.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings

from registry import env

from .models.scans import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SECONDS = 600
FILE_BYTES = 2 * 1024**3  # what a bomb in a layer may write into one file
DISK_BYTES = 4 * 1024**3  # and into all of them
DATA_BYTES = 1024**3  # memory; an image with 50,000 packages needs three quarters of it
OUTPUT_BYTES = 256 * 1024**2
TURN = 0.25  # seconds between two looks at a run
HEARTBEAT = 10.0
GRACE = 2.0  # seconds from one signal to the next

_QUIET = ("--quiet", "--config", "", "--ignorefile", "", "--disable-telemetry", "--skip-version-check")
_OFFLINE = ("--skip-db-update", "--skip-java-db-update", "--offline-scan", "--cache-backend", "memory")
# The shell sets the limits and becomes what it starts: there is one process, and it is the one to be stopped.
_LIMITED = ("sh", "-c", 'ulimit -f "$1" && ulimit -d "$2" && ulimit -c 0 && shift 2 && exec "$@"', "sh")
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
# What Trivy's last words mean; the first that is found counts.
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
)


class ScanFailed(Exception):
    """Trivy, or what it needs, failed. ``detail`` is for people: at most 500 characters, no path of this machine."""

    def __init__(self, problem: Problem, detail: str = "") -> None:
        super().__init__(f"{problem}: {detail}")
        self.problem, self.detail = problem, detail[:500]


def _nothing() -> None:
    """No heartbeat."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """An empty folder for one scan, and whom to tell every few seconds that it goes on.

    ``heartbeat`` may raise: then the run is stopped and the exception passes through.
    """

    folder: Path
    heartbeat: Callable[[], None] = _nothing


def make_sbom(layout: Path, workplace: Workplace) -> bytes:
    """The packages in the image of a layout (a folder with one manifest), as CycloneDX in JSON. Raises ScanFailed."""
    output, cache_folder = workplace.folder / "sbom.json", workplace.folder / "cache"
    write_java_database(cache_folder)
    _run(["image", "--input", str(layout), "--format", "cyclonedx", *_common(cache_folder, output)], workplace)
    return _output(output)


def make_report(sbom: bytes, database: Path, workplace: Workplace) -> dict[str, Any]:
    """What the database (a cache folder of Trivy's) knows about these packages: Trivy's report. Raises ScanFailed."""
    source, output = workplace.folder / "packages.json", workplace.folder / "report.json"
    source.write_bytes(sbom)
    _run(
        ["sbom", str(source), "--format", "json", "--list-all-pkgs=false", *_common(database, output)],
        workplace,
    )
    try:
        report: dict[str, Any] = json.loads(_output(output))
    except ValueError as error:
        raise ScanFailed(Problem.OTHER, "the report is not JSON") from error
    return report


def download_database(repository: str, workplace: Workplace) -> Path:
    """Fetch the vulnerability database from an OCI repository ("": where Trivy's makers publish it). Raises ScanFailed.

    Returns the folder with ``trivy.db`` and ``metadata.json``.
    """
    cache_folder = workplace.folder / "cache"
    named = ["--db-repository", repository] if repository else []
    _run(
        ["image", "--download-db-only", *named, *_QUIET, "--no-progress", "--cache-dir", str(cache_folder)],
        workplace,
        downloads=True,
    )
    return cache_folder / "db"


def write_java_database(cache_folder: Path) -> None:
    """Put an empty index of Java archives into a cache folder: without any, Trivy refuses every image with a .jar.

    With it, archives are known by what is written in them (pom.properties), not by their digest.
    """
    folder = cache_folder / "java-db"
    folder.mkdir(parents=True)
    with closing(sqlite3.connect(folder / "trivy-java.db")) as database:
        database.executescript(_JAVA_TABLES)
    moments = dict.fromkeys(("NextUpdate", "UpdatedAt", "DownloadedAt"), "2100-01-01T00:00:00Z")
    (folder / "metadata.json").write_text(json.dumps({"Version": 1, **moments}))


@cache
def version() -> str:
    """Trivy's version, such as 0.76.0. Raises ScanFailed when there is none."""
    done = subprocess.run(  # noqa: S603  our own words
        [_program(), "--version"], capture_output=True, text=True, timeout=60, check=False, env={"HOME": os.devnull}
    )
    name, _, number = done.stdout.partition("\n")[0].partition(": ")
    if done.returncode or name != "Version":
        raise ScanFailed(Problem.SCANNER_MISSING, "trivy does not say its version")
    return number.strip()


def _common(cache_folder: Path, output: Path) -> list[str]:
    return [*_QUIET, *_OFFLINE, "--cache-dir", str(cache_folder), "--timeout", f"{SECONDS}s", "--output", str(output)]


def _program() -> str:
    """Where Trivy is: beside Python, as a package of it, or where programs are."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which("trivy", path=os.pathsep.join([beside, *env.of_the_system("PATH").values()]))
    if found is None:
        raise ScanFailed(Problem.SCANNER_MISSING, "the program trivy is not installed where the scanner runs")
    return found


@cache
def _isolation() -> tuple[str, ...]:
    """What starts a program without a network, where the system lets us; nothing elsewhere."""
    command = ("unshare", "--map-current-user", "--net", "--")
    try:
        done = subprocess.run([*command, "true"], capture_output=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return command if done.returncode == 0 else ()


def _run(arguments: Sequence[str], workplace: Workplace, *, downloads: bool = False) -> None:
    """Run Trivy to its end. Raises ScanFailed, and what the heartbeat raises."""
    temporary, said = workplace.folder / "tmp", workplace.folder / "stderr"
    temporary.mkdir(exist_ok=True)
    environment = env.of_the_system(*_FOR_DOWNLOADS) if downloads else {}
    environment |= {"PATH": os.defpath, "HOME": str(workplace.folder), "TMPDIR": str(temporary)}
    limits = [str((2 * DISK_BYTES if downloads else FILE_BYTES) // 512), str(DATA_BYTES // 1024)]
    isolation = () if downloads else _isolation()
    command = [*_LIMITED, *limits, *isolation, _program(), *arguments]
    with said.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603  nothing in it is anybody else's
            command,
            cwd=workplace.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # nothing comes; that it is closed is heard at once
            stderr=errors,
        )
    try:
        status = _watch(process, workplace)
    finally:
        _stop(process)
    if status:
        raise _failure(status, _words(said), workplace.folder)


def _watch(process: subprocess.Popen[bytes], workplace: Workplace) -> int:
    """Wait for the end within the limits that Trivy does not keep by itself; returns the exit status."""
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
        if _size(workplace.folder / "tmp") > DISK_BYTES:
            raise ScanFailed(Problem.DISK, f"it wrote more than {DISK_BYTES // 1024**3} GiB of temporary files")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it. One SIGTERM is not always enough for Trivy, the second is; SIGKILL is for the rest."""
    if process.stdout is not None:
        process.stdout.close()
    for stop in (process.terminate, process.terminate, process.kill):
        if process.poll() is not None:
            return
        stop()
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            continue


def _failure(status: int, words: str, folder: Path) -> ScanFailed:
    lines = [line for line in words.splitlines() if line.strip()]
    # A crash is followed by hundreds of lines about where it was.
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


def _words(path: Path, most: int = 64 * 1024) -> str:
    """The beginning and the end of what it said."""
    with path.open("rb") as file:
        begin = file.read(most)
        file.seek(max(len(begin), path.stat().st_size - most))
        return (begin + file.read()).decode(errors="replace")


def _output(path: Path) -> bytes:
    if not path.exists():
        raise ScanFailed(Problem.OTHER, "trivy wrote nothing")
    if path.stat().st_size > OUTPUT_BYTES:
        raise ScanFailed(Problem.DISK, f"the result has more than {OUTPUT_BYTES // 1024**2} MiB")
    return path.read_bytes()


def _size(folder: Path) -> int:
    """Bytes under a folder that somebody else is writing to."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_blocks * 512  # noqa: PTH118  strings are quicker
            except FileNotFoundError:
                continue
    return total
