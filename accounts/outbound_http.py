"""One HTTP request to a URL that a person typed, without opening the operator's network to that person.

``check`` resolves the host name once and judges all its addresses; ``post`` and ``get`` connect to one of these
addresses, so a DNS answer that changes in between has no effect. Redirects are not followed. Time and size are limited.
"""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.utils.translation import gettext as _

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_URL = 500
STEP_SECONDS = 5.0
TOTAL_SECONDS = 15.0
MAX_ANSWER = 64 * 1024
ADDRESSES_TRIED = 3

Address = IPv4Address | IPv6Address

_PORTS = {"http": 80, "https": 443}
_WEB_PORTS = frozenset({80, 443, 8080, 8443})
_UNPRIVILEGED = 1024
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)$")
_GLOBAL_IPV6 = ip_network("2000::/3")
_NAT64 = ip_network("64:ff9b::/96")
# Global addresses that must be refused all the same: cloud metadata, relays into other networks, documentation.
_SPECIAL = tuple(map(ip_network, ("168.63.129.16", "192.0.0.0/24", "192.88.99.0/24", "3fff::/20")))


class Refused(ValueError):
    """The URL may not be used. The message says why, in the active language."""


class Unreachable(OSError):
    """No HTTP answer; a later request may succeed. The message says what happened."""


