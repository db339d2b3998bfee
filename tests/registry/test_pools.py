"""Pools of PostgreSQL connections: large enough for the threads of a process, and no larger than documented."""

from __future__ import annotations

import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING
from unittest.mock import Mock

import psycopg
import pytest
from celery.signals import worker_init
from django.db import DEFAULT_DB_ALIAS, connections

import registry.celery  # noqa: F401  connects the signal
from registry import pools
from registry.database import transactions
from registry.database.postgresql import base
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


# ── Kept and rested connections ──────────────────────────────────────────────────────────────────────────────────────
class Kept:
    """A database connection of a thread, which counts how often it was given back."""

    def __init__(self) -> None:
        self.errors_occurred = self.in_atomic_block = False
        self.kept_at, self.given_back = 0.0, 0

    def close_if_unusable_or_obsolete(self) -> None:
        self.given_back += 1


@pytest.fixture
def kept(monkeypatch):
    database = Kept()
    monkeypatch.setattr(transactions, "connections", {DEFAULT_DB_ALIAS: database})
    monkeypatch.setattr(transactions, "_has_pool", lambda: True)
    monkeypatch.setattr(transactions, "leads", lambda: True)
    return database


def test_leader_keeps_its_connection_for_the_next_request(kept):
    transactions.keep_connection()
    transactions.renew_connection()
    assert kept.given_back == 0


def test_kept_connection_is_given_back_before_a_late_request(kept, monkeypatch):
    transactions.keep_connection()
    monkeypatch.setattr(transactions, "KEPT_SECONDS", -1.0)
    transactions.renew_connection()
    assert kept.given_back == 1


@pytest.mark.parametrize("reason", ["a follower", "an error"])
def test_connection_is_given_back_at_the_end_of_a_request(kept, monkeypatch, reason):
    kept.errors_occurred = reason == "an error"
    monkeypatch.setattr(transactions, "leads", lambda: reason != "a follower")
    transactions.keep_connection()
    assert kept.given_back == 1


@pytest.mark.parametrize(("rested", "asked"), [(0.0, 0), (60.0, 1)])
def test_connection_that_rested_is_asked_whether_it_works(monkeypatch, rested, asked):
    questions = []
    monkeypatch.setattr(base.ConnectionPool, "check_connection", questions.append)
    made = object.__new__(base.Connection)
    made.rests_since = time.monotonic() - rested
    monkeypatch.setattr(base.Connection, "closed", False)
    assert made.works()
    assert len(questions) == asked


def test_connection_that_was_closed_a_moment_ago_does_not_work(monkeypatch):
    made = object.__new__(base.Connection)
    made.rests_since = time.monotonic()
    monkeypatch.setattr(base.Connection, "closed", True)
    assert not made.works()


def test_connection_that_does_not_work_is_closed(monkeypatch):
    def fail(_connection):
        raise psycopg.OperationalError("terminated")

    close = Mock()
    monkeypatch.setattr(base.ConnectionPool, "check_connection", fail)
    monkeypatch.setattr(base.Connection, "close", close)
    assert not object.__new__(base.Connection).works()
    close.assert_called_once_with()
