"""``python -m bench.collection``: the garbage collector with a million blobs and a hundred thousand files, under load.

Fills a database of its own, and then, in turn: nothing but pushes and pulls, and the same beside ``collectgarbage``,
which is stopped by Ctrl-C at the end of each round and goes on in the next, until everything is gone. Prints the
collector's memory, what it did in a second, and what pushes and pulls took beside it over what they took alone.
Environment: ``BENCH_BLOBS`` (1,000,000), ``BENCH_FILES`` (100,000), ``BENCH_SECONDS`` (30, of each part of a round),
``BENCH_DATABASE`` (``postgresql``; else SQLite).
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.programs import PostgresServer
from tests.support.server import LiveServer

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOBS = int(os.environ.get("BENCH_BLOBS", "1000000"))
FILES = int(os.environ.get("BENCH_FILES", "100000"))
SECONDS = float(os.environ.get("BENCH_SECONDS", "30"))
ROWS = 10_000


def fill(server: LiveServer) -> list[Path]:
    """Create unreferenced blobs with due reviews, some of them with bytes. Return the files."""
    os.environ |= {name: value for name, value in server.environment.items() if name.startswith("KCR_")}
    os.environ |= {"DJANGO_SETTINGS_MODULE": "registry.settings"}
    import django

    django.setup()
    from django.utils import timezone

    from accounts.models import Project
    from registry.models import Blob, BlobReview

    project, due = Project.objects.get(), timezone.now() - timedelta(days=1)
    files = []
    for start in range(0, BLOBS, ROWS):
        ids = [uuid.uuid4() for _ in range(min(ROWS, BLOBS - start))]
        made = Blob.objects.bulk_create(
            [
                Blob(digest=f"sha256:{each.hex * 2}", size=4096, storage_key=f"blobs/{each.hex[:2]}/{each}")
                for each in ids
            ],
            batch_size=1000,
        )
        reviews = [BlobReview(blob=blob, project=project, review_after=due) for blob in made]
        BlobReview.objects.bulk_create(reviews, batch_size=1000)
        for blob in made[: max(0, FILES - start)]:
            path = server.data / "storage" / blob.storage_key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\0" * 4096)
            files.append(path)
        if start % 100_000 == 0:
            print(f"{start:,} blobs made", file=sys.stderr)
    return files


class Visitors(threading.Thread):
    """Push and pull without a pause. The result is the seconds of each request, by kind."""

    def __init__(self, server: LiveServer) -> None:
        super().__init__()
        self.server, self.over = server, threading.Event()
        self.took: dict[str, list[float]] = {"push of a layer": [], "push of a manifest": [], "pull of a manifest": []}

    def run(self) -> None:
        api = self.server.api()
        while not self.over.is_set():
            data = os.urandom(64 * 1024)
            self.time("push of a layer", 201, lambda data=data: api.push_blob(data))
            self.time("push of a manifest", 201, lambda data=data: api.push_manifest("bench", data))
            self.time("pull of a manifest", 200, lambda: api.ask("GET", "manifests/bench")[0])

    def time(self, what: str, status: int, act: object) -> None:
        started = time.perf_counter()
        answered = act()  # type: ignore[operator]
        if answered != status:
            sys.exit(f"{what}: {answered}")
        self.took[what].append(time.perf_counter() - started)


def visited(server: LiveServer, until: float, is_over: object = lambda: False) -> dict[str, list[float]]:
    """Push and pull until the given time, or until the block ends."""
    visitors = Visitors(server)
    visitors.start()
    while time.monotonic() < until and not is_over():  # type: ignore[operator]
        time.sleep(0.1)
    visitors.over.set()
    visitors.join()
    return visitors.took


class Collector:
    """One run of ``collectgarbage``: its memory and output."""

    def __init__(self, server: LiveServer) -> None:
        self.log = Path(tempfile.mkstemp(prefix="kcr-bench-")[1])
        with self.log.open("w") as log:
            command = server.command("collectgarbage")
            self.process = subprocess.Popen(command, env=server.environment, stdout=subprocess.PIPE, stderr=log)
        self.memory: list[int] = []
        while not self.is_over() and not self.has_begun():
            time.sleep(0.1)
        self.watcher = threading.Thread(target=self._watch)
        self.watcher.start()

    def _watch(self) -> None:
        while self.process.poll() is None:
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
                self.memory.append(pages * os.sysconf("SC_PAGE_SIZE"))
            time.sleep(0.2)

    def has_begun(self) -> bool:
        return "looked at" in self.log.read_text()

    def is_over(self) -> bool:
        return self.process.poll() is not None

    def end(self) -> None:
        """Stop it with SIGINT."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self.process.communicate()
        self.watcher.join()
        said = self.log.read_text()
        self.log.unlink()
        if self.process.returncode not in {0, 1, 130, -signal.SIGINT}:
            sys.exit(f"collectgarbage ended with {self.process.returncode}:\n{said[-2000:]}")
        progress = re.findall(r"demo: .*", said)
        print(f"  said {len(progress)} times how far it is, last: {progress[-1] if progress else 'nothing'}")


def left(files: list[Path]) -> tuple[int, int]:
    """Make all ObjectTrash rows due. Return the numbers of due reviews and of files."""
    from django.db import connection
    from django.utils import timezone

    from registry.models import BlobReview, ObjectTrash

    now = timezone.now()
    there = [path for path in files if path.exists()]
    ObjectTrash.objects.filter(delete_after__gt=now).update(delete_after=now)
    count = BlobReview.objects.filter(review_after__lte=now).count()
    connection.close()
    return count, len(there)


@contextlib.contextmanager
def served() -> Iterator[LiveServer]:
    with contextlib.ExitStack() as stack:
        settings = {}
        if os.environ.get("BENCH_DATABASE") == "postgresql":
            settings["KCR_DATABASE_URL"] = stack.enter_context(PostgresServer("bench")).url
        yield stack.enter_context(LiveServer("bench", settings)).people()


def figures(values: list[float]) -> str:
    """Median and spread."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} - {max(values):.2f})"


def main() -> None:
    """Measure and print."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background, children included
    with served() as server:
        made = fill(server)
        ratios: dict[str, list[float]] = {}
        blobs_a_second, files_a_second, memory = [], [], []
        blobs, files = left(made)
        while blobs or files:
            quiet = visited(server, time.monotonic() + SECONDS)
            started = time.monotonic()
            collector = Collector(server)
            busy = visited(server, started + SECONDS, collector.is_over)
            collector.end()
            seconds = time.monotonic() - started
            blobs_after, files_after = left(made)
            if blobs > blobs_after:
                blobs_a_second.append((blobs - blobs_after) / seconds)
            if files > files_after:
                files_a_second.append((files - files_after) / seconds)
            memory += collector.memory
            for what, took in quiet.items():
                if took and busy[what]:
                    ratios.setdefault(what, []).append(statistics.median(busy[what]) / statistics.median(took))
            blobs, files = blobs_after, files_after
            print(f"  {blobs:,} blobs and {files:,} files left, {seconds:.0f} s", flush=True)
        print(f"collector: {memory[0] / 1e6:.0f} MB when it began, at most {max(memory) / 1e6:.0f} MB")
        print(f"blobs a second, beside the others: {figures(blobs_a_second)}")
        if blobs_a_second:
            print(f"100,000 blobs take {100_000 / statistics.median(blobs_a_second):.0f} s")
        print(f"files a second, beside the others: {figures(files_a_second)}")
        for what, found in ratios.items():
            print(f"{what}, beside the collector / alone: {figures(found)}")


if __name__ == "__main__":
    main()
