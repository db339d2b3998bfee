"""Two hundred slow readers do not slow other clients (see also tests/registry/test_crowds.py), and memory is bounded."""

from __future__ import annotations

import hashlib
import os
import selectors
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest

from tests.support.images import sha256
from tests.support.server import LiveServer

pytestmark = [pytest.mark.real, pytest.mark.alone, pytest.mark.sqlite_only]

SLOW = 200
LARGE = int(os.environ.get("KCR_TEST_LARGE_BYTES", str(256 * 1024 * 1024)))
BLOCK = 1024 * 1024


@pytest.fixture(scope="module")
def server():
    with LiveServer("slow") as running:
        yield running.people()


def memory(server: LiveServer) -> int:
    """Return the bytes in memory of the server and its workers together."""
    group, total = os.getpgid(server.process.pid), 0
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(entry.name)) == group:
                total += int((entry / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (ProcessLookupError, FileNotFoundError):
            continue
    return total


class SlowCrowd:
    """Connections that each read a kilobyte a second, in a separate thread."""

    def __init__(self, server: LiveServer, request: bytes) -> None:
        self.selector, self.over = selectors.DefaultSelector(), threading.Event()
        self.moving: set[int] = set()
        for _ in range(SLOW):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(request)
            connection.setblocking(False)
            self.selector.register(connection, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        """Return once all connections receive bytes."""
        self.thread.start()
        end = time.monotonic() + 30
        while len(self.moving) < SLOW and time.monotonic() < end:
            time.sleep(0.1)
        assert len(self.moving) == SLOW
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()

    def _run(self) -> None:
        while not self.over.wait(1):
            for key, _ in self.selector.select(0):
                self.moving.add(key.fd)
                try:
                    key.fileobj.recv(1024)
                except BlockingIOError:
                    continue
                except OSError:
                    self.selector.unregister(key.fileobj)


def test_slow_readers_do_not_slow_other_clients(server):
    api = server.api()
    data = os.urandom(4 * BLOCK)
    assert api.push_blob(data) == 201
    head = "".join(f"{name}: {value}\r\n" for name, value in api.headers.items())
    request = f"GET /v2/demo/web/app/blobs/{sha256(data)} HTTP/1.1\r\n{head}\r\n"
    with SlowCrowd(server, request.encode()):
        waits = []
        for _ in range(20):
            began = time.monotonic()
            assert api.ask("GET", "/v2/")[0] == 200
            waits.append(time.monotonic() - began)
        assert sorted(waits)[len(waits) // 2] < 1, f"{waits}, {memory(server) / 1e6:.0f} MB"
        assert api.push_blob(os.urandom(BLOCK)) == 201


def test_large_blob_does_not_fill_the_memory(server):
    """``KCR_TEST_LARGE_BYTES`` sets the size of the blob."""
    api = server.api()
    for _ in range(20):
        api.ask("GET", "/v2/")
    before, digest, seen = memory(server), hashlib.sha256(), []
    seed = os.urandom(BLOCK)

    def blocks():
        for number in range(LARGE // BLOCK):
            block = number.to_bytes(8, "big") + seed[8:]
            digest.update(block)
            yield block
            if number % 32 == 0:
                seen.append(memory(server))

    status, headers, _ = api.ask("PATCH", api.start(), blocks())
    assert status == 202
    name = f"sha256:{digest.hexdigest()}"
    assert api.ask("PUT", f"{headers['Location']}?digest={name}")[0] == 201
    pulled = hashlib.sha256()
    with ExitStack() as stack:
        answer = stack.enter_context(api.open("GET", f"blobs/{name}"))
        assert answer.headers["Content-Length"] == str(LARGE)
        while block := answer.read(BLOCK):
            pulled.update(block)
            if len(seen) % 4 == 0:
                seen.append(memory(server))
    assert pulled.digest() == digest.digest()
    assert max(seen) - before < 50e6, f"{before / 1e6:.0f} MB, then {max(seen) / 1e6:.0f} MB"
    first, last = api.ask("GET", f"blobs/{name}", Range="bytes=0-7"), api.ask("GET", f"blobs/{name}", Range="bytes=-5")
    assert (first[0], first[2]) == (206, (0).to_bytes(8, "big"))
    assert (last[0], last[2]) == (206, seed[-5:])
