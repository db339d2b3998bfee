"""Outbound HTTP: typed addresses must not reach the internal network (SECURITY 31)."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
import threading
from ipaddress import ip_network

import pytest

from accounts import outbound_http
from tests.support.programs import require

PUBLIC = "93.184.215.14"


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "0", "0.0.0.0", "127.255.255.254", "localhost", "LOCALHOST.", "a.localhost"),
        *("2130706433", "0x7f000001", "017700000001", "0x7f.1", "127.0.0.1.", "127。0。0。1", "①②⑦.0.0.1"),
        *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.100.100.200"),
        *("169.254.169.254", "169.254.0.1", "168.63.129.16", "192.0.0.192", "198.18.0.1", "192.0.2.1"),
        *("224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.88.99.1"),
        *("[::1]", "[::]", "[::127.0.0.1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::ffff:169.254.169.254]"),
        *("[::ffff:0:127.0.0.1]", "[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::1]", "[2002:7f00:1::]"),
        *("[2002:a9fe:a9fe::1]", "[2001:0:7f00:1::]", "[fe80::1]", "[fe80::1%25lo]", "[fc00::1]", "[fd00:ec2::254]"),
        *("[ff02::1]", "[fec0::1]", "[2001:db8::1]", "[3fff::1]", "[100::1]", "[4000::1]"),
        *("kr-central-2.kcr.localhost", "demo.kr-central-2.kcr.localhost", "DEMO.kr-central-2.KCR.localhost."),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_internal_addresses_are_refused_in_every_spelling(scheme, host):
    with pytest.raises(outbound_http.Refused):
        outbound_http.check(f"{scheme}://{host}/hook")
    with pytest.raises(outbound_http.Refused):
        outbound_http.check(f"{scheme}://{host}:8443/hook")


@pytest.mark.parametrize(
    "url",
    [
        *("", "example.com", "//example.com/x", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/"),
        *("javascript:alert(1)", "http://", "http:///x", "http://:80/", "http://example.com:0/"),
        *("http://example.com:65536/", "http://example.com:port/", "http://[::1/", "http://exa mple.com/"),
        *("http://user@93.184.215.14/", "http://user:secret@93.184.215.14/", "http://@93.184.215.14/"),
        *("http://93.184.215.14\\@127.0.0.1/", "http://93.184.215.14/\r\nX: y", "http://93.184.215.14/\x00"),
        *("http://93.184.215.14/ä", f"http://93.184.215.14/{'a' * 500}", "http://-a.test/", "http://a..test/"),
        *("http://a,b.test/", "http://%31%32%37.0.0.1/", "http://1.2.3/", "http://1.2.3.4.5/", "http://a.test.0x1/"),
    ],
)
def test_invalid_addresses_are_refused(url):
    with pytest.raises(outbound_http.Refused):
        outbound_http.check(url)


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        (f"https://{PUBLIC}/hook?a=b", PUBLIC, 443, "/hook?a=b"),
        (f"http://{PUBLIC}", PUBLIC, 80, "/"),
        (f"https://{PUBLIC}:8443/x", PUBLIC, 8443, "/x"),
        ("https://[2606:4700:4700::1111]/", "2606:4700:4700::1111", 443, "/"),
        ("https://[64:ff9b::5db8:d70e]/", "64:ff9b::5db8:d70e", 443, "/"),  # NAT64 of a public address
    ],
)
def test_public_addresses_are_accepted(url, host, port, path):
    """Control."""
    target = outbound_http.check(url)
    assert (target.host, target.port, target.path) == (host, port, path)


@pytest.mark.parametrize("port", [1, 22, 25, 81, 110, 587, 3306, 5432, 6379, 8081, 9000, 65_535])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_only_ports_of_web_servers_are_dialled(scheme, port, settings):
    with pytest.raises(outbound_http.Refused, match="is not a port of web servers"):
        outbound_http.check(f"{scheme}://{PUBLIC}:{port}/")
    settings.WEBHOOK_ALLOWED_PORTS = frozenset({port})
    assert outbound_http.check(f"{scheme}://{PUBLIC}:{port}/").port == port


@pytest.mark.parametrize(("port", "is_taken"), [(22, False), (25, False), (80, True), (1024, True), (9000, True)])
def test_allowed_networks_do_not_open_system_services(settings, port, is_taken):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("10.1.0.0/16")]
    if is_taken:
        assert outbound_http.check(f"http://10.1.2.3:{port}/").port == port
    else:
        with pytest.raises(outbound_http.Refused):
            outbound_http.check(f"http://10.1.2.3:{port}/")


def test_names_are_checked_by_all_their_addresses(resolver):
    resolver("good.test", PUBLIC)
    assert [str(address) for address in outbound_http.check("https://good.test/").addresses] == [PUBLIC]
    for bad in ("127.0.0.1", "10.0.0.7", "::1", "169.254.169.254"):
        resolver("mixed.test", PUBLIC, bad)
        with pytest.raises(outbound_http.Refused, match="is not a public address"):
            outbound_http.check("https://mixed.test/")


def test_unresolvable_name_is_a_temporary_failure(resolver):
    resolver("nowhere.test")
    with pytest.raises(outbound_http.Unreachable, match=r"nowhere\.test is not known"):
        outbound_http.check("https://nowhere.test/")


def test_dialled_address_is_the_checked_one(receiver, resolver, monkeypatch, settings):
    """DNS rebinding: the checked address is the dialled one."""
    asked = resolver("rebind.test", PUBLIC)
    dialled = []
    monkeypatch.setattr(
        outbound_http.socket,
        "create_connection",
        lambda address, timeout: dialled.append(address) or (_ for _ in ()).throw(ConnectionRefusedError()),
    )
    settings.WEBHOOK_ALLOWED_PORTS = frozenset({receiver.port})
    target = outbound_http.check(f"http://rebind.test:{receiver.port}/")
    resolver("rebind.test", "127.0.0.1")
    with pytest.raises(outbound_http.Unreachable, match="refused"):
        outbound_http.post(target, b"{}", {})
    assert dialled == [(PUBLIC, receiver.port)]
    assert asked == ["rebind.test"]
    assert receiver.requests == []


def test_host_header_has_the_name_of_the_dialled_address(receiver, resolver):
    resolver("hooks.test", "127.0.0.1")
    answer = outbound_http.post(outbound_http.check(f"http://hooks.test:{receiver.port}/in"), b"{}", {"X-Test": "yes"})
    assert (answer.status, answer.body) == (200, b"thanks")
    ((path, headers, body),) = receiver.requests
    assert (path, headers["Host"], headers["X-Test"], body) == ("/in", f"hooks.test:{receiver.port}", "yes", b"{}")


def test_the_next_address_is_tried_when_one_is_dead(receiver, resolver):
    resolver("hooks.test", "127.0.0.2", "127.0.0.1")  # nothing listens at the first address
    outbound_http.post(outbound_http.check(f"http://hooks.test:{receiver.port}/"), b"{}", {})
    assert len(receiver.requests) == 1


def test_redirects_are_not_followed(receiver):
    receiver.will_say(302, Location=f"http://127.0.0.1:{receiver.port}/other")
    assert outbound_http.post(outbound_http.check(receiver.url), b"{}", {}).status == 302
    assert len(receiver.requests) == 1


def test_at_most_64_kib_of_an_answer_are_read(receiver):
    receiver.will_say(200, b"x" * 200_000)
    assert len(outbound_http.post(outbound_http.check(receiver.url), b"{}", {}).body) == 64 * 1024


def test_get_sends_no_body_and_reads_up_to_its_limit(receiver):
    receiver.will_say(200, b"x" * 1000)
    target = outbound_http.check(receiver.url)
    assert outbound_http.get(target, {"Accept": "text/plain"}, seconds=5, limit=10).body == b"x" * 10
    [(path, headers, body)] = receiver.requests
    assert (path, headers["Accept"], body) == ("/hook?secret=path", "text/plain", b"")


def test_get_follows_no_redirect(receiver):
    receiver.will_say(302, b"", Location="http://127.0.0.1:1/")
    assert outbound_http.get(outbound_http.check(receiver.url), {}, seconds=5, limit=10).status == 302


def test_allowed_networks_are_allowed_and_nothing_else(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("10.1.0.0/16")]
    for good in ("http://10.1.2.3/", "http://[::ffff:10.1.2.3]/"):
        outbound_http.check(good)
    for bad in ("http://10.2.0.1/", "http://127.0.0.1/", "http://[::1]/"):
        with pytest.raises(outbound_http.Refused):
            outbound_http.check(bad)


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "0.0.0.0:8080", "127.0.0.1:1,127.0.0.1:8080", "[::]:8080"])
def test_own_server_is_refused_in_an_allowed_network(settings, listen):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    settings.LISTEN = listen
    with pytest.raises(outbound_http.Refused, match="this registry itself"):
        outbound_http.check("http://127.0.0.1:8080/")
    outbound_http.check("http://127.0.0.1:8081/")


def test_own_names_are_refused_for_every_address(settings, resolver):
    settings.ALLOWED_HOSTS = ["registry.example.com", ".kr-central-2.kcr.dev"]
    for name in ("registry.example.com", "demo.kr-central-2.kcr.dev"):
        resolver(name, PUBLIC)
        with pytest.raises(outbound_http.Refused, match="this registry itself"):
            outbound_http.check(f"https://{name.upper()}./v2/")
    resolver("notregistry.example.com", PUBLIC)
    outbound_http.check("https://notregistry.example.com/")


def test_other_name_of_the_own_address_is_refused(settings, resolver):
    from urllib.parse import urlsplit

    settings.PUBLIC = urlsplit("https://registry.example.com")
    resolver("registry.example.com", PUBLIC)
    resolver("alias.test", PUBLIC)
    with pytest.raises(outbound_http.Refused, match="this registry itself"):
        outbound_http.check("https://alias.test/")
    outbound_http.check("https://alias.test:8443/")
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network(PUBLIC)]  # a proxy that also serves other hosts
    outbound_http.check("https://alias.test/")


# ── Slow and invalid servers ─────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def odd(settings):
    """``odd(b"...", b"...")`` starts a server that sends these pieces and then nothing, and returns its address."""
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    over = threading.Event()
    threads, sockets = [], []

    def start(*pieces: bytes, pause: float = 0.0) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def serve() -> None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                for piece in pieces:
                    try:
                        connection.sendall(piece)
                    except OSError:
                        return
                    over.wait(pause)
                over.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        threads.append(thread)
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield start
    over.set()
    for listener in sockets:
        listener.close()
    for thread in threads:
        thread.join()


def test_silent_server_times_out(odd, monkeypatch):
    monkeypatch.setattr(outbound_http, "STEP_SECONDS", 0.2)
    with pytest.raises(outbound_http.Unreachable, match="in time"):
        outbound_http.post(outbound_http.check(odd()), b"{}", {})


@pytest.mark.parametrize(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\n", *[b"X-A: b\r\n"] * 60],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *[b"x"] * 60],
    ],
)
def test_slow_server_times_out(odd, monkeypatch, pieces):
    """Each piece arrives in time, but all pieces together do not."""
    monkeypatch.setattr(outbound_http, "TOTAL_SECONDS", 0.5)
    with pytest.raises(outbound_http.Unreachable, match="in time"):
        outbound_http.post(outbound_http.check(odd(*pieces, pause=0.1)), b"{}", {})


@pytest.mark.parametrize("said", [b"nonsense\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a" * 70000])
def test_answer_without_http_is_reported(odd, monkeypatch, said):
    monkeypatch.setattr(outbound_http, "STEP_SECONDS", 1.0)
    with pytest.raises(outbound_http.Unreachable, match=r"not HTTP|in time"):
        outbound_http.post(outbound_http.check(odd(said)), b"{}", {})


def test_closed_port_is_reported(settings):
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(outbound_http.Unreachable, match="refused"):
        outbound_http.post(outbound_http.check(f"http://127.0.0.1:{port}/"), b"{}", {})


def read_request(connection: socket.socket) -> None:
    """Read a request to its end. Closing a socket with unread bytes resets it, and the client may lose the answer."""
    with connection.makefile("rb") as said:
        said.readline()
        said.read(int(http.client.parse_headers(said)["Content-Length"]))


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def tls_port(tmp_path, settings):
    """Start a server with a self-signed certificate for hooks.test. Return its port."""
    settings.WEBHOOK_ALLOWED_NETWORKS = [ip_network("127.0.0.0/8")]
    require("openssl")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=hooks.test"
    more = ["-addext", "subjectAltName=DNS:hooks.test", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *more], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = False

        def serve() -> None:
            while not over:
                try:
                    plain, _ = listener.accept()
                    with context.wrap_socket(plain, server_side=True) as connection:
                        read_request(connection)
                        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                except OSError:
                    continue

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], certificate, names
        over = True
        socket.create_connection(("127.0.0.1", listener.getsockname()[1])).close()
        thread.join()


def test_the_certificate_must_be_that_of_the_host(tls_port, resolver, monkeypatch):
    port, certificate, names = tls_port
    for name in ("hooks.test", "other.test"):
        resolver(name, "127.0.0.1")
    with pytest.raises(outbound_http.Unreachable, match="certificate is not valid"):
        outbound_http.post(outbound_http.check(f"https://hooks.test:{port}/"), b"{}", {})
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    assert outbound_http.post(outbound_http.check(f"https://hooks.test:{port}/"), b"{}", {}).status == 204
    assert names[-1] == "hooks.test"
    with pytest.raises(outbound_http.Unreachable, match="certificate is not valid"):
        outbound_http.post(outbound_http.check(f"https://other.test:{port}/"), b"{}", {})
