"""Counters that processes share over Redis, and what happens while it is away."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest

from accounts import redis
from accounts.redis import SharedRedis
from console.views.accounts.password import LINKS_ALLOWED
from tests.support.programs import RedisServer
from tests.support.server import LiveServer
from tests.support.visitor import Visitor

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    """The time of the module, which a test moves."""
    now = [1000.0]
    monkeypatch.setattr(redis.time, "monotonic", lambda: now[0])
    return now


@contextmanager
def deaf() -> Iterator[tuple[str, list[socket.socket]]]:
    """Accept connections and never answer. Yields the address, and the connections so far."""
    taken: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            try:
                while True:
                    taken.append(listener.accept()[0])
            except OSError:
                return

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0", taken
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            for each in taken:
                each.close()


def test_without_redis_a_process_counts_alone():
    alone = SharedRedis("")
    assert [alone.count("a", 60) for _ in range(3)] == [1, 2, 3]
    assert alone.count("b", 60) == 1


def test_redis_that_does_not_answer_is_asked_once_in_a_while(clock):
    with deaf() as (url, connections):
        away = SharedRedis(url)
        assert [away.count("a", 60) for _ in range(50)] == list(range(1, 51))
        asked = len(connections)
        assert 1 <= asked <= 2  # the client may try a new connection
        clock[0] += redis.PAUSE + 1
        with ThreadPoolExecutor(8) as threads:
            assert sorted(threads.map(lambda _: away.count("a", 60), range(8))) == list(range(51, 59))
        assert len(connections) == 2 * asked  # one of the eight tried


@pytest.mark.real
def test_processes_count_together_while_redis_answers(clock):
    with RedisServer("counts") as server:
        first, second = SharedRedis(server.url), SharedRedis(server.url)
        with ThreadPoolExecutor(8) as threads:
            counted = threads.map(lambda number: (first, second)[number % 2].count("a", 60), range(100))
            assert sorted(counted) == list(range(1, 101))
        with closing(first._client) as client:
            assert 0 < client.ttl("a") <= 60
        server.stop()
        assert [first.count("a", 60) for _ in range(3)] == [1, 2, 3]  # alone, and limited
        server.start()
        assert first.count("a", 60) == 4  # Redis is not asked yet
        clock[0] += redis.PAUSE + 1
        assert [first.count("a", 60), second.count("a", 60)] == [1, 2]  # this Redis has forgotten the former number


@pytest.mark.real
@pytest.mark.sqlite_only
def test_two_servers_share_the_limit_of_password_links():
    def ask(server: LiveServer) -> int:
        return Visitor(server).send("/password/forgotten", email="member@acme.test")[0]

    with RedisServer("links") as broker:
        settings = {"KCR_REDIS_URL": broker.url, "KCR_WEB_WORKERS": "1"}
        with LiveServer("first", settings) as first, LiveServer("second", settings) as second:
            half = LINKS_ALLOWED // 2
            assert {ask(server) for server in (first, second) for _ in range(half)} == {200}
            assert [ask(first), ask(second)] == [429, 429]
            broker.stop()
            answers = [ask(first) for _ in range(LINKS_ALLOWED + 1)]
            assert answers == [200] * LINKS_ALLOWED + [429]  # not refused, and not without limit
            first.people()
            assert first.api().push_blob(b"layer") == 201
            assert first.api().push_manifest("1.0", b"layer") == 201
            assert first.api().ask("GET", "manifests/1.0")[0] == 200
            first.visitor("admin@acme.test")  # signs in