@dataclass(frozen=True, slots=True)
class Target:
    """A checked URL: its parts, and the addresses of its host."""

    scheme: str
    host: str
    port: int
    path: str
    addresses: tuple[Address, ...]

    @property
    def host_header(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Answer:
    """The HTTP answer; ``body`` is cut at the limit of the request, MAX_ANSWER bytes of a ``post``."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def check(url: str) -> Target:
    """Parse a URL, resolve its host, and check every address of it.

    Raises Refused, and Unreachable if the host cannot be resolved now.
    """
    parts = _parts(url)
    host, port = _host(parts), parts.port or _PORTS[parts.scheme]
    if _is_ours(host):
        raise Refused(_("This is an address of this registry itself."))
    path = parts.path or "/"
    addresses = _resolve(host, port)
    for address in addresses:
        _judge(address, port)
    return Target(parts.scheme, host, port, f"{path}?{parts.query}" if parts.query else path, addresses)


def is_allowed(target: Target) -> bool:
    """Whether KCR_WEBHOOK_ALLOWED_NETWORKS has all addresses of the target: the operator's own network."""
    return all(_is_in_allowed_network(_inner(address)) for address in target.addresses)


def _is_in_allowed_network(address: Address) -> bool:
    return any(address in network for network in settings.WEBHOOK_ALLOWED_NETWORKS)


def host_of(url: str) -> str:
    """The host of a stored URL. The rest of the URL may be a secret."""
    return urlsplit(url).hostname or ""


def post(target: Target, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Send the body to one of the target's addresses. Raises Unreachable."""
    return _ask(target, _Request("POST", body, headers, TOTAL_SECONDS, MAX_ANSWER))


def get(target: Target, headers: Mapping[str, str], *, seconds: float, limit: int) -> Answer:
    """Ask one of the target's addresses; the answer is cut at ``limit`` bytes. Raises Unreachable."""
    return _ask(target, _Request("GET", None, headers, seconds, limit))


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    body: bytes | None
    headers: Mapping[str, str]
    seconds: float
    limit: int


def _ask(target: Target, request: _Request) -> Answer:
    problem: OSError | None = None
    end = time.monotonic() + request.seconds
    for address in target.addresses[:ADDRESSES_TRIED]:
        connection = _Connection(target, address, end - time.monotonic())
        try:
            connection.connect()
        except OSError as error:
            connection.close()
            problem = error
            if connection.is_late:
                break
            continue
        return _exchange(connection, target, request)
    raise Unreachable(_words(problem)) from problem


def _exchange(connection: _Connection, target: Target, request: _Request) -> Answer:
    headers = {"Host": target.host_header, **request.headers}
    try:
        connection.request(request.method, target.path, request.body, headers)
        with connection.getresponse() as answer:
            found = Answer(answer.status, dict(answer.headers.items()), answer.read(request.limit))
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(_words(TimeoutError() if connection.is_late else error)) from error
    finally:
        connection.close()
    if connection.is_late:  # an answer that the timer cut looks complete
        raise Unreachable(_words(TimeoutError()))
    return found


class _Connection(http.client.HTTPConnection):
    """A connection to one address of the target, closed by a timer after ``seconds``."""

    def __init__(self, target: Target, address: Address, seconds: float) -> None:
        super().__init__(target.host, target.port, timeout=STEP_SECONDS)
        self._target = target
        self._address = address
        self.is_late = False
        self._dialled: socket.socket | None = None  # HTTPConnection drops ``sock`` while the answer is read
        self._timer = threading.Timer(max(0.0, seconds), self._cut)
        self._timer.daemon = True

    def connect(self) -> None:
        """Connect to the address; with https, verify the certificate of the host."""
        self._timer.start()
        self._dialled = self.sock = socket.create_connection((str(self._address), self.port), STEP_SECONDS)
        if self._target.scheme == "https":
            # The handshake comes after ``_dialled`` is set, so that the timer can cut it.
            context = ssl.create_default_context()
            wrapped = context.wrap_socket(self.sock, server_hostname=self._target.host, do_handshake_on_connect=False)
            self._dialled = self.sock = wrapped
            wrapped.do_handshake()

    def close(self) -> None:
        """Close the connection and stop the timer."""
        self._timer.cancel()
        super().close()

    def _cut(self) -> None:
        self.is_late = True
        if self._dialled is not None:
            with suppress(OSError):
                self._dialled.shutdown(socket.SHUT_RDWR)


def _words(error: BaseException | None) -> str:
    """The error in words that the other side cannot choose."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection: {error.reason or 'the handshake failed'}"
    if isinstance(error, ConnectionRefusedError):
        return "the connection was refused"
    if isinstance(error, OSError) and error.strerror:
        return f"no connection: {error.strerror}"
    return "the answer is not HTTP, or broke off"


def _parts(url: str) -> SplitResult:
    """The parts of the address. Raises Refused."""
    if len(url) > MAX_URL or not url.isprintable() or " " in url or "\\" in url:
        raise Refused(_("This is not an address such as https://example.com/hook."))
    try:
        parts = urlsplit(url)
        is_good = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.scheme not in _PORTS:
        raise Refused(_("This is not an address such as https://example.com/hook."))
    if "@" in parts.netloc:
        raise Refused(_("An address with a user name or password in it is not accepted."))
    if not (parts.path + parts.query).isascii():
        raise Refused(_("The path may hold ASCII letters only: encode the others."))
    return parts


def _host(parts: SplitResult) -> str:
    """The host in ASCII and lower case, without a dot at the end. Raises Refused."""
    name = (parts.hostname or "").rstrip(".")
    with suppress(ValueError):
        return str(ip_address(name))
    try:
        name = name.encode("idna").decode().lower().rstrip(".")
    except UnicodeError:
        name = ""
    if not _HOST.fullmatch(name) or len(name) > 253:
        raise Refused(_("This is not the name of a host."))
    with suppress(ValueError):
        return str(ip_address(name))
    if _NUMBER.match(name.rpartition(".")[2]):
        raise Refused(_("Write the address of a host as four numbers, such as 192.0.2.1."))
    return name


def _is_ours(host: str) -> bool:
    """Whether it is a name of this registry. ``_judge`` checks IP addresses."""
    names = {str(name).lower() for name in settings.ALLOWED_HOSTS} | {"localhost", ".localhost"}
    above = {host[place:] for place, letter in enumerate(host) if letter == "."}
    return not _is_number(host) and not names.isdisjoint({host, *above})


def _is_number(host: str) -> bool:
    with suppress(ValueError):
        return bool(ip_address(host))
    return False


def _resolve(host: str, port: int) -> tuple[Address, ...]:
    """Every address of the host. Raises Unreachable.

    It runs in a thread, because getaddrinfo has no time limit.
    """
    with suppress(ValueError):
        return (ip_address(host),)
    found: list[Address] = []

    def look_up() -> None:
        with suppress(OSError, UnicodeError):
            for *_rest, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
                found.append(ip_address(str(address[0]).partition("%")[0]))

    thread = threading.Thread(target=look_up, daemon=True)
    thread.start()
    thread.join(STEP_SECONDS)
    if thread.is_alive() or not found:
        raise Unreachable(_("The host %(host)s is not known.") % {"host": host})
    return tuple(dict.fromkeys(found))


def _judge(address: Address, port: int) -> None:
    """Raises Refused for an address of this registry, and for an address or port that is neither public nor allowed.

    Ports are limited because a person who can choose any port can scan ports.
    """
    inner = _inner(address)
    is_allowed = _is_in_allowed_network(inner)
    if _is_own_server(inner, port) or (not is_allowed and _is_own_front(inner, port)):
        raise Refused(_("This is an address of this registry itself."))
    if not is_allowed and not _is_public(inner):
        raise Refused(
            _("%(address)s is not a public address. An operator may allow it (KCR_WEBHOOK_ALLOWED_NETWORKS).")
            % {"address": address}
        )
    if not (_is_web_port(port) or (is_allowed and port >= _UNPRIVILEGED)):
        raise Refused(
            _("Port %(port)s is not a port of web servers. An operator may allow it (KCR_WEBHOOK_ALLOWED_PORTS).")
            % {"port": port}
        )


def _is_web_port(port: int) -> bool:
    return port in _WEB_PORTS or port in settings.WEBHOOK_ALLOWED_PORTS


def _inner(address: Address) -> Address:
    """The IPv4 address inside a mapped, 6to4 or NAT64 address; else the address itself."""
    if not isinstance(address, IPv6Address):
        return address
    if inner := address.ipv4_mapped or address.sixtofour:
        return inner
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_public(address: Address) -> bool:
    if address.is_multicast or address.is_reserved or not address.is_global:
        return False
    if any(address in network for network in _SPECIAL):
        return False
    return isinstance(address, IPv4Address) or address in _GLOBAL_IPV6


def _is_own_server(address: Address, port: int) -> bool:
    """Whether KCR_LISTEN names this address and port."""
    for listen in settings.LISTEN.split(","):
        host, _colon, own_port = listen.strip().rpartition(":")
        with suppress(ValueError):
            own = ip_address(host.strip("[]"))
            if own_port == str(port) and (own == address or (own.is_unspecified and address.is_loopback)):
                return True
    return False


def _is_own_front(address: Address, port: int) -> bool:
    """Whether KCR_PUBLIC_URL resolves to this address and port."""
    public = settings.PUBLIC
    if port != (public.port or _PORTS[public.scheme]):
        return False
    with suppress(Unreachable):
        return address in map(_inner, _resolve(public.hostname or "", port))
    return False
