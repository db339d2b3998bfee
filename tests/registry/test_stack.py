"""The stack of docker-compose.yml as processes: nginx with TLS, two web servers without a common disk, two workers, beat,
PostgreSQL, Redis and SeaweedFS. Each of them is killed while images are pushed, and nothing that was acknowledged is lost.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import secrets
import socket
import ssl
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.images import MEBIBYTE, Image, sha256, write_layout
from tests.support.nginx import ComposedNginx
from tests.support.programs import (
    ContainersHome,
    Daemon,
    DockerDaemon,
    PostgresServer,
    RedisServer,
    unavailable,
    wait_until,
)
from tests.support.s3 import CREDENTIALS, SeaweedFS
from tests.support.server import DOMAIN, PROJECT, REGION, SOURCE, AccessKey, LiveServer
from tests.support.tls import TlsServer, make_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.registry_client import Answer, RegistryClient

pytestmark = [pytest.mark.real, pytest.mark.alone, pytest.mark.sqlite_only]

NAME = f"{PROJECT}/web/app"
BACK_SECONDS = 60


class Background(Daemon):
    """A worker or beat with its own data directory, started by its command in docker-compose.yml."""

    def __init__(self, service: str, name: str, web: LiveServer) -> None:
        super().__init__(name)
        self.web = web
        words = yaml.safe_load((SOURCE / "docker-compose.yml").read_text())["services"][service]["command"].split()
        place = f"--schedule={self.folder}/schedule"
        self.words = [place if word.startswith("--schedule=") else word for word in words]

    def start(self) -> None:
        """Start it. Celery says nothing at this level, so the tests wait for what it does."""
        environment = self.web.environment | {"KCR_DATA_DIR": str(self.folder / "data")}
        self.launch([str(SOURCE / ".venv" / "bin" / self.words[0]), *self.words[1:]], environment, cwd=SOURCE)


@dataclass
class Stack:
    """The running parts by name, each with the function that starts it again."""

    nginx: ComposedNginx
    seaweed: SeaweedFS
    webs: list[TlsServer]
    certificate: Path
    parts: dict[str, tuple[Daemon, Callable[[], None]]]

    @property
    def key(self) -> AccessKey:
        """The key of a member."""
        return self.webs[0].key

    def client(self, project: str = "") -> RegistryClient:
        """A client of the member behind nginx, on the bare host or on the project's, without a token."""
        client = self.webs[0].client(self.key, project=project or None)
        client.image = NAME.removeprefix(f"{project}/")
        return client

    def api(self) -> RegistryClient:
        """A client with a token on the bare host."""
        return self.client().authorized()

    def fetched(self, answer: Answer) -> bytes:
        """The body of an answer, or of the address in S3 to which it leads."""
        if answer.status != http.client.TEMPORARY_REDIRECT:
            assert answer.status == http.client.OK
            return answer.body
        trusted = ssl.create_default_context(cafile=self.certificate)
        with urllib.request.urlopen(answer.headers["Location"], context=trusted, timeout=60) as found:
            return bytes(found.read())


def project_name() -> str:
    """The name of the project's host, which this machine must resolve."""
    name = f"{PROJECT}.{REGION}.{DOMAIN}"
    try:
        socket.getaddrinfo(name, None)
    except socket.gaierror:
        unavailable(f"this machine does not know {name}: add the line '127.0.0.1 {name}' to /etc/hosts")
    return name


