"""Crowds: hundreds of clients of one address do not slow other clients."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.crowds import CROWDS, CrowdedServer
from tests.support.images import sha256
from tests.support.nginx import behind_nginx

pytestmark = [pytest.mark.real, pytest.mark.alone, pytest.mark.sqlite_only]

PROBES = 10


@pytest.fixture(scope="module", params=["embedded", "nginx"])
def server(request):
    plain = CrowdedServer(f"crowded-{request.param}")
    with plain if request.param == "embedded" else behind_nginx(plain) as running:
        yield running.people()


@pytest.mark.parametrize("name", CROWDS)
def test_crowd_does_not_slow_other_clients(server, name):
    api, data, workers = server.api(), os.urandom(64 * 1024 * 1024), children(server)
    with CROWDS[name].around(server):
        waits = []
        for _ in range(PROBES):
            began = time.monotonic()
            assert api.ask("GET", "/v2/")[0] == 200
            waits.append(time.monotonic() - began)
            time.sleep(0.2)
        assert sorted(waits)[PROBES // 2] < 1, waits
        assert api.push_blob(data) == 201
        assert api.ask("GET", f"blobs/{sha256(data)}")[2] == data
    assert children(server) == workers, "the arbiter has replaced a worker"
    assert api.ask("DELETE", f"blobs/{sha256(data)}")[0] == 202


def children(server) -> list[str]:
    """Return the process ids of the server's workers."""
    task = f"/proc/{server.process.pid}/task/{server.process.pid}/children"
    return Path(task).read_text().split()
