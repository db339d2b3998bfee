"""The broker of KCR_REDIS_URL: kombu's Redis transport with a worker that survives the loss of its connection.

kombu closes a lost connection twice. The second time, the transport knows no address, and kombu's attempt to return
the messages of unfinished tasks ends the worker. This transport leaves them in Redis: kombu returns them to the queue
an hour after they were taken (its visibility timeout), and sweeps find work that is due before that.
"""

from __future__ import annotations

from typing import Any

from kombu.transport import redis


class QoS(redis.QoS):
    """The messages that a worker has taken and not acknowledged."""

    def restore_unacked(self, client: Any = None) -> None:
        """Return them to their queues, unless the connection is closed."""
        if self.channel.connection.client is not None:
            super().restore_unacked(client)


class Channel(redis.Channel):
    """kombu's Channel with QoS."""

    QoS = QoS


class Transport(redis.Transport):
    """kombu's Redis transport with Channel."""

    Channel = Channel