@contextlib.contextmanager
def running_stack(certificate: Path | None = None, **parameters: str) -> Iterator[Stack]:
    """Start everything. ``parameters``: those of KCR_STORAGE_URL."""
    with contextlib.ExitStack() as opened:
        database, redis = opened.enter_context(PostgresServer()), opened.enter_context(RedisServer())
        seaweed = opened.enter_context(SeaweedFS())
        shared = {"KCR_DATABASE_URL": database.url, "KCR_REDIS_URL": redis.url, "KCR_TRUSTED_PROXIES": "127.0.0.1"}
        shared |= {"KCR_SECRET_KEY": secrets.token_hex(32), "KCR_WEB_WORKERS": "1", **CREDENTIALS}
        kind = TlsServer if certificate else LiveServer
        webs = [kind(f"web-{number}", shared) for number in (1, 2)]
        nginx = ComposedNginx(*(web.own_port for web in webs), s3=seaweed.port, certificate=certificate)
        public = f"http{'s' if certificate else ''}://localhost:{nginx.s3_port}"
        if parameters.pop("presign", "on") == "on":
            parameters["public_endpoint"] = public
        for web in webs:
            web.port, web.certificate = nginx.port, certificate
            web.settings["KCR_STORAGE_URL"] = seaweed.url("stack", **parameters)
        opened.enter_context(nginx)
        for web in webs:
            opened.enter_context(web)
        webs[1].key = webs[0].people().key
        workers = [Background("worker", f"worker-{number}", webs[0]) for number in (1, 2)]
        beat = Background("beat", "beat", webs[0])
        for part in (*workers, beat):
            opened.enter_context(part)
        parts: dict[str, tuple[Daemon, Callable[[], None]]] = {
            **{web.name: (web, web.serve) for web in webs},
            **{part.name: (part, part.start) for part in (*workers, beat)},
            "redis": (redis, redis.start),
            "postgres": (database, database.serve),
            "seaweedfs": (seaweed, seaweed.serve),
            "nginx": (nginx, nginx.start),
        }
        yield Stack(nginx, seaweed, webs, certificate, parts)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    certificate = make_certificate(tmp_path_factory.mktemp("certificate"), f"*.{REGION}.{DOMAIN}")
    with running_stack(certificate, presign_from="1000000") as running:
        yield running


# ── Clients ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_docker_pushes_and_pulls_in_both_name_forms(stack, tmp_path):
    image = Image.random("stack docker", layers=3, layer_size=3 * MEBIBYTE)
    archive = image.write_docker_archive(tmp_path / "image.tar", "loaded:latest")
    hosts = {f"localhost:{stack.nginx.port}": NAME, f"{project_name()}:{stack.nginx.port}": "web/app"}
    with DockerDaemon("stack-docker") as daemon:
        docker = daemon.client("member")
        docker("load", "--input", str(archive))
        for number, (host, name) in enumerate(hosts.items()):
            docker.login(host, stack.key.id, stack.key.secret)
            docker.push(image.config.digest, f"{host}/{name}:docker-{number}")
        docker("image", "rm", "--force", image.config.digest)
        for host, name in hosts.items():
            for number in (0, 1):
                docker("pull", f"{host}/{name}:docker-{number}")
                assert docker.image(f"{host}/{name}:docker-{number}")["Id"] == image.config.digest
            docker("image", "rm", "--force", image.config.digest)


def test_skopeo_pushes_and_pulls_in_both_name_forms(stack, tmp_path):
    image = Image.random("stack skopeo", layers=3, layer_size=3 * MEBIBYTE)
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    (trusted / "stack.crt").write_bytes(stack.certificate.read_bytes())
    with ContainersHome("stack") as home:
        layout = write_layout(home.folder / "layout", {"made": image})
        names = (f"localhost:{stack.nginx.port}/{NAME}", f"{project_name()}:{stack.nginx.port}/web/app")
        for name in names:
            login = ("--cert-dir", str(trusted), "--username", stack.key.id, "--password-stdin")
            home.run("skopeo", "login", *login, name.partition("/")[0], text_input=stack.key.secret)
        for pushed, pulled in (names, reversed(names)):
            target, source = f"docker://{pushed}:skopeo", f"docker://{pulled}:skopeo"
            home.skopeo("copy", "--preserve-digests", "--dest-cert-dir", str(trusted), f"oci:{layout}:made", target)
            home.skopeo("copy", "--src-cert-dir", str(trusted), source, f"dir:{tmp_path / 'pulled'}")
            for part in image.parts[:-1]:
                assert (tmp_path / "pulled" / part.digest.partition(":")[2]).read_bytes() == part


