"""nginx in front of servers, with the configuration of docs/operate/tls.md or that of docker-compose.yml."""

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

SOURCE = Path(__file__).resolve().parents[2]
DOCUMENT = SOURCE / "docs" / "operate" / "tls.md"
COMPOSED = SOURCE / "deploy" / "nginx"
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
    assert number == 1, f"the configuration of nginx has {number} lines like {pattern!r}, not one"
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
        #: Lines to replace in the configuration, to spoil it: pairs of a regular expression and its replacement.
        self.changes: list[tuple[str, str]] = []

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
        for pattern, replacement in self.changes:
            text, number = re.subn(pattern, replacement.replace("\\", r"\\"), text)
            assert number, f"the documented configuration of nginx has no {pattern!r}"
        return MACHINE.format(folder=self.folder, user=self._user, documented=text)

    @property
    def _user(self) -> str:
        """The line that keeps nginx from changing to another user, as it does when root starts it."""
        account = pwd.getpwuid(os.geteuid())
        return "" if os.geteuid() else f"user {account.pw_name} {grp.getgrgid(account.pw_gid).gr_name};"

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


class ComposedNginx(Nginx):
    """An nginx with the files of deploy/nginx, as docker-compose.yml mounts them.

    Only addresses and folders are those of the test: Docker's names of services become ports of the loopback address.
    ``s3`` is the port of S3, and ``s3_port`` where nginx serves it.
    """

    def __init__(self, *upstreams: int, s3: int = 9, certificate: Path | None = None) -> None:
        super().__init__(*upstreams, name="composed-nginx", certificate=certificate)
        self.s3, self.s3_port, self.redirecting_port = s3, free_port(), free_port()

    @property
    def configuration(self) -> str:
        """Return nginx.conf; the files that it includes are written beside it."""
        kind = "http" if self.certificate is None else "https"
        for name in ("registry.conf", "s3.conf"):
            (self.folder / name).write_text((COMPOSED / name).read_text())
        server = (COMPOSED / f"{kind}.conf").read_text()
        http, https = (self.port, 0) if self.certificate is None else (self.redirecting_port, self.port)
        for inside, outside in ((8080, http), (8443, https), (8333, self.s3_port)):
            server = server.replace(f"listen {inside}", f"listen 127.0.0.1:{outside}")
        if self.certificate is not None:
            server = server.replace("/etc/nginx/certificates/registry.pem", str(self.certificate))
            server = server.replace("/etc/nginx/certificates/registry.key", str(self.certificate.with_suffix(".key")))
        (self.folder / "server.conf").write_text(server.replace("/etc/nginx/kcr/", f"{self.folder}/"))
        servers = "".join(f"        server 127.0.0.1:{port} max_fails=0;\n" for port in self.upstreams)
        text = _replaced((COMPOSED / "nginx.conf").read_text(), r"server web:8080 resolve max_fails=0;", servers)
        s3 = f"        server 127.0.0.1:{self.s3} max_fails=0;\n"
        text = _replaced(text, r"server seaweedfs:8333 resolve max_fails=0;", s3)
        text = _replaced(text, r"resolver 127\.0\.0\.11 .*", "")
        text = text.replace(" /tmp/", f" {self.folder}/").replace("error_log stderr warn", f"error_log {self.log} info")
        text = text.replace("/etc/nginx/", f"{self.folder}/").replace("/dev/stdout", str(self.access_log))
        return f"daemon off;\n{self._user}\n{text}"


@contextlib.contextmanager
def behind_nginx(server: AnyServer, certificate: Path | None = None, kind: type[Nginx] = Nginx) -> Iterator[AnyServer]:
    """Start nginx, and the given server, which must not be started yet, behind it.

    Clients, ``KCR_PUBLIC_URL`` included, know the address of nginx only. ``certificate``: see ``Nginx``.
    """
    with kind(server.own_port, certificate=certificate) as proxy:
        server.port = proxy.port
        server.proxy = proxy
        server.settings["KCR_TRUSTED_PROXIES"] = "127.0.0.1"
        with server:
            yield server
