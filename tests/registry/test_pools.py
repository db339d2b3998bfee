"""Pools of PostgreSQL connections: large enough for the threads of a process, and no larger than documented."""

from __future__ import annotations

import http.client
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest
from celery.signals import worker_init
from django.db import connections

import registry.celery  # noqa: F401  connects the signal
from registry import pools
from tests.support.programs import PostgresServer
from tests.support.server import LiveServer

if TYPE_CHECKING:
    from collections.abc import Iterator

THREADS = 64


@pytest.mark.parametrize(("threads", "connections"), [(1, 1), (16, 16), (33, 32), (256, 32), (512, 64)])
def test_size_of_a_pool(threads, connections):
    assert pools.size(threads) == connections


def test_worker_has_a_connection_for_each_thread(monkeypatch):
    pool = {"max_size": pools.SMALL}
    monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "pool", pool)
    worker_init.send(sender=Mock(concurrency=9))
    assert pool["max_size"] == 9


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    with PostgresServer("pools") as running:
        yield running


@pytest.fixture(scope="module")
def server(database) -> Iterator[LiveServer]:
    settings = {"KCR_DATABASE_URL": database.url, "KCR_WEB_WORKERS": "1", "KCR_WEB_THREADS": str(THREADS)}
    with LiveServer("pools", settings) as running:
        running.people()
        assert running.api().push_blob(b"layer") == 201
        assert running.api().push_manifest("1.0", b"layer") == 201
        yield running


@pytest.mark.real
@pytest.mark.sqlite_only
def test_all_threads_at_once_get_a_connection_in_time(server, database):
    """Each client has an address of its own, or the requests of one network would take turns."""
    headers = server.api().headers
    reads = [("GET", path) for path in ("manifests/1.0", "tags/list")] * 4

    def work(number: int) -> set[int]:
        found, address = set(), (f"127.0.1.{number + 1}", 0)
        for method, path in [*reads, ("POST", "blobs/uploads/"), *reads]:
            with closing(http.client.HTTPConnection("127.0.0.1", server.port, 60, source_address=address)) as client:
                client.request(method, f"/v2/demo/web/app/{path}", None, headers)
                answer = client.getresponse()
                answer.read()
                found.add(answer.status)
        return found

    with ThreadPoolExecutor(THREADS) as threads:
        answers = set().union(*threads.map(work, range(THREADS)))
    assert answers == {200, 202}
    assert 0 < database.count_connections() <= pools.size(THREADS)


@pytest.mark.real
@pytest.mark.sqlite_only
def test_server_says_that_postgresql_has_too_few_connections(server):
    assert "max_connections" not in server.said()
    server.restart(KCR_WEB_THREADS="1600")
    assert (
        "PostgreSQL gives users 197 connections, and the web server may want 200 (1 processes with 200 each)"
        in server.said()
    )
