"""A full disk: of the files, beside S3, and of S3 itself. Servers on a small file system, which needs root."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from tests.support import PASSWORD
from tests.support.images import sha256
from tests.support.programs import PostgresServer, TemporaryFolder, require, run, unavailable, wait_until
from tests.support.s3 import CREDENTIALS, SeaweedFS
from tests.support.server import LiveServer
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]

SIZE = 64 * 1024**2
RESERVE = SIZE // 50
DATA = os.urandom(100_000)


class SmallServer(LiveServer):
    """A server whose data are on a file system of SIZE bytes."""

    disk: Path

    @property
    def data(self) -> Path:
        return self.disk / "data"

    def free(self) -> int:
        """Return the free bytes."""
        return shutil.disk_usage(self.disk).free


@contextmanager
def small_disk() -> Iterator[Path]:
    """Mount a file system of SIZE bytes."""
    if os.geteuid() != 0:
        unavailable("this test mounts a small file system, which only root may do")
    with TemporaryFolder("disk") as made:  # closing unmounts the file system
        disk = made.folder / "disk"
        disk.mkdir()
        mounted = run([require("mount"), "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)], succeeds=None)
        if mounted.status != 0:
            unavailable(f"a small file system cannot be mounted: {mounted.errors}")
        yield disk


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Leave no free byte on the disk during the block."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def with_an_image(server: LiveServer) -> Iterator[LiveServer]:
    """Start the server with people, and an image of DATA with the tag 1.0."""
    with server:
        server.people()
        server.visitor("admin@acme.test", "--project", "demo:admin")
        api = server.api()
        assert api.push_blob(DATA) == 201
        assert api.push_manifest("1.0", DATA) == 201
        yield server


@pytest.fixture(scope="module")
def server():
    with small_disk() as disk:
        small = SmallServer("full-disk", {"KCR_WEB_WORKERS": "1"})
        small.disk = disk
        with with_an_image(small):
            yield small


def endless(came: list[int]):
    """Yield a body that is longer than the disk."""
    while True:
        came.append(256 * 1024)
        yield b"x" * came[-1]


def everybody_can_pull_and_ask_for_tokens(server):
    key = server.client(server.key)
    path = f"{server.url}/token?service={server.host}&scope=repository:demo/web/app:pull&offline_token=true"
    answer = key.ask("GET", path, Authorization=f"Basic {key.basic}")
    assert answer.status == 200, answer.body
    assert json.loads(answer.body)["token"]
    api = server.api()
    assert api.ask("GET", "manifests/1.0")[0] == 200
    assert api.ask("GET", f"blobs/{sha256(DATA)}")[2] == DATA


def send(api, upload, body) -> tuple[int, bytes]:
    """Send a chunked PATCH whose answer may come before its end."""
    with closing(http.client.HTTPConnection("127.0.0.1", api.server.port, timeout=60)) as connection:
        connection.putrequest("PATCH", upload, skip_host=True)
        for name, value in (api.headers | {"Transfer-Encoding": "chunked"}).items():
            connection.putheader(name, value)
        connection.endheaders()
        try:
            for chunk in body:
                connection.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        except OSError:  # the server has closed the connection
            pass
        answer = connection.getresponse()
        return answer.status, answer.read()


def test_upload_into_the_reserve_is_cut_and_its_bytes_freed(server):
    api, before = server.api(), server.free()
    upload, came = api.start(), []
    status, said = send(api, upload, endless(came))
    assert status == 507, said
    assert "storage is full" in json.loads(said)["errors"][0]["message"]
    assert sum(came) > before / 2  # most of the disk was used
    assert wait_until(lambda: server.free() > before - RESERVE, timeout=30)
    assert api.ask("GET", upload)[1]["Range"] == "0-0"
    data = os.urandom(50_000)
    assert api.push_blob(data) == 201
    assert api.push_manifest("after", data) == 201


def test_disk_at_its_reserve_still_serves_sign_ins_and_pulls(server):
    filler = server.disk / "filler"
    filler.write_bytes(b"\0" * (server.free() - RESERVE + 100_000))
    try:
        api = server.api()
        assert api.ask("POST", "blobs/uploads/")[0] == 507
        assert api.push_manifest("2.0", DATA) == 507
        everybody_can_pull_and_ask_for_tokens(server)
        assert server.is_ready()  # a load balancer must not take away what serves pulls
        visitor = Visitor(server, "admin@acme.test")
        assert "Garbage collection" in visitor.see("/projects/demo/garbage-collection")
        assert visitor.post(*visitor.filled("/projects/demo/garbage-collection", act="run"))[0] == 302
    finally:
        filler.unlink()


def test_full_disk_serves_pulls_and_answers_other_requests_with_retry_after(server):
    visitor = Visitor(server, "admin@acme.test")
    new = Visitor(server)
    action, fields = new.filled("/sign-in", email="admin@acme.test", password=PASSWORD)
    with filled(server.disk):
        for _ in range(3):  # uses up the free pages of the database
            everybody_can_pull_and_ask_for_tokens(server)
            assert "Garbage collection" in visitor.see("/projects/demo/garbage-collection")
        answers = [new.ask("POST", action, urlencode(fields)) for _ in range(20)]
        statuses = {status for status, _, _ in answers}
        assert statuses <= {302, 503}, statuses
        refused = [headers for status, headers, _ in answers if status == 503]
        assert all(headers.get("Retry-After") for headers in refused)
    assert Visitor(server, "admin@acme.test")
    data = os.urandom(50_000)
    api = server.api()
    assert api.push_blob(data) == 201
    assert api.push_manifest("later", data) == 201


# ── S3 ───────────────────────────────────────────────────────────────────────────────────────────────────────────────
def pushed(server, number: int) -> tuple[int, bool]:
    """Push a blob in one request. Return the status, and whether a refusal says when to come again."""
    data = random.Random(number).randbytes(7_000)  # S3 may compress
    answer = server.api().ask("POST", f"blobs/uploads/?digest={sha256(data)}", data)
    is_there = server.api().ask("HEAD", f"blobs/{sha256(data)}").status == 200
    assert is_there is (answer.status == 201), answer
    return answer.status, "Retry-After" in answer.headers


@pytest.fixture(params=["sqlite", "postgresql"])
def beside_s3(request, seaweed):
    """A server with blobs in S3, whose data directory is on a small disk."""
    with ExitStack() as stack:
        settings = {"KCR_WEB_WORKERS": "1", "KCR_STORAGE_URL": seaweed.url(f"full-disk-{request.param}"), **CREDENTIALS}
        if request.param == "postgresql":
            settings["KCR_DATABASE_URL"] = stack.enter_context(PostgresServer()).url
        small = SmallServer("beside-s3", settings)
        small.disk = stack.enter_context(small_disk())
        yield stack.enter_context(with_an_image(small))


def test_full_disk_beside_s3_stops_only_what_the_database_cannot_write(beside_s3):
    """No byte of a blob is on the disk: pushes go on with PostgreSQL. SQLite is on the disk."""
    has_sqlite = (beside_s3.data / "kcr.sqlite3").exists()
    with filled(beside_s3.disk):
        answers = [pushed(beside_s3, number) for number in range(40)]
        assert set(answers) <= {(201, False), *([(503, True)] if has_sqlite else [])}
        assert answers[-1] == ((503, True) if has_sqlite else (201, False))
        everybody_can_pull_and_ask_for_tokens(beside_s3)
        assert beside_s3.is_ready()
        if not has_sqlite:
            assert Visitor(beside_s3, "admin@acme.test").see("/projects/demo/garbage-collection")
    assert Visitor(beside_s3, "admin@acme.test")
    assert pushed(beside_s3, 39) == (201, False)
    assert beside_s3.api().push_manifest("later", DATA) == 201


class SmallSeaweedFS(SeaweedFS):
    """S3 on a file system of SIZE bytes."""

    disk: Path

    @property
    def data(self) -> Path:
        return self.disk / "data"


def test_push_to_a_full_s3_is_refused_and_works_when_there_is_room_again():
    with small_disk() as disk:
        s3 = SmallSeaweedFS()
        s3.disk = disk
        with s3, with_an_image(LiveServer("full-s3", {"KCR_STORAGE_URL": s3.url("full"), **CREDENTIALS})) as server:
            large = os.urandom(12 * 1024**2)  # of two parts
            with filled(disk):
                assert pushed(server, 1)[0] in {503, 507}
                assert server.api().push_blob(large) in {503, 507}
                everybody_can_pull_and_ask_for_tokens(server)
                assert Visitor(server, "admin@acme.test").see("/projects/demo/garbage-collection")
                assert server.is_ready()
            assert pushed(server, 1) == (201, False)
            assert server.api().push_blob(large) == 201
            assert server.api().push_manifest("2.0", large) == 201
