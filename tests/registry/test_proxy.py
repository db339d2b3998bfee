"""A server behind nginx with the configuration of docs/operate/tls.md, and with that of docker-compose.yml."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import ssl
from contextlib import closing

import pytest
from django.urls import get_resolver

from tests.support.documents import here, section
from tests.support.images import Image, sha256
from tests.support.nginx import ComposedNginx, Nginx, behind_nginx
from tests.support.programs import ContainersHome, run, wait_until
from tests.support.server import LiveServer
from tests.support.tls import TlsServer, make_certificate

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]

#: More than the buffers of the client's socket, nginx and the server together.
SIZE = 3 * 1024 * 1024


@pytest.fixture(scope="module", params=[Nginx, ComposedNginx])
def server(request):
    with behind_nginx(LiveServer("proxied"), kind=request.param) as running:
        yield running.people()


@pytest.fixture
def api(server):
    return server.api()


def in_blocks(data):
    """Yield a body of unknown length, which http.client sends in chunked coding."""
    return iter([data[start : start + 64 * 1024] for start in range(0, len(data), 64 * 1024)])


def with_digest(location, data):
    return f"{location}?digest={sha256(data)}"


def as_docker(api, data):
    """PATCH in chunked coding, then an empty PUT."""
    status, headers, _ = api.ask("PATCH", api.start(), in_blocks(data))
    assert status == 202
    return api.ask("PUT", with_digest(headers["Location"], data), b"")


def as_containerd(api, data):
    """PUT with everything."""
    return api.ask("PUT", with_digest(api.start(), data), data)


def as_containerd_without_length(api, data):
    """PUT with everything, in chunked coding."""
    return api.ask("PUT", with_digest(api.start(), data), in_blocks(data))


def as_podman(api, data):
    """PATCH with a length, then an empty PUT."""
    status, headers, _ = api.ask("PATCH", api.start(), data)
    assert status == 202
    return api.ask("PUT", with_digest(headers["Location"], data), b"")


def in_one_request(api, data):
    """POST with everything."""
    return api.ask("POST", f"blobs/uploads/?digest={sha256(data)}", data)


def with_nothing_first(api, data):
    """PATCH without a byte, then PUT with everything."""
    status, headers, _ = api.ask("PATCH", api.start(), b"")
    assert (status, headers["Range"]) == (202, "0-0")
    return api.ask("PUT", with_digest(headers["Location"], data), data)


def in_pieces(api, data):
    """Three PATCH requests with Content-Range, then PUT with the rest."""
    location, step = api.start(), len(data) // 4
    for start in range(0, 3 * step, step):
        piece = data[start : start + step]
        status, headers, _ = api.ask("PATCH", location, piece, Content_Range=f"{start}-{start + step - 1}")
        assert (status, headers["Range"]) == (202, f"0-{start + step - 1}")
        location = headers["Location"]
    rest = data[3 * step :]
    return api.ask("PUT", with_digest(location, data), rest, Content_Range=f"{3 * step}-{len(data) - 1}")


SHAPES = [
    as_docker,
    as_containerd,
    as_containerd_without_length,
    as_podman,
    in_one_request,
    with_nothing_first,
    in_pieces,
]


@pytest.mark.parametrize("push", SHAPES)
def test_blobs_pushed_through_nginx_are_pulled_unchanged(api, push):
    data = os.urandom(SIZE + 7)
    status, headers, _ = push(api, data)
    assert (status, headers["Docker-Content-Digest"]) == (201, sha256(data))
    status, headers, pulled = api.ask("GET", f"blobs/{sha256(data)}")
    assert (status, headers["Content-Length"]) == (200, str(len(data)))
    assert pulled == data


def test_nginx_does_not_buffer_an_upload(server, api):
    """An nginx that buffers bodies would need its own disk space for each upload, and would delay the answer."""
    location, kept = api.start(), b"x" * SIZE

    def body():
        yield kept
        staging = server.data / "storage" / "staging"
        least = SIZE // 2  # the server may hold the last ones until more arrive
        assert wait_until(lambda: any(path.stat().st_size >= least for path in staging.iterdir()), timeout=30)
        yield b"y"

    status, headers, _ = api.ask("PATCH", location, body())
    assert (status, headers["Range"]) == (202, f"0-{SIZE}")


def test_truncated_body_through_nginx_changes_nothing(api):
    location, data = api.start(), b"the bytes of a layer " * 1000
    assert api.ask("PATCH", location, data[:100])[0] == 202
    api.raw(f"PATCH {location} HTTP/1.1\nContent-Length: {len(data) - 100}", data[100:300], end=True)
    api.raw(f"PATCH {location} HTTP/1.1\nTransfer-Encoding: chunked", b"1000\r\n" + data[100:300], end=True)
    status, headers, _ = api.ask("GET", location)
    assert (status, headers["Range"]) == (204, "0-99")
    rest = {"Content_Range": f"100-{len(data) - 1}"}
    # 416 while the server has not noticed yet that the broken requests ended.
    assert wait_until(lambda: api.ask("PATCH", location, data[100:], **rest)[0] == 202, timeout=30)
    assert api.ask("PUT", with_digest(location, data), b"")[0] == 201
    assert api.ask("GET", f"blobs/{sha256(data)}")[2] == data


def test_repeated_last_request_succeeds_after_a_lost_answer(api):
    """The client disconnects before the answer to its last request, and then repeats the request."""
    data = os.urandom(SIZE)
    location = api.start()
    assert api.ask("PATCH", location, data)[0] == 202
    with closing(http.client.HTTPConnection("127.0.0.1", api.server.port, timeout=60)) as connection:
        connection.request("PUT", with_digest(location, data), b"", api.headers)
    statuses = [api.ask("PUT", with_digest(location, data), b"")[0] for _ in range(2)]
    # The first request may still run: 416 means that another request writes.
    while statuses[-1] == 416:
        statuses.append(api.ask("PUT", with_digest(location, data), b"")[0])
    assert set(statuses) <= {201, 416}
    assert api.ask("GET", f"blobs/{sha256(data)}")[2] == data


def test_a_push_through_nginx_survives_a_restart_of_the_server(server, api):
    """While the server is down nginx answers 502. The upload then continues at its former offset."""
    data = os.urandom(SIZE)
    location = api.start()
    assert api.ask("PATCH", location, data[:1000])[0] == 202
    assert server.stop() == 0
    status, _, _ = api.ask("PATCH", location, data[1000:], Content_Range=f"1000-{len(data) - 1}")
    assert status == 502
    server.serve()
    assert api.ask("GET", location)[1]["Range"] == "0-999"
    assert api.ask("PATCH", location, data[1000:], Content_Range=f"1000-{len(data) - 1}")[0] == 202
    assert api.ask("PUT", with_digest(location, data), b"")[0] == 201
    assert api.ask("GET", f"blobs/{sha256(data)}")[2] == data


def test_upload_through_nginx_is_finished_when_the_server_terminates(server, api):
    """SIGTERM arrives in the middle of a body. The request is finished, answered and durable."""
    data, location = os.urandom(SIZE), api.start()
    staged = server.data / "storage" / "staging" / location.rpartition("/")[2]

    def body():
        yield data[:1000]
        assert wait_until(staged.exists, timeout=30)
        server.process.send_signal(signal.SIGTERM)
        yield data[1000:]

    assert api.ask("PUT", with_digest(location, data), body())[0] == 201
    assert server.stop() == 0
    server.serve()
    assert api.ask("GET", f"blobs/{sha256(data)}")[2] == data


def test_client_address_is_the_one_nginx_reports(server):
    """nginx appends the real address to the X-Forwarded-For of the client, or puts it in its place."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, source_address=("127.0.0.2", 0), timeout=60)
    with closing(connection):
        connection.request("GET", "/sign-in", headers={"Host": server.host, "X-Forwarded-For": "203.0.113.9"})
        answer = connection.getresponse()
        assert answer.status == 200
        identifier = answer.headers["X-Request-Id"]
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if identifier in line]
    assert [line["address"] for line in lines] == ["127.0.0.2"]


