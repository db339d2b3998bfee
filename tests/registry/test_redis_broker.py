"""The Redis broker: a worker that loses its connection during a task closes it, and the message stays in Redis."""

from __future__ import annotations

from queue import Empty

import pytest
import redis
from kombu import Connection

from registry import broker
from tests.support.fault_proxy import FaultProxy
from tests.support.programs import RedisServer

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]


@pytest.fixture(scope="module")
def server():
    with RedisServer() as running:
        yield running


def test_connection_that_is_lost_during_a_task_can_be_closed(server):
    with FaultProxy(server.port) as proxy:
        connection = Connection(broker.register(f"redis://127.0.0.1:{proxy.port}/0"))
        queue = connection.SimpleQueue("celery")
        queue.put({"number": 1})
        assert queue.get(timeout=5).payload == {"number": 1}  # not acknowledged
        events = connection.SimpleQueue("events", channel=connection.channel())
        with pytest.raises(Empty):
            events.get(timeout=0.5)  # both channels wait for messages, as those of a worker do
        proxy.refuse()
        connection.collect(socket_timeout=1)  # as celery.worker.consumer does
        connection.close()
        with redis.Redis(port=server.port) as client:
            assert client.hlen("unacked") == 1
