"""Concurrent changes of tags in one process, on real databases: each change happens once."""

from __future__ import annotations

import pytest

from tests.support.integrity import assert_integrity
from tests.support.programs import PostgresServer
from tests.support.server import LiveServer

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request):
    if request.param == "sqlite":
        with LiveServer("tags") as running:
            yield filled(running.people())
        return
    with PostgresServer() as database, LiveServer("tags", {"KCR_DATABASE_URL": database.url}) as running:
        yield filled(running.people())


def filled(server):
    """Push eight digests to demo/web/app as t0 to t7."""
    api = server.api()
    assert api.push_blob(b"{}") == 201
    for number in range(8):
        data = str(number).encode()
        assert api.push_blob(data) == 201
        assert api.push_manifest(f"t{number}", b"{}", data) == 201
    return server


def worked(server, function):
    """Call a function of tests.workers.tags. Return its result."""
    found = server.work("tags", function)
    if (server.data / "kcr.sqlite3").exists():
        assert_integrity(server.data)
    return found


def test_one_of_several_simultaneous_moves_of_a_tag_succeeds(server):
    found = worked(server, "move_in_seven_threads")
    assert sorted(map(str, found["answers"])) == ["Changed"] * 6 + ["True"]
    assert found["live"] == [False, True]


def test_one_of_several_simultaneous_pushes_of_a_write_once_tag_succeeds(server):
    """And after a deletion of the tag only the digest that was first."""
    found = worked(server, "push_a_write_once_tag_in_seven_threads")
    (first,) = (answer for answer in found["answers"] if answer != "Denied")
    assert sorted(found["answers"]) == ["Denied"] * 6 + [first]
    assert sorted(found["again"]) == ["Denied"] * 6 + [first]
    assert found["named"] == [first]


def test_workers_of_one_run_delete_each_tag_once(server):
    """Four workers run the policy while another user moves a tag. A worker that finds the run done begins another run."""
    found = worked(server, "run_policy_in_four_threads")
    assert found["ran"] == found["runs"]
    assert found["states"] == ["done"]
    assert found["counted"] == found["lines"] == found["intervals"] == found["events"]
    # The moved tag is the newest now, or was deleted before the move.
    assert found["moved"] in {True, "Changed"}
    assert 1 <= len(found["live"]) <= 2
    assert set(found["live"]) <= {"old-119", "old-060"}
    assert found["counted"] + len(found["live"]) == 120