def test_plain_http_is_redirected(stack):
    connection = http.client.HTTPConnection("127.0.0.1", stack.nginx.redirecting_port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/projects/?page=2", headers={"Host": "registry.example.com"})
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Location"]) == (308, "https://registry.example.com/projects/?page=2")


def test_signed_addresses_lead_through_nginx_which_only_lets_clients_read(stack):
    api, data = stack.api(), os.urandom(2 * MEBIBYTE)
    assert api.push_blob(data) == http.client.CREATED
    answer = api.ask("GET", f"blobs/{sha256(data)}")
    assert answer.status == http.client.TEMPORARY_REDIRECT
    address = answer.headers["Location"]
    assert address.startswith(f"https://localhost:{stack.nginx.s3_port}/")
    assert stack.fetched(answer) == data
    trusted = ssl.create_default_context(cafile=stack.certificate)
    for method, url in (("PUT", address), ("DELETE", address), ("GET", address.partition("?")[0])):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(urllib.request.Request(url, method=method), context=trusted, timeout=10)
    assert stack.fetched(api.ask("GET", f"blobs/{sha256(data)}")) == data


def test_an_upload_is_served_by_both_web_servers(stack):
    """nginx gives each request to the server with fewer connections, or to the next one."""
    api, data = stack.api(), os.urandom(6 * MEBIBYTE)
    location, step = api.start(), MEBIBYTE
    upload = location.partition("?")[0].rpartition("/")[2]
    for start in range(0, len(data), step):
        answer = api.ask("PATCH", location, data[start : start + step])
        assert (answer.status, answer.headers["Range"]) == (202, f"0-{start + step - 1}")
        location = answer.headers["Location"]
    assert api.ask("PUT", f"{location}?digest={sha256(data)}").status == http.client.CREATED
    assert stack.fetched(api.ask("GET", f"blobs/{sha256(data)}")) == data
    assert all(upload in web.said(lines=1000) for web in stack.webs)


# ── Faults ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass
class Pushers:
    """Threads that push images, in both name forms, and pull each one; they repeat what fails as clients do."""

    stack: Stack
    number: int = 3
    pauses: tuple[float, ...] = (0.5, 1, 2, 4, 8, 8, 8, 8, 8, 8)
    blobs: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    done: Counter[int] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    given_up: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(number,)) for number in range(self.number)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def _run(self, number: int) -> None:
        for turn in itertools.count():
            if self.over.is_set():
                return
            try:
                self._push(f"t{number}-{turn}", PROJECT if turn % 2 else "", large=turn % 5 == 0)
                self.done[number] += 1
            except AssertionError as refused:
                self.given_up.append(str(refused))

    def _push(self, tag: str, project: str, *, large: bool) -> None:
        layer, config = os.urandom(9 * MEBIBYTE if large else 100_000), b"{}" + tag.encode()
        api = self._tried("token", lambda: self._authorized(project))
        for data in (config, layer):
            self._tried("blob", lambda data=data: self._push_blob(api, data))
            self.blobs.add(sha256(data))
        self._tried("manifest", lambda: self._expect(api.push_manifest(tag, config, layer), 201))
        answer = self._tried("pull", lambda: self._asked(api, 200, "GET", f"manifests/{tag}"))
        self.tags[tag] = answer.headers["Docker-Content-Digest"]
        body = self._tried("pull", lambda: self._fetched(api, f"blobs/{sha256(layer)}"))
        assert body == layer, f"{tag} has other bytes"

    def _tried(self, what: str, act: Callable[[], Any]) -> Any:
        """Do it until it succeeds. A refusal of the client raises AssertionError at once, repeated failures do at last."""
        problem = ""
        for pause in (*self.pauses, None):
            try:
                return act()
            except (OSError, http.client.HTTPException, _Failed) as error:
                problem = f"{what}: {type(error).__name__} {error}"
                self.failed[problem[:100]] += 1
                if pause is not None:
                    time.sleep(pause)
        raise AssertionError(problem)

    def _authorized(self, project: str) -> RegistryClient:
        client = self.stack.client(project)
        basic = {"Authorization": f"Basic {client.basic}"}
        scope = f"/token?service={client.host}&scope=repository:{client.image}:pull,push"
        client.headers["Authorization"] = f"Bearer {self._asked(client, 200, 'GET', scope, **basic).json()['token']}"
        return client

    def _push_blob(self, api: RegistryClient, data: bytes) -> None:
        location = self._asked(api, 202, "POST", "blobs/uploads/").headers["Location"]
        location = self._asked(api, 202, "PATCH", location, iter([data])).headers["Location"]
        self._asked(api, 201, "PUT", f"{location}?digest={sha256(data)}")

    def _fetched(self, api: RegistryClient, path: str) -> bytes:
        return self.stack.fetched(self._asked(api, None, "GET", path))

    def _asked(self, api: RegistryClient, wanted: int | None, *request: Any, **headers: str) -> Answer:
        answer = api.ask(*request, **headers)
        self._expect(answer.status, wanted)
        return answer

    @staticmethod
    def _expect(status: int, wanted: int | None) -> None:
        if status >= 500 or status in {404, 416, 429}:  # an upload that is gone, or has a writer still, begins again
            raise _Failed(status)
        assert wanted in {None, status}, f"{status}, not {wanted}"

    def await_progress(self, seconds: float) -> bool:
        """Wait until each thread has pushed and pulled one more image that it has begun meanwhile."""
        before = Counter(self.done)
        return wait_until(
            lambda: all(self.done[number] >= before[number] + 2 for number in range(self.number)), timeout=seconds
        )