def secret_paths(patterns=None, before=""):
    """Return a path for each route with a secret token."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = before + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            yield from secret_paths(pattern.url_patterns, route)
        elif "token>" in route:
            yield "/" + re.sub(r"<[^>]+>", "secret-of-a-link", route)


def test_log_of_nginx_has_no_secret_link(server, api):
    paths = list(secret_paths())
    assert len(paths) >= 2
    for path in paths:
        api.ask("GET", path)
    api.ask("GET", "/sign-in?seen=1")
    assert wait_until(lambda: "/sign-in?seen=1" in server.proxy.access_log.read_text(), timeout=10)
    assert "secret-of-a-link" not in server.proxy.access_log.read_text()


def test_challenge_has_the_public_address(server, api):
    del api.headers["Authorization"]
    status, headers, _ = api.ask("GET", "/v2/")
    assert status == 401
    assert f'realm="{server.url}/token",service="{server.host}"' in headers["WWW-Authenticate"]


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def tls_server(tmp_path_factory):
    certificate = make_certificate(tmp_path_factory.mktemp("certificate"))
    waiting = TlsServer("tls")
    waiting.certificate = certificate
    with behind_nginx(waiting, certificate) as running:
        yield running.people()


def test_a_person_signs_in_over_tls(tls_server):
    """The server knows that the client uses TLS: the cookie is secure, and the origin of the form matches."""
    visitor = tls_server.visitor("reader@acme.test", "--project", "demo:reader")
    assert {bool(cookie["secure"]) for cookie in visitor.cookies.values()} == {True}
    assert "web" in visitor.see("/projects/demo/repositories/")
    assert "max-age=" in visitor.ask("GET", "/")[1]["Strict-Transport-Security"]


def test_a_renewed_certificate_is_served_after_the_documented_reload_without_an_end_of_transfers(tmp_path):
    """docs/operate/install.md, ``CERTIFICATES``. A push is under way meanwhile, on a connection of before."""
    certificate = make_certificate(tmp_path)
    (tmp_path / "renewed").mkdir()
    renewed = make_certificate(tmp_path / "renewed")
    written = re.search(r"renewal[^`]*`docker compose exec nginx (nginx [^`]*)`", section("install.md", "Containers"))
    waiting = TlsServer("renewal")
    waiting.certificate = certificate
    with behind_nginx(waiting, certificate, ComposedNginx) as server:
        api, data = server.people().api(), os.urandom(SIZE)

        def served():
            return ssl.get_server_certificate(("127.0.0.1", server.port))

        def body():
            yield data[:1000]
            for ending in (".crt", ".key"):
                certificate.with_suffix(ending).write_bytes(renewed.with_suffix(ending).read_bytes())
            folder = server.proxy.folder
            run(["sh", "-ec", here(written[1], {"/etc/nginx/kcr": str(folder), "-s": f"-p {folder} -s"})])
            assert wait_until(lambda: served() == renewed.read_text(), timeout=30)
            yield data[1000:]

        assert served() != renewed.read_text()
        assert api.ask("PUT", with_digest(api.start(), data), body())[0] == 201
        assert api.ask("GET", f"blobs/{sha256(data)}").body == data


def test_skopeo_pushes_and_pulls_over_tls(tls_server, tmp_path):
    """The challenge names the address with https; skopeo trusts this certificate only."""
    folder = tmp_path / "trusted"
    folder.mkdir()
    (folder / "localhost.crt").write_bytes(tls_server.certificate.read_bytes())
    trusting = ("--cert-dir", str(folder))
    image = Image.random("tls", layer_size=200_000)
    archive = image.write_docker_archive(tmp_path / "image.tar", "localhost/tls:1")
    with ContainersHome("tls") as home:
        user = ("--username", tls_server.key.id, "--password-stdin")
        home.run("skopeo", "login", *trusting, *user, tls_server.host, text_input=tls_server.key.secret)
        name = f"docker://{tls_server.host}/demo/web/tls:1"
        home.skopeo("copy", "--dest-cert-dir", str(folder), f"docker-archive:{archive}", name)
        home.skopeo("copy", "--src-cert-dir", str(folder), name, f"dir:{tmp_path / 'pulled'}")
        assert "certificate" in home.skopeo("inspect", name, succeeds=False).text
    pulled = json.loads((tmp_path / "pulled" / "manifest.json").read_text())
    assert pulled["config"]["digest"] == image.config.digest
