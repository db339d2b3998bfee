"""A TCP proxy in front of a real server that refuses, stays silent, delays or cuts connections when a test says so."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Self

BLOCK = 64 * 1024
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST


def _bound(port: int) -> socket.socket:
    """A socket that refuses connections until it listens."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    return made


class FaultProxy:
    """Forwards connections from ``port`` to a port of the loopback address.

    refuse()    ends all connections, and refuses new ones
    silence()   accepts connections and holds back all bytes, those of open connections too
    delay(s)    waits so many seconds before each piece of at most 64 KiB
    cut(n)      resets all connections after n further bytes in either direction; new ones are forwarded. With ``again``
                these end after n bytes as well, until heal()
    heal()      forwards everything again, and the bytes that were held back
    """

    def __init__(self, behind: int) -> None:
        self.behind = behind
        self._listener = _bound(0)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._flows = threading.Event()
        self._delay, self._left = 0.0, -1  # seconds; bytes until the cut, -1: no cut
        self._next = -1  # bytes from a cut to the next one
        self._refuses = True

    def __enter__(self) -> Self:
        self.heal()
        return self

    def __exit__(self, *problem: object) -> None:
        self.refuse()
        self._flows.set()
        self._listener.close()

    def refuse(self) -> None:
        """See the class."""
        if not self._refuses:
            self._refuses = True
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._listener.close()
            self._listener = _bound(self.port)  # no other program gets the port
        self.cut()

    def silence(self) -> None:
        """See the class."""
        self._flows.clear()

    def delay(self, seconds: float) -> None:
        """See the class."""
        self._delay = seconds

    def cut(self, after: int = 0, *, again: bool = False) -> None:
        """See the class."""
        if after:
            self._next = after if again else -1
        with self._lock:
            self._left = after or self._next
            ended = [] if after else list(self._open)
            self._open.difference_update(ended)
        for end in ended:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                end.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads from it
            end.close()

    def heal(self) -> None:
        """See the class."""
        self._delay, self._left, self._next = 0.0, -1, -1
        self._flows.set()
        if self._refuses:
            self._refuses = False
            self._listener.listen()
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # refuse() has closed it
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        self._flows.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self.behind))
        except OSError:
            self._end(client)
            return
        with self._lock:
            self._open.add(server)
        threading.Thread(target=self._pump, args=(server, client), daemon=True).start()
        self._pump(client, server)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(BLOCK):
                self._flows.wait()
                time.sleep(self._delay)
                target.sendall(data[: self._take(len(data))])
                if self._left == 0:
                    self.cut()
        for end in (source, target):
            self._end(end)

    def _take(self, size: int) -> int:
        """The number of bytes before the cut."""
        with self._lock:
            if self._left < 0:
                return size
            taken = min(size, self._left)
            self._left -= taken
            return taken

    def _end(self, end: socket.socket) -> None:
        with self._lock:
            self._open.discard(end)
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
