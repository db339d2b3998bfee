"""Crowds of clients at one address that use all they can get, while the server serves other clients."""

from __future__ import annotations

import base64
import os
import selectors
import socket
import threading
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.support.images import sha256
from tests.support.server import LiveServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.server import AccessKey

ADDRESS = "127.0.0.2"  # all other clients come from 127.0.0.1
PAUSE = 20.0
LAYER = 12 * 1024 * 1024


class CrowdedServer(LiveServer):
    """A server with a public repository that holds one layer.

    The stranger has a key but no role; the other member may push like the first one.
    """

    def people(self) -> CrowdedServer:
        super().people()
        self.manage("createrepository", "demo/public", "--public")
        self.manage("adduser", "stranger@acme.test", "--organization", "acme")
        self.manage("adduser", "other@acme.test", "--organization", "acme", "--project", "demo:member")
        self.stranger = self.access_key("stranger@acme.test")
        self.other = self.access_key("other@acme.test")
        self.layer = os.urandom(LAYER)
        api = self.api("demo/public/app")
        assert api.push_blob(self.layer) == 201
        assert api.push_manifest("1", self.layer) == 201
        return self

    def anonymous_token(self) -> str:
        challenge = {
            "realm": f"{self.url}/token",
            "service": self.host,
            "scope": "repository:demo/public/app:pull",
        }
        return str(self.client().token(challenge))


@dataclass(frozen=True)
class Crowd:
    """``number`` connections that send the request and stay open; ``reads`` is whether they read the answer."""

    number: int
    request: Callable[[CrowdedServer], str]
    body: bytes = b""
    reads: bool = False

    @contextmanager
    def around(self, server: CrowdedServer) -> Iterator[None]:
        """Keep the crowd connected during the block. A refused client connects again after PAUSE seconds."""
        text = self.request(server).format(host=server.host)
        data = text.replace("\n", "\r\n").encode() + self.body
        over, selector = threading.Event(), selectors.DefaultSelector()
        clients: dict[int, socket.socket] = {}
        away: deque[float] = deque()  # the times at which refused clients connect again

        def join() -> None:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.bind((ADDRESS, 0))
            client.settimeout(5)
            try:
                client.connect(("127.0.0.1", server.port))
                client.sendall(data)
            except OSError:
                client.close()
                return
            client.setblocking(False)
            clients[client.fileno()] = client
            selector.register(client, selectors.EVENT_READ)

        def stay() -> None:
            while not over.wait(0.2):
                for key, _ in selector.select(0) if self.reads else ():
                    client = clients[key.fd]
                    try:
                        gone = not client.recv(65536)
                    except OSError:
                        gone = True
                    if gone:
                        selector.unregister(client)
                        clients.pop(key.fd).close()
                        away.append(time.monotonic() + PAUSE)
                while away and away[0] < time.monotonic():
                    away.popleft()
                    join()

        for _ in range(self.number):
            join()
        thread = threading.Thread(target=stay)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            for client in clients.values():
                client.close()
            selector.close()


def _basic(key: AccessKey) -> str:
    return base64.b64encode(f"{key.id}:{key.secret}".encode()).decode()


def _opened(server: CrowdedServer) -> str:
    """Return the location of a new upload of the other member."""
    api = server.api()
    api.headers["Authorization"] = f"Basic {_basic(server.other)}"
    return api.start()


CROWDS = {
    "clients that do not hang up": Crowd(
        200, lambda server: "GET /healthz HTTP/1.1\nHost: {host}\nConnection: close\n\n"
    ),
    "half heads": Crowd(530, lambda server: "GET /v2/ HTTP/1.1\nHost: {host}\nX: ", reads=True),
    "half forms": Crowd(
        530,
        lambda server: (
            "POST /sign-in HTTP/1.1\nHost: {host}\nContent-Type: application/x-www-form-urlencoded\n"
            "Content-Length: 1000\n\nemail="
        ),
        reads=True,
    ),
    "silent clients": Crowd(2200, lambda server: "", reads=True),
    "readers that do not read": Crowd(
        560,
        lambda server: (
            f"GET /v2/demo/public/app/blobs/{sha256(server.layer)} HTTP/1.1\nHost: {{host}}\n"
            f"Authorization: Bearer {server.anonymous_token()}\n\n"
        ),
    ),
    "pushers without rights": Crowd(
        460,
        lambda server: (
            f"PUT /v2/demo/web/app/manifests/x HTTP/1.1\nHost: {{host}}\nAuthorization: Basic {_basic(server.stranger)}\n"
            "Content-Type: application/vnd.oci.image.manifest.v1+json\nContent-Length: 4000000\n\n"
        ),
        body=b"{" * 70_000,
        reads=True,
    ),
    "pushers that stop": Crowd(
        200,
        lambda server: (
            f"PATCH {_opened(server)} HTTP/1.1\nHost: {{host}}\nAuthorization: Basic {_basic(server.other)}\n"
            "Content-Length: 4000000\n\n"
        ),
        body=b"x" * 70_000,
        reads=True,
    ),
}
