"""Several workers at once: no notification is lost or reported twice, and no message is sent twice."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.support.programs import PostgresServer
from tests.support.server import Server

pytestmark = [pytest.mark.real, pytest.mark.sqlite_only]


class Installation(Server):
    """An installation without a running server."""

    def start(self) -> None:
        """Create the tables."""
        self.migrate()


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_four_workers_send_each_message_once(receiver, database):
    with ExitStack() as stack:
        settings = {"KCR_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
        if database == "postgresql":
            settings["KCR_DATABASE_URL"] = stack.enter_context(PostgresServer()).url
        installation = stack.enter_context(Installation("notices", settings))
        found = installation.work("notifications", "deliver_in_four_threads", receiver.url)
    assert found["notifications"] == 24  # twelve images for two subscriptions
    assert found["images"] == 24
    assert found["pending"] == 0
    assert found["hooks"] >= 1
    assert found["sent"] == found["attempts"] == found["hooks"] == len(receiver.requests)
    numbers = [headers["X-KCR-Delivery"] for _path, headers, _body in receiver.requests]
    assert len(set(numbers)) == len(numbers)
