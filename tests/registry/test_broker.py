"""The file broker: no reader sees a partial message, and an unreadable message stops no worker."""

from __future__ import annotations

import fcntl
import json
import logging
import threading
import time
from queue import Empty

import pytest
from kombu import Connection, Queue
from kombu.exceptions import OperationalError
from kombu.transport.virtual import BrokerState

from registry import broker
from tests.support.threads import Overtaking


@pytest.fixture
def folders(tmp_path):
    names = ("messages", "processed", "control")
    for name in names:
        (tmp_path / name).mkdir()
    return {name: tmp_path / name for name in names}


@pytest.fixture
def connect(folders, monkeypatch):
    """Open connections to a separate broker."""
    monkeypatch.setattr(broker.Transport, "global_state", BrokerState())  # the queues that this process has declared
    options = {
        "data_folder_in": str(folders["messages"]),
        "data_folder_out": str(folders["messages"]),
        "processed_folder": str(folders["processed"]),
        "control_folder": str(folders["control"]),
    }
    opened = []

    def make():
        opened.append(Connection(broker.register(), transport_options=options))
        return opened[-1]

    yield make
    for connection in opened:
        connection.release()


def test_messages_arrive_in_order_and_leave_no_file(connect, folders):
    with connect().SimpleQueue("scans") as queue:
        for number in range(3):
            queue.put({"number": number})
        assert [queue.get(timeout=5).payload["number"] for _ in range(3)] == [0, 1, 2]
        with pytest.raises(Empty):
            queue.get(block=False)
    assert not list(folders["messages"].iterdir())
    assert not list(folders["processed"].iterdir())


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"body": '])
def test_broken_message_is_moved_aside_and_the_next_one_arrives(connect, folders, caplog, content):
    (folders["messages"] / "00000000000_broken.scans.msg").write_bytes(content)
    with connect().SimpleQueue("scans") as queue, caplog.at_level(logging.ERROR):
        queue.put({"number": 1})
        assert queue.get(timeout=5).payload == {"number": 1}
    assert "0000000_broken.scans.msg cannot be read and was put aside" in caplog.text
    assert [path.name for path in folders["processed"].iterdir()] == ["00000000000_broken.scans.msg.broken"]


@pytest.mark.parametrize("content", [b"", b"[["])
def test_broken_table_is_rewritten(connect, folders, content):
    (folders["control"] / "scans.exchange").write_bytes(content)
    with connect() as connection:
        channel = connection.channel()
        Queue("scans", exchange="scans", routing_key="scans", channel=channel)
        with connection.SimpleQueue("scans") as queue:
            queue.put({"number": 1})
            assert queue.get(timeout=5).payload == {"number": 1}
    assert json.loads((folders["control"] / "scans.exchange").read_bytes())


def test_message_published_while_another_thread_binds_the_queue_arrives(connect, monkeypatch):
    binding, write = threading.Event(), broker.Channel._queue_bind

    def write_late(*arguments):
        binding.set()
        time.sleep(0.2)  # the second thread reads the table within this time, unless it waits
        write(*arguments)

    def put(name):
        with connect().SimpleQueue("scans") as queue:
            queue.put(name)

    monkeypatch.setattr(broker.Channel, "_queue_bind", write_late)
    first = threading.Thread(target=put, args=("first",))
    first.start()
    assert binding.wait(5)
    put("second")
    first.join()
    with connect().SimpleQueue("scans") as queue:
        assert {queue.get(timeout=5).payload for _ in range(2)} == {"first", "second"}


def test_two_processes_that_bind_queues_at_once_lose_none(connect, monkeypatch):
    """Each channel opens the file of the lock itself, as another process does."""
    overtaking, write, flock = Overtaking(), broker._write, fcntl.flock

    def lock(file, operation):
        if overtaking.paused.is_set():
            overtaking.go_on.set()
        flock(file, operation)

    def write_late(*arguments):
        overtaking.pause()
        write(*arguments)

    monkeypatch.setattr(broker.fcntl, "flock", lock)
    monkeypatch.setattr(broker, "_write", write_late)
    one, other = (connect().channel() for _ in range(2))
    overtaking.run(
        lambda: one._queue_bind("scans", "scans", "", "one"), lambda: other._queue_bind("scans", "scans", "", "other")
    )
    assert {row.queue for row in one.get_table("scans")} == {"one", "other"}


def test_concurrent_readers_never_read_partial_messages(connect, folders, caplog):
    found, writers, big = [], 3, "x" * 200_000

    def write():
        with connect().SimpleQueue("scans") as queue:
            for _ in range(30):
                queue.put({"text": big})

    threads = [threading.Thread(target=write) for _ in range(writers)]
    for thread in threads:
        thread.start()
    with connect().SimpleQueue("scans") as queue:
        while len(found) < 30 * writers:
            found.append(queue.get(timeout=20).payload["text"])
    for thread in threads:
        thread.join()
    assert set(found) == {big}
    assert "cannot be read" not in caplog.text
    assert not [path for path in folders["messages"].iterdir() if path.name.startswith(".")]


def test_queue_has_a_limit(connect, monkeypatch):
    monkeypatch.setattr(broker, "MAX_WAITING", 2)
    with connect().SimpleQueue("scans") as queue:
        queue.put(1)
        queue.put(2)
        with pytest.raises(OperationalError):
            queue.put(3)
        assert queue.get(timeout=5).payload == 1
        queue.put(3)


@pytest.mark.django_db
def test_full_queue_is_reported_without_an_error_page(monkeypatch, client):
    from accounts import tasks
    from registry.celery import app

    assert app.conf.broker_url.startswith("files://")
    monkeypatch.setattr(broker, "MAX_WAITING", 0)
    assert not tasks.request_password_link("member@acme.test")
