"""Outages of database, broker and server: answers during the outage, and no lost or partial write after it."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from registry import pools
from tests.support.fault_proxy import FaultProxy
from tests.support.images import Image, sha256
from tests.support.programs import Daemon, PostgresServer, RedisServer, wait_until
from tests.support.server import SOURCE, LiveServer
from tests.support.visitor import Visitor

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]

DATA = os.urandom(300_000)
COLLECTION = "/projects/demo/garbage-collection"


@pytest.fixture(scope="module")
def database():
    with PostgresServer() as running:
        yield running


@pytest.fixture(scope="module")
def broker():
    with RedisServer() as running:
        yield running


@pytest.fixture(scope="module")
def proxy(database):
    """Between the server and PostgreSQL."""
    with FaultProxy(database.port) as between:
        yield between


@pytest.fixture(scope="module")
def broker_proxy(broker):
    """Between the server and Redis."""
    with FaultProxy(broker.port) as between:
        yield between


@pytest.fixture(scope="module")
def server(database, proxy, broker, broker_proxy):
    url = database.url.replace(f":{database.port}/", f":{proxy.port}/")
    broker_url = broker.url.replace(f":{broker.port}/", f":{broker_proxy.port}/")
    settings = {"KCR_DATABASE_URL": url, "KCR_REDIS_URL": broker_url, "KCR_WEB_WORKERS": "1"}
    with LiveServer("outages", settings) as running:
        running.people()
        running.visitor("admin@acme.test", "--project", "demo:admin")
        assert push(running, "1.0") == 201
        yield running


def push(server: LiveServer, tag: str, data: bytes = DATA) -> int:
    """Push a blob and an image. Return the last status."""
    api = server.api()
    status = api.push_blob(data)
    return api.push_manifest(tag, data) if status == 201 else status


def is_pulled(server: LiveServer, tag: str, data: bytes = DATA) -> bool:
    api = server.api()
    return api.ask("GET", f"manifests/{tag}")[0] == 200 and api.ask("GET", f"blobs/{sha256(data)}")[2] == data


def ready(server: LiveServer) -> dict[str, str]:
    return json.loads(server.client().ask("GET", "/readyz").body)


REQUESTS = (
    *(
        ("GET", "/v2/"),
        ("GET", "/v2/_catalog"),
        ("GET", "tags/list"),
        ("GET", "manifests/1.0"),
        ("HEAD", "manifests/1.0"),
    ),
    *(("GET", f"blobs/{sha256(DATA)}"), ("HEAD", f"blobs/{sha256(DATA)}"), ("GET", f"referrers/{sha256(DATA)}")),
    *(("POST", "blobs/uploads/"), ("PATCH", "{upload}"), ("PUT", f"{{upload}}?digest={sha256(b'12345')}")),
    *(("GET", "{upload}"), ("DELETE", "{upload}"), ("PUT", "manifests/2.0"), ("DELETE", "manifests/1.0")),
    *(("DELETE", f"blobs/{sha256(DATA)}"), ("GET", "/token?service={host}&scope=repository:demo/web/app:pull")),
)


KEYS_ARE_OLD = 11  # seconds, after which tokens.verify reads the signing keys again
PROMISED = 5  # seconds until the answer while the database is away
LOADED = 3  # so many times slower may a loaded machine be


@pytest.mark.parametrize("fault", ["stopped", "refusing", "silent"])
def test_database_outage_is_answered_with_retry_after_everywhere(server, database, proxy, fault):
    assert push(server, "1.0") == 201
    api, visitor = server.api(), Visitor(server, "admin@acme.test")
    upload = api.start()
    assert api.ask("PATCH", upload, b"123")[0] == 202
    time.sleep(KEYS_ARE_OLD)

    def is_refused(method, written):
        path = written.replace("{upload}", upload).replace("{host}", server.host)
        headers = {"Authorization": f"Basic {server.client(server.key).basic}"} if path.startswith("/token") else {}
        body = b"45" if method in {"PATCH", "PUT"} else None
        began = time.monotonic()
        status, answered, said = api.ask(method, path, body, **headers)
        assert time.monotonic() - began < PROMISED * LOADED, (method, path)
        assert (status, answered.get("Retry-After")) == (503, "5"), (method, path, status, said)
        assert method == "HEAD" or json.loads(said)["errors"][0]["code"] == "TOOMANYREQUESTS"

    def is_no_page(path):
        began = time.monotonic()
        status, headers, page = visitor.ask("GET", path)
        assert time.monotonic() - began < PROMISED * LOADED, path
        assert (status, headers.get("Retry-After")) == (503, "5"), path
        assert "is not ready" in page

    with away(fault, database, proxy, database.serve):
        for _ in range(2):  # the first requests find the connections that were open
            with ThreadPoolExecutor(32) as threads:
                refused = threads.map(lambda request: is_refused(*request), REQUESTS)
                shown = threads.map(is_no_page, ("/", "/projects/demo/", COLLECTION))
                list(refused), list(shown)
        assert ready(server)["database"] == "unavailable"
        assert server.client().ask("GET", "/healthz").status == 200
    assert wait_until(lambda: ready(server)["status"] == "ok", timeout=30), f"{ready(server)}\n{server.said()}"
    assert is_pulled(server, "1.0")
    assert api.ask("GET", "manifests/2.0")[0] == 404
    assert api.ask("GET", upload)[1]["Range"] == "0-2"  # no refused push left anything
    assert api.ask("PUT", f"{upload}?digest={sha256(b'12345')}", b"45")[0] == 201
    assert push(server, "after") == 201
    assert "Garbage collection" in visitor.see(COLLECTION)
    # No connection leaked.
    with ThreadPoolExecutor(64) as threads:
        answers = list(threads.map(lambda _: server.api().ask("GET", "manifests/1.0")[0], range(200)))
    assert set(answers) <= {200, 503}
    assert answers.count(200) > 0
    assert database.count_connections() <= pools.size(256) + 1  # one more may ask whether the database answers


def test_a_slow_database_is_waited_for(server, proxy):
    """Each piece of bytes takes longer: queries are slow, and none fails."""
    proxy.delay(0.1)
    try:
        assert push(server, "slow", os.urandom(1000)) == 201
        assert is_pulled(server, "1.0")
    finally:
        proxy.heal()


def test_nothing_that_was_acknowledged_is_lost_while_the_database_comes_and_goes(server, proxy):
    """Connections are cut in queries and answers, refused, and silent, while clients push."""
    pushed: dict[str, bytes] = {}
    is_over = threading.Event()

    def pushes(number):
        for turn in itertools.count():
            if is_over.is_set():
                return
            tag, data = f"fault-{number}-{turn}", os.urandom(2000)
            try:
                if push(server, tag, data) == 201:
                    pushed[tag] = data
            except (AssertionError, KeyError):  # no token, no upload
                continue

    chance = random.Random(3)
    with ThreadPoolExecutor(3) as threads:
        pushing = [threads.submit(pushes, number) for number in range(3)]
        try:
            for _ in range(20):
                proxy.cut(chance.randrange(100, 20_000))
                time.sleep(chance.uniform(0.05, 0.4))
            for begin in (proxy.refuse, proxy.silence):
                begin()
                time.sleep(5)
                proxy.heal()
                enough = len(pushed) + 3
                assert wait_until(lambda enough=enough: len(pushed) >= enough, timeout=60), server.said()
        finally:
            proxy.heal()
            is_over.set()
        for each in pushing:
            each.result()
    assert [tag for tag, data in pushed.items() if not is_pulled(server, tag, data)] == []
    found = server.manage("verifystorage", "--full")
    assert found.pop("blobs") > len(pushed)
    assert set(found.values()) == {0}


def test_push_continues_after_a_database_outage(server, database):
    api = server.api()
    data = os.urandom(8 * 1024 * 1024)
    upload, half = api.start(), len(data) // 2
    staged = server.data / "storage" / "staging" / upload.rpartition("/")[2]
    go_on = threading.Event()

    def body():
        yield data[: half // 2]
        go_on.wait(60)
        yield data[half // 2 : half]

    with ThreadPoolExecutor(1) as threads:
        pushing = threads.submit(api.ask, "PATCH", upload, body())
        try:
            # The request has been accepted and writes.
            assert wait_until(lambda: staged.exists() and staged.stat().st_size > 0, timeout=30)
            database.stop()
            go_on.set()
            assert pushing.result()[0] == 503
        finally:
            go_on.set()
            database.serve()
    assert wait_until(lambda: ready(server)["status"] == "ok", timeout=30), f"{ready(server)}\n{server.said()}"
    assert api.ask("GET", upload)[1]["Range"] == "0-0"
    assert api.ask("PATCH", upload, data[:half])[0] == 202
    assert api.ask("PUT", f"{upload}?digest={sha256(data)}", data[half:])[0] == 201
    assert api.push_manifest("resumed", data) == 201
    assert is_pulled(server, "resumed", data)


@contextmanager
def away(fault, program, proxy, back):
    """A program that stopped, or whose proxy refuses or is silent, in the block."""
    begin, end = {
        "stopped": (program.stop, back),
        "refusing": (proxy.refuse, proxy.heal),
        "silent": (proxy.silence, proxy.heal),
    }[fault]
    begin()
    try:
        yield
    finally:
        end()


@pytest.mark.parametrize("fault", ["stopped", "refusing", "silent"])
def test_broker_outage_allows_pushes_and_pulls_and_delays_tasks(server, broker, broker_proxy, fault):
    visitor = Visitor(server, "admin@acme.test")
    client = server.client(server.key)
    with away(fault, broker, broker_proxy, broker.start):
        answer = server.client().ask("GET", "/readyz")
        assert (answer.status, answer.json()["broker"]) == (200, "unavailable")
        began = time.monotonic()
        for number in range(3):  # each asks for a scan
            image = Image.random(f"{fault}-{number}")
            client.push("demo/web/image", image, f"{fault}-{number}")
            assert client.manifest("demo/web/image", f"{fault}-{number}").body == image.manifest
        status, where, _ = visitor.post(*visitor.filled(COLLECTION, act="run"))
        assert (status, where) == (302, COLLECTION)
        assert "Queued" in visitor.see(COLLECTION)
        status, _, page = Visitor(server).send("/password/forgotten", email="admin@acme.test")
        assert status in {200, 503}, page
        assert time.monotonic() - began < 10 * LOADED  # one request waits for the broker, the next ones do not
    assert wait_until(lambda: ready(server)["broker"] == "ok", timeout=30), f"{ready(server)}\n{server.said()}"
    # The rows are the queue: sweeps find what no message told.
    assert server.work("tasks", "sweep_collections") == 1
    assert server.work("tasks", "count_unfinished_collections") == 1
    assert server.work("tasks", "count_waiting_scans") >= 3
    assert server.work("tasks", "run_collections") == 1


class Worker(Daemon):
    """A worker of the server."""

    def __init__(self, server: LiveServer) -> None:
        super().__init__("worker")
        self.server = server

    def start(self) -> None:
        """Start it."""
        words = ("-m", "celery", "--app=registry", "worker", "--concurrency=1", "--loglevel=info")
        self.launch([sys.executable, *words], self.server.environment, cwd=SOURCE)
        assert self.await_ready(lambda: "ready." in self.said()), self.said()


@pytest.mark.parametrize("fault", ["stopped", "refusing", "silent"])
def test_worker_goes_on_after_a_broker_outage(server, broker, broker_proxy, fault):
    with Worker(server) as worker:
        with away(fault, broker, broker_proxy, broker.start):
            time.sleep(15)
        assert wait_until(lambda: ready(server)["broker"] == "ok", timeout=30), server.said()
        server.work("tasks", "queue_sweep_of_uploads")
        assert wait_until(lambda: server.work("tasks", "count_overdue_uploads") == 0, timeout=120), worker.said()


def test_terminated_server_finishes_running_requests(server):
    api = server.api()
    upload, data = api.start(), os.urandom(100_000)
    staged = server.data / "storage" / "staging" / upload.rpartition("/")[2]
    came, go_on = threading.Event(), threading.Event()

    def body():
        yield data[:50_000]
        came.set()
        go_on.wait(60)
        yield data[50_000:]

    with ThreadPoolExecutor(1) as threads:
        pushing = threads.submit(api.ask, "PUT", f"{upload}?digest={sha256(data)}", body())
        assert came.wait(30)
        assert wait_until(staged.exists, timeout=30)  # the request has begun
        server.process.send_signal(signal.SIGTERM)
        assert wait_until(lambda: not is_answering(server), timeout=20)
        go_on.set()
        assert pushing.result()[0] == 201
    assert server.stop() == 0
    server.serve()
    assert server.api().ask("GET", f"blobs/{sha256(data)}")[2] == data


def is_answering(server: LiveServer) -> bool:
    """Return whether a new request is answered within a second."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=1)) as connection:
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
