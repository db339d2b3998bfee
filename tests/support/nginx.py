"""nginx in front of a server, with the configuration of docs/operate/tls.md."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from tests.support.programs import Daemon, environment_for, free_port, require
from tests.support.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "operate" / "tls.md"
AnyServer = TypeVar("AnyServer", bound=Server)

#: Settings of the machine that are not in the document: processes and folders.
MACHINE = """
daemon off;
master_process on;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log info;

events {{
    worker_connections 8192;
}}

http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/answers;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{documented}
}}
"""


def documented() -> str:
    """Return the configuration in docs/operate/tls.md."""
    blocks = re.findall(r"```nginx\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) == 1, "docs/operate/tls.md has one configuration of nginx"
    return str(blocks[0])


def _replaced(text: str, pattern: str, replacement: str) -> str:
    """Return the text with the only line of this pattern replaced."""
    text, number = re.subn(rf"^ *{pattern}\n", replacement, text, flags=re.MULTILINE)
    assert number == 1, f"the documented configuration of nginx has {number} lines like {pattern!r}, not one"
    return text


class Nginx(Daemon):
    """An nginx on a free port in front of the servers on these ports of the loopback address.

    Most clients of the tests do not use TLS: it is left out unless ``certificate`` names a file in PEM, whose key is
    beside it with the ending ``.key``.
    """

    def __init__(self, *upstreams: int, name: str = "nginx", certificate: Path | None = None) -> None:
        super().__init__(name)
        self.port = free_port()
        self.upstreams = upstreams
        self.certificate = certificate
        self.log = self.folder / "error.log"
        self.access_log = self.folder / "access.log"

    @property
    def configuration(self) -> str:
        """Return the documented configuration with the ports and folders of the test."""
        # nginx retries a restarted server immediately.
        servers = "".join(f"    server 127.0.0.1:{port} max_fails=0;\n" for port in self.upstreams)
        text = _replaced(documented(), r"server 127\.0\.0\.1:8080;", servers)
        tls, files = "", ("", "")
        if self.certificate is not None:
            key = self.certificate.with_suffix(".key")
            tls, files = " ssl", (f"    ssl_certificate {self.certificate};\n", f"    ssl_certificate_key {key};\n")
        text = _replaced(text, r"listen 443 ssl;", f"    listen 127.0.0.1:{self.port}{tls};\n")
        text = _replaced(text, r"ssl_certificate [^;]*;", files[0])
        text = _replaced(text, r"ssl_certificate_key [^;]*;", files[1])
        account = pwd.getpwuid(os.geteuid())
        # nginx started by root changes to another user unless configured otherwise.
        user = "" if os.geteuid() else f"user {account.pw_name} {grp.getgrgid(account.pw_gid).gr_name};"
        return MACHINE.format(folder=self.folder, user=user, documented=text)

    def start(self) -> None:
        """Start nginx and wait until it accepts connections; the servers behind it may start later."""
        file = self.folder / "nginx.conf"
        file.write_text(self.configuration)
        command = [require("nginx"), "-p", str(self.folder), "-c", str(file), "-e", str(self.log)]
        self.launch(command, environment_for(self.folder))
        if not self.await_ready(self.accepts):
            pytest.fail(f"nginx does not start:\n{self.said()}")

    def accepts(self) -> bool:
        """Return whether something listens on the port."""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False


@contextlib.contextmanager
def behind_nginx(server: AnyServer, certificate: Path | None = None) -> Iterator[AnyServer]:
    """Start nginx, and the given server, which must not be started yet, behind it.

    Clients, ``KCR_PUBLIC_URL`` included, know the address of nginx only. ``certificate``: see ``Nginx``.
    """
    with Nginx(server.own_port, certificate=certificate) as proxy:
        server.port = proxy.port
        server.proxy = proxy
        server.settings["KCR_TRUSTED_PROXIES"] = "127.0.0.1"
        with server:
            yield server
