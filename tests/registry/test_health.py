"""Readiness: the database decides it. Storage and broker, which all servers share, are only reported."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from django.db import OperationalError

from registry import health
from registry.storage import Full, Unanswered

STATES = {"database": "ok", "storage": "ok", "broker": "ok"}


def ready(client) -> tuple[int, dict[str, str]]:
    answer = client.get("/readyz")
    return answer.status_code, answer.json()


@pytest.fixture
def use(monkeypatch):
    """Ask this function in place of the storage."""
    return lambda check: monkeypatch.setattr(health, "blob_storage", lambda: SimpleNamespace(check=check))


@pytest.mark.parametrize("error", [Unanswered("S3 is silent"), Full("1 byte is left"), OSError("no disk")])
def test_servers_without_a_storage_stay_ready(db, client, use, error):
    assert ready(client) == (200, {"status": "ok", **STATES})

    def fail():
        raise error

    use(fail)
    assert ready(client) == (200, {"status": "ok", **STATES, "storage": "unavailable"})


def test_storage_that_does_not_answer_is_waited_for_by_one_thread(db, client, use, monkeypatch):
    asked, answer = [], threading.Event()
    health._asking.submit(answer.wait, 60)
    use(lambda: asked.append("storage"))
    monkeypatch.setattr(health, "STORAGE_SECONDS", 0.01)
    assert [ready(client) for _ in range(3)] == [(200, {"status": "ok", **STATES, "storage": "unavailable"})] * 3
    answer.set()
    monkeypatch.setattr(health, "STORAGE_SECONDS", 60)
    assert ready(client) == (200, {"status": "ok", **STATES})
    assert asked == ["storage"], "questions that were given up are not asked later"


def test_server_without_a_database_is_not_ready(db, client, monkeypatch):
    def fail():
        raise OperationalError

    monkeypatch.setitem(health._PROBES, "database", fail)
    assert ready(client) == (503, {"status": "unavailable", **STATES, "database": "unavailable"})
