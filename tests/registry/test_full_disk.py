"""A full disk: a server on a small file system, which needs root."""

from __future__ import annotations

import http.client
import json
import os
import shutil
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from tests.support import PASSWORD
from tests.support.images import sha256
from tests.support.programs import TemporaryFolder, require, run, unavailable, wait_until
from tests.support.server import LiveServer
from tests.support.visitor import Visitor

if TYPE_CHECKING:
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


@pytest.fixture(scope="module")
def server():
    if os.geteuid() != 0:
        unavailable("this test mounts a small file system, which only root may do")
    with TemporaryFolder("disk") as made:  # closing unmounts the file system
        command = [require("mount"), "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(made.folder)]
        mounted = run(command, succeeds=None)
        if mounted.status != 0:
            unavailable(f"a small file system cannot be mounted: {mounted.errors}")
        small = SmallServer("full-disk", {"KCR_WEB_WORKERS": "1"})
        small.disk = made.folder
        with small:
            small.people()
            small.visitor("admin@acme.test", "--project", "demo:admin")
            api = small.api()
            assert api.push_blob(DATA) == 201
            assert api.push_manifest("1.0", DATA) == 201
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
    filler = server.disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
    try:
        for _ in range(3):  # uses up the free pages of the database
            everybody_can_pull_and_ask_for_tokens(server)
            assert "Garbage collection" in visitor.see("/projects/demo/garbage-collection")
        answers = [new.ask("POST", action, urlencode(fields)) for _ in range(20)]
        statuses = {status for status, _, _ in answers}
        assert statuses <= {302, 503}, statuses
        refused = [headers for status, headers, _ in answers if status == 503]
        assert all(headers.get("Retry-After") for headers in refused)
    finally:
        filler.unlink()
    assert Visitor(server, "admin@acme.test")
    data = os.urandom(50_000)
    api = server.api()
    assert api.push_blob(data) == 201
    assert api.push_manifest("later", data) == 201
