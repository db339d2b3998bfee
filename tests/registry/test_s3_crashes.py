"""Processes that are killed between two requests to S3, and during one.

Acknowledged writes stay, nothing partial is visible, and the sweeps delete all bytes that no blob needs.
"""

from __future__ import annotations

import http.client
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest

from tests.support.images import sha256
from tests.support.programs import PostgresServer, wait_until
from tests.support.s3 import CREDENTIALS, FaultyProxy
from tests.support.server import PROJECT, SOURCE, LiveServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.registry_client import RegistryClient

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]

MEBIBYTE = 1024 * 1024
PREFIX = "crashes"
MOMENTS = ("before", "after")


class Kill(NamedTuple):
    """The process that sends the request of this number is killed: it does not reach S3, or its answer is lost."""

    number: int
    moment: str


class Killer:
    """Kills the children of a process when one of them asks S3. ``seen``: the requests since ``at``."""

    def __init__(self, proxy: FaultyProxy) -> None:
        self.seen: list[str] = []
        self.parent, self.kill = 0, Kill(-1, "")
        proxy.held = self._held

    def at(self, parent: int, kill: Kill) -> None:
        """Kill the children of ``parent`` at this request."""
        self.seen, self.parent, self.kill = [], parent, kill

    def rest(self) -> None:
        """Kill nothing any more."""
        self.kill = Kill(-1, "")

    def _held(self, moment: str, operation: str) -> bool:
        if operation == "HeadBucket":  # of the check whether the server is ready
            return False
        if moment == "before":
            self.seen.append(operation)
        is_due = (len(self.seen) - 1, moment) == self.kill
        if is_due:
            self.rest()
            for child in children(self.parent):
                kill_process(child)
        return is_due


def children(parent: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def kill_process(pid: int) -> None:
    """Kill a process, and wait until it does nothing any more."""
    os.kill(pid, signal.SIGKILL)
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state in {"Z", "X"}:
            return
        time.sleep(0.001)


@pytest.fixture(scope="module")
def killer(seaweed) -> Iterator[Killer]:
    with FaultyProxy(seaweed.port) as proxy:
        made = Killer(proxy)
        made.endpoint = proxy.endpoint
        yield made


@pytest.fixture(scope="module")
def server(seaweed, killer):
    """A server on PostgreSQL and S3."""
    with PostgresServer() as database:
        settings = {"KCR_DATABASE_URL": database.url, "KCR_WEB_WORKERS": "1", **CREDENTIALS}
        settings["KCR_STORAGE_URL"] = seaweed.url(PREFIX, killer.endpoint, presign="off")
        with LiveServer("s3-crashes", settings) as running:
            running.people()
            running.manage("createrepository", f"{PROJECT}/other")
            yield running


class Steps:
    """Calls functions of tests.workers.crashes beside the server, each in a process of its own."""

    def __init__(self, server: LiveServer) -> None:
        command = [sys.executable, "-m", "tests.workers", "crashes", "call_in_children"]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            command, env=server.environment, cwd=SOURCE, stdin=pipe, stdout=pipe, text=True, bufsize=1
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *problem: object) -> None:
        self.process.communicate()

    def status(self, function: str, *arguments: str) -> int:
        """Call a function. Return the status of its process."""
        self.process.stdin.write(" ".join([function, *arguments]) + "\n")
        return int(self.process.stdout.readline())

    def __call__(self, function: str, *arguments: str) -> None:
        """Call a function, which must succeed."""
        assert self.status(function, *arguments) == 0, function


@pytest.fixture(scope="module")
def steps(server):
    with Steps(server) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_is_left_over(steps, seaweed, killer):
    """After each test and the sweeps, S3 has the bytes of the blobs and nothing else. Without blobs it is empty."""
    yield
    killer.rest()
    steps("sweep_everything")
    steps("compare_rows_and_bytes")
    assert seaweed.multiparts(PREFIX) == []
    steps("delete_everything")
    assert seaweed.keys(PREFIX) == []


def ask(api: RegistryClient, method: str, path: str, body: bytes | None = None) -> int:
    """Return the status of the answer; 0 if there is none."""
    try:
        return api.ask(method, path, body).status
    except (http.client.HTTPException, OSError):
        return 0


def is_pulled(api: RegistryClient, data: bytes) -> bool:
    return sha256(api.ask("GET", f"blobs/{sha256(data)}").body) == sha256(data)


def is_back(server: LiveServer) -> bool:
    """Wait until another web process answers."""
    return wait_until(server.is_ready, timeout=60)


# ── Pushes ───────────────────────────────────────────────────────────────────────────────────────────────────────────
# A push in two pieces, whose first one fills a part. Between two requests its state is an object. One process gets both,
# so it does not read the blob again for its digest.
FIRST_PIECE = ["CreateMultipartUpload", "UploadPart", "PutObject"]
LAST_PIECE = ["GetObject", "UploadPart", "CompleteMultipartUpload", "HeadObject", "DeleteObject"]
OF_LARGE_BLOBS = FIRST_PIECE + LAST_PIECE
OF_SMALL_BLOBS = ["PutObject", "GetObject", "PutObject", "DeleteObject"]


