"""The network of the tests: a mail server and a receiver of webhooks on loopback, and no other host.

``loopback_only`` refuses connections to other hosts. It patches three methods of ``socket.socket`` and is not the
library pytest-socket, which would be one more dependency for thirty lines. It covers Python only, and not the
client library of PostgreSQL, DNS, and programs that tests start.
"""

from __future__ import annotations

import email
import email.policy
import http.server
import logging
import socket
import threading
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest
from aiosmtpd.controller import Controller

from tests.support.programs import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import EmailMessage

    Answer = tuple[int, dict[str, str], bytes]


def is_loopback(host: str) -> bool:
    """Return whether a host, an address or a name, is the loopback of this machine."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


@pytest.fixture(autouse=True, scope="session")
def loopback_only() -> Iterator[None]:
    """Fail a test that opens a connection to another host, even if the tested code catches the error."""

    def guarded(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: socket.socket, *arguments: Any) -> Any:
            address = arguments[-1]
            if self.family in {socket.AF_INET, socket.AF_INET6} and not is_loopback(address[0]):
                pytest.fail(f"a connection to another host: {address[0]} port {address[1]}")
            return method(self, *arguments)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, guarded(getattr(socket.socket, name)))
        yield


@dataclass
class Receiver:
    """A web server that stores its requests. ``answers``: the next answers, then those of ``service``, or 200."""

    port: int = 0
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    service: Callable[[dict[str, str], bytes], Answer] | None = None

    @property
    def url(self) -> str:
        """The address of the server."""
        return f"http://127.0.0.1:{self.port}/hook?secret=path"

    def will_say(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Queue an answer."""
        self.answers.append((status, {name.replace("_", "-"): value for name, value in headers.items()}, body))

    def answer(self, body: bytes) -> Answer:
        """The answer to the newest request."""
        if self.answers:
            return self.answers.pop(0)
        return self.service(self.requests[-1][1], body) if self.service else (200, {}, b"thanks")


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    """A receiver on loopback in an allowed network."""
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    found = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            found.requests.append((self.path, dict(self.headers.items()), body))
            status, headers, answer = found.answer(body)
            self.send_response(status)
            for name, value in ({"Content-Type": "text/plain"} | headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@dataclass
class MailServer:
    """An SMTP server that stores its mails. ``refusals``: answers that refuse a recipient once or always."""

    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    refusals: dict[str, list[str]] = field(default_factory=dict)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:  # noqa: N802
        """Accept or refuse the recipient."""
        if waiting := self.refusals.get(address):
            return waiting.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        """Store the mail."""
        self.recipients.append(list(envelope.rcpt_tos))
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        return "250 OK"

    def part(self, number: int, kind: str) -> str:
        """Return the text or HTML of a mail."""
        found = self.mails[number].get_body((kind,))
        assert found is not None
        return str(found.get_content())


@pytest.fixture
def mail_server(settings: Any) -> Iterator[MailServer]:
    """The mail server of the installation, on loopback."""
    found = MailServer()
    controller = Controller(found, hostname="127.0.0.1", port=free_port())
    logging.getLogger("mail.log").setLevel(logging.WARNING)
    controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = controller.hostname, controller.port
    yield found
    controller.stop()


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """``resolver("evil.test", "203.0.113.1")`` resolves a name to these addresses and returns the list of lookups."""
    known: dict[str, list[str]] = {}
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host not in known:
            return real(host, port, *args, **kwargs)
        asked.append(host)
        found = known[host]
        return [answer for address in found for answer in real(address, port, *args, **kwargs)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)

    def name(host: str, *addresses: str) -> list[str]:
        known[host] = list(addresses)
        return asked

    return name