class _Failed(Exception):
    """An answer after which clients try again."""


def assert_everything_is_there(stack, pushers):
    """Pull back all that was acknowledged."""
    api = stack.api()
    for digest in pushers.blobs:
        assert sha256(stack.fetched(api.ask("GET", f"blobs/{digest}"))) == digest
    for tag, digest in pushers.tags.items():
        answer = api.ask("GET", f"manifests/{tag}")
        assert (answer.status, sha256(answer.body)) == (200, digest)
    found = stack.webs[0].manage("verifystorage", "--full")
    assert found.pop("blobs") >= len(pushers.blobs)
    assert set(found.values()) == {0}


def test_each_part_is_killed_in_turn_and_nothing_acknowledged_is_lost(stack):
    slow = {}
    with Pushers(stack) as pushers:
        assert pushers.await_progress(BACK_SECONDS)
        for name, (part, start) in stack.parts.items():
            part.crash()
            time.sleep(1)
            start()
            began = time.monotonic()
            assert pushers.await_progress(BACK_SECONDS), (name, pushers.failed, pushers.given_up)
            slow[name] = round(time.monotonic() - began, 1)
    print(f"two more images of each of {pushers.number} clients after: {slow}")
    print(f"{len(pushers.tags)} images, {len(pushers.blobs)} blobs; failures that clients repeated: {pushers.failed}")
    assert pushers.given_up == []
    assert_everything_is_there(stack, pushers)
    stack.webs[0].work("tasks", "queue_sweep_of_uploads")
    assert wait_until(lambda: stack.webs[0].work("tasks", "count_expired_uploads") == 0, timeout=BACK_SECONDS)


def test_rolling_restart_is_not_noticed_by_clients(stack):
    with Pushers(stack, pauses=(0.5, 1, 2, 4)) as pushers:
        assert pushers.await_progress(BACK_SECONDS)
        for web in stack.webs:
            assert web.stop() == 0
            web.serve()
            assert pushers.await_progress(BACK_SECONDS), pushers.failed
    print(f"{len(pushers.tags)} images; failures that clients repeated: {pushers.failed}")
    assert pushers.given_up == []
    assert_everything_is_there(stack, pushers)