def push_in_pieces(api: RegistryClient, location: str, data: bytes, half: int) -> list[int]:
    """Push a blob in two pieces. Return the statuses until the first failure."""
    statuses = [ask(api, "PATCH", location, data[:half])]
    if statuses == [202]:
        statuses.append(ask(api, "PUT", f"{location}?digest={sha256(data)}", data[half:]))
    return statuses


@pytest.mark.parametrize(
    ("size", "half", "calls"), [(11 * MEBIBYTE, 9 * MEBIBYTE, OF_LARGE_BLOBS), (5000, 4000, OF_SMALL_BLOBS)]
)
def test_killed_push_keeps_acknowledged_bytes_and_shows_nothing_partial(server, killer, steps, size, half, calls):
    last = calls.index("PutObject") + 1  # the first request of the last piece: rows change before it
    before = [Kill(number, "before") for number in (0, last, calls.index("DeleteObject"))]
    for kill in before + [Kill(number, "after") for number in range(len(calls))]:
        number, call = kill.number, calls[kill.number]
        data, api = random.Random(f"{kill} {size}").randbytes(size), server.api()
        location = api.start()
        killer.at(server.process.pid, kill)
        statuses = push_in_pieces(api, location, data, half)
        assert killer.seen == calls[: number + 1]
        assert statuses == ([0] if number < last else [202, 0]), call
        assert is_back(server)
        is_done = call == "DeleteObject"  # it comes after the commit
        found = api.ask("GET", f"blobs/{sha256(data)}")
        assert (found.status, sha256(found.body) == sha256(data)) == ((200, True) if is_done else (404, False)), call
        upload = api.ask("GET", location)
        acknowledged = half if number >= last else 0
        if not is_done:
            assert (upload.status, upload.headers["Range"]) == (204, f"0-{max(0, acknowledged - 1)}"), call
        steps("release_uploads")  # else the upload has its writer for WRITER_LEASE
        assert ask(api, "PUT", f"{location}?digest={sha256(data)}", data[acknowledged:]) == 201, call
        assert is_pulled(api, data)
        assert api.push_manifest(f"{size}-{number}-{kill.moment}", data) == 201


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_push_in_one_request_leaves_nothing(server, killer, moment):
    data, api = random.Random(moment).randbytes(5000), server.api()
    killer.at(server.process.pid, Kill(0, moment))
    assert ask(api, "POST", f"blobs/uploads/?digest={sha256(data)}", data) == 0
    assert killer.seen == ["PutObject"]
    assert is_back(server)
    assert api.ask("GET", f"blobs/{sha256(data)}").status == 404
    assert ask(api, "POST", f"blobs/uploads/?digest={sha256(data)}", data) == 201
    assert is_pulled(api, data)


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_mount_can_be_repeated(server, killer, moment):
    data, source = random.Random(f"mount {moment}").randbytes(5000), server.api()
    assert source.push_blob(data) == 201
    target = server.client(server.key)
    scope = f"repository:{PROJECT}/other/app:pull,push repository:{source.image}:pull"
    told = {"realm": f"{server.url}/token", "service": server.host, "scope": scope}
    target.image, target.headers["Authorization"] = f"{PROJECT}/other/app", f"Bearer {target.token(told)}"
    path = f"blobs/uploads/?mount={sha256(data)}&from={source.image}"
    killer.at(server.process.pid, Kill(0, moment))
    assert ask(target, "POST", path) == 0
    assert killer.seen == ["HeadObject"]
    assert is_back(server)
    assert target.ask("GET", f"blobs/{sha256(data)}").status == 404
    assert ask(target, "POST", path) == 201
    assert target.push_manifest("mounted", data) == 201
    for api in (source, target):
        assert is_pulled(api, data)


OF_CANCELS = ["ListMultipartUploads", "AbortMultipartUpload", "ListObjectsV2", "ListObjectsV2", "DeleteObject"]


def test_killed_cancel_has_ended_the_upload(server, killer):
    for number in range(len(OF_CANCELS)):
        api = server.api()
        location = api.start()
        assert ask(api, "PATCH", location, bytes(9 * MEBIBYTE)) == 202
        killer.at(server.process.pid, Kill(number, "before"))
        assert ask(api, "DELETE", location) == 0
        assert killer.seen == OF_CANCELS[: number + 1]
        assert is_back(server)
        assert api.ask("GET", location).status == 404


FAILPOINTS = ["finish.published", "finish.before_commit", "finish.committed", "push.before_commit", "push.stored"]


