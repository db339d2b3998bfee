"""A client for measurements: a connection of HTTP/1.1 over a plain socket, which costs little beside a server."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

BLOCK = 1024 * 1024
SHORT = 65536


class Answer(NamedTuple):
    """Status, headers (names in small letters), and the body; of a body above SHORT bytes only the beginning."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return int(self.headers.get("content-length", 0))


class Client:
    """A connection to a port of the loopback address. Raises OSError when the server closes it."""

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._space = memoryview(bytearray(BLOCK))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def send(
        self, method: str, path: str, body: Sequence[memoryview] = (), *, chunked: bool = False, **more: str
    ) -> None:
        """Send a request. ``chunked``: in chunked coding, a chunk for each piece of the body."""
        headers = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in more.items())
        if chunked:
            headers += "Transfer-Encoding: chunked\r\n"
        elif method not in {"GET", "HEAD"}:
            headers += f"Content-Length: {sum(map(len, body))}\r\n"
        self._socket.sendall(f"{method} {path} HTTP/1.1\r\n{self._headers}{headers}\r\n".encode())
        for piece in body:
            if chunked:
                self._socket.sendall(b"%x\r\n" % len(piece))
            self._socket.sendall(piece)
            if chunked:
                self._socket.sendall(b"\r\n")
        if chunked:
            self._socket.sendall(b"0\r\n\r\n")

    def receive(self, *, has_body: bool = True) -> Answer:
        """Read an answer to its end."""
        said = b""
        while b"\r\n\r\n" not in said:
            if not (block := self._socket.recv(65536)):
                raise ConnectionAbortedError("the server has closed the connection")
            said += block
        head, _, body = said.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        answer = Answer(int(first.split(" ", 2)[1]), headers, body)
        left = answer.length - len(body) if has_body else 0
        kept = [body]
        while left > 0:
            if not (size := self._socket.recv_into(self._space, min(left, BLOCK))):
                raise ConnectionAbortedError("the server has closed the connection")
            if answer.length <= SHORT:
                kept.append(bytes(self._space[:size]))
            left -= size
        return answer._replace(body=b"".join(kept))

    def ask(
        self,
        expected: int,
        method: str,
        path: str,
        body: Sequence[memoryview] = (),
        *,
        chunked: bool = False,
        **more: str,
    ) -> Answer:
        """Send a request and read the answer. Exits for another status."""
        self.send(method, path, body, chunked=chunked, **more)
        answer = self.receive(has_body=method != "HEAD")
        if answer.status != expected:
            raise SystemExit(f"{method} {path}: {answer.status}, not {expected}: {answer.body[:300]!r}")
        return answer


def path_of(location: str, **query: str) -> str:
    """The path of a Location header, with more parameters."""
    path = location.partition("://")[2].partition("/")[2].join(("/", "")) if "://" in location else location
    for name, value in query.items():
        path += f"{'&' if '?' in path else '?'}{name}={value}"
    return path