# ── Slow clients ─────────────────────────────────────────────────────────────────────────────────────────────────────
class SlowClients:
    """TLS connections of one address: readers take a kilobyte of the answer a second, others send a byte of a head."""

    READERS, SENDERS, ADDRESS = 200, 300, "127.0.0.2"

    def __init__(self, stack: Stack, url: str, headers: dict[str, str]) -> None:
        self.trusted, self.over = ssl.create_default_context(cafile=stack.certificate), threading.Event()
        self.statuses: Counter[bytes] = Counter()
        parts = urlsplit(url)
        lines = "".join(f"{name}: {value}\r\n" for name, value in ({"Host": parts.netloc} | headers).items())
        request = f"GET {parts.path}?{parts.query} HTTP/1.1\r\n{lines}\r\n"
        self.readers = [self._connected(parts.port) for _ in range(self.READERS)]
        for reader in self.readers:
            reader.sendall(request.encode())
        self.senders = [self._connected(stack.nginx.port) for _ in range(self.SENDERS)]
        self.thread = threading.Thread(target=self._run)

    def _connected(self, port: int | None) -> ssl.SSLSocket:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.bind((self.ADDRESS, 0))
        plain.settimeout(30)
        plain.connect(("127.0.0.1", port))
        return self.trusted.wrap_socket(plain, server_hostname="localhost")

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self.over.set()
        self.thread.join()
        for connection in (*self.readers, *self.senders):
            connection.close()

    def _run(self) -> None:
        head = itertools.chain(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", itertools.repeat(ord("x")))
        for connection in (*self.readers, *self.senders):
            connection.setblocking(False)
        answered = set()
        for byte in head:
            for sender in self.senders:
                with contextlib.suppress(OSError):
                    sender.send(bytes([byte]))
            for reader in self.readers:
                with contextlib.suppress(OSError):
                    data = reader.recv(1024)
                    if reader not in answered:
                        answered.add(reader)
                        self.statuses[data[9:12]] += 1
            if self.over.wait(1):
                return


@pytest.fixture(params=["on", "off"])
def presign(request, stack):
    """Restart the web servers so that clients are sent to S3, or are not; and as they were."""
    public = {"public_endpoint": f"https://localhost:{stack.nginx.s3_port}"} if request.param == "on" else {}
    before = [web.settings["KCR_STORAGE_URL"] for web in stack.webs]
    changed = [stack.seaweed.url("stack", presign=request.param, **public)] * len(stack.webs)

    def restart(urls: list[str]) -> None:
        for web, url in zip(stack.webs, urls, strict=True):
            assert web.stop() == 0
            web.settings["KCR_STORAGE_URL"] = url
            web.serve()

    restart(changed)
    yield request.param
    restart(before)


def test_slow_clients_do_not_slow_others(stack, presign):
    api, data = stack.api(), os.urandom(8 * MEBIBYTE)
    assert api.push_blob(data) == http.client.CREATED
    answer = api.ask("HEAD" if presign == "off" else "GET", f"blobs/{sha256(data)}")
    assert answer.status == (307 if presign == "on" else 200)
    own = f"{stack.webs[0].url}/v2/{NAME}/blobs/{sha256(data)}"
    url, headers = (answer.headers["Location"], {}) if presign == "on" else (own, api.headers)
    with SlowClients(stack, url, headers) as crowd:
        waits = []
        for _ in range(20):
            began = time.monotonic()
            assert api.ask("GET", "/v2/").status == http.client.OK
            waits.append(time.monotonic() - began)
            time.sleep(0.3)
        assert sorted(waits)[len(waits) // 2] < 1, waits
        more = os.urandom(MEBIBYTE)
        assert api.push_blob(more) == http.client.CREATED
        assert stack.fetched(api.ask("GET", f"blobs/{sha256(more)}")) == more
    print(f"presign={presign}: {max(waits):.2f} s at most; readers were answered {crowd.statuses}")
    assert crowd.statuses[b"200"] > 0