def test_server_killed_at_a_failpoint_leaves_nothing_partial(server, steps):
    pushes = {name: (f"at-{name}", random.Random(name).randbytes(5000)) for name in FAILPOINTS}
    for name, (tag, data) in pushes.items():
        server.restart(KCR_FAILPOINT=f"{name}:die")
        api = server.api()
        statuses = push_in_pieces(api, api.start(), data, 4000)
        if statuses == [202, 201]:
            with pytest.raises((http.client.HTTPException, OSError)):
                api.push_manifest(tag, data)
        assert statuses == ([202, 0] if name.startswith("finish") else [202, 201]), name
    server.restart()
    steps("release_uploads")
    api = server.api()
    for name, (tag, data) in pushes.items():
        assert api.ask("GET", f"manifests/{tag}").status == 404, name
        is_committed = name not in FAILPOINTS[:2]
        assert api.ask("GET", f"blobs/{sha256(data)}").status == (200 if is_committed else 404), name
        assert push_in_pieces(api, api.start(), data, 4000) == [202, 201]
        assert api.push_manifest(tag, data) == 201
        assert is_pulled(api, data)


# ── Background work ──────────────────────────────────────────────────────────────────────────────────────────────────
def killed_at_each_request(killer: Killer, steps: Steps, prepare: Callable[[], object], *words: str) -> list[str]:
    """Repeat a step and kill it at a later request each time, until it ends. Return the requests.

    No row changes between two requests, so "after" one of them is "before" the next.
    """
    killed: list[str] = []
    for kill in itertools.chain([Kill(0, "before")], (Kill(number, "after") for number in itertools.count())):
        prepare()
        killer.at(steps.process.pid, kill)
        status = steps.status(*words)
        if status == 0:
            killer.rest()
            break
        assert (status, len(killer.seen)) == (-signal.SIGKILL, kill.number + 1), words
        killed.append(killer.seen[-1])
    return killed[1:]


def test_killed_sweep_of_uploads_is_continued(server, killer, steps):
    api = server.api()

    def begin_an_upload():
        steps("sweep_everything")
        assert ask(api, "PATCH", api.start(), bytes(9 * MEBIBYTE)) == 202

    assert killed_at_each_request(killer, steps, begin_an_upload, "sweep_uploads") == OF_CANCELS


def test_killed_sweep_of_finished_uploads_keeps_their_blobs(server, killer, steps):
    data, api = random.Random("kept").randbytes(5000), server.api()

    def push():
        assert api.push_blob(data) == 201

    push()
    steps("sweep_everything")
    calls = ["ListMultipartUploads", "ListObjectsV2", "ListObjectsV2"]
    assert killed_at_each_request(killer, steps, push, "sweep_uploads")[:3] == calls
    assert is_pulled(api, data)


def test_killed_reaper_is_continued(server, killer, steps):
    """Of an upload, its key in the trash stands for everything below it."""
    api = server.api()

    def forget_an_upload():
        steps("sweep_everything")
        assert ask(api, "PATCH", api.start(), bytes(9 * MEBIBYTE)) == 202
        steps("forget_uploads")

    assert killed_at_each_request(killer, steps, forget_an_upload, "reap") == OF_CANCELS


def test_killed_collection_is_continued(server, killer, steps):
    data, api = random.Random("collected").randbytes(5000), server.api()

    def push_and_delete():
        steps("delete_everything")
        assert api.push_blob(data) == 201
        assert api.push_manifest("doomed", data) == 201

    assert killed_at_each_request(killer, steps, push_and_delete, "delete_everything") == ["DeleteObject"]
    assert api.ask("GET", f"blobs/{sha256(data)}").status == 404


@pytest.mark.parametrize("kind", ["s3", "files"])
def test_killed_copy_of_the_storage_shows_whole_blobs_only_and_is_continued(
    server, killer, steps, seaweed, tmp_path, kind
):
    api = server.api()
    datas = [random.Random(size).randbytes(size) for size in (5000, 11 * MEBIBYTE)]
    assert [api.push_blob(data) for data in datas] == [201, 201]
    blobs = set(map(sha256, datas))
    source = server.settings["KCR_STORAGE_URL"]
    target = seaweed.url("copied", killer.endpoint) if kind == "s3" else tmp_path.as_uri()

    def copied() -> set[str]:
        """The digests of all blobs of the target."""
        objects = (seaweed.get(f"copied/{key}") for key in seaweed.keys("copied") if key.startswith("blobs/"))
        files = (path.read_bytes() for path in tmp_path.glob("blobs/*/*/*"))
        return set(map(sha256, objects if kind == "s3" else files))

    def empty_the_target():
        assert copied() <= blobs
        seaweed.empty("copied")
        shutil.rmtree(tmp_path / "blobs", ignore_errors=True)

    calls = killed_at_each_request(killer, steps, empty_the_target, "copystorage", source, target)
    reads = {"GetObject"}
    writes = {"HeadObject", "PutObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"}
    assert set(calls) == (reads | writes if kind == "s3" else reads)
    assert copied() == blobs
    steps("sweep_uploads")
    steps("discard_abandoned_at", target)
    assert copied() == blobs
    assert seaweed.multiparts("copied") == []
    assert list(tmp_path.glob("staging/*")) == []
    seaweed.empty("copied")
