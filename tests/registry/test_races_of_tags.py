"""Tags changed from many sides at once, in a process of its own on real databases: each change happens once."""

from __future__ import annotations

import pytest

from tests.support.integrity import assert_integrity
from tests.support.programs import PostgresServer
from tests.support.server import LiveServer

pytestmark = pytest.mark.real

BEGINNING = """
import json, threading
from concurrent.futures import ThreadPoolExecutor
from django.db import connection
from accounts.actors import SYSTEM
from registry import cleanup, errors, manifests, repositories
from registry.cleanup import policies
from registry.models import *
from registry.oci.names import ImageName

web, name = repositories.find("demo/web"), ImageName("demo", "web", "app")
digests = list(Manifest.objects.filter(image__path=str(name)).order_by("pk").values_list("digest", flat=True))

def at_once(count, act):
    gate = threading.Barrier(count)
    def run(number):
        gate.wait()
        try:
            return act(number)
        except errors.RegistryError as error:
            return type(error).__name__
        finally:
            connection.close()
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))

def point(tag, digest, seen):
    return manifests.point_tag(SYSTEM, web, name, tag, digest, seen=seen)
"""


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def server(request):
    if request.param == "sqlite":
        with LiveServer("tags") as running:
            yield filled(running.people())
        return
    with PostgresServer() as database, LiveServer("tags", {"KCR_DATABASE_URL": database.url}) as running:
        yield filled(running.people())


def filled(server):
    """demo/web/app: eight digests under t0 to t7."""
    api = server.api()
    assert api.push_blob(b"{}") == 201
    for number in range(8):
        data = str(number).encode()
        assert api.push_blob(data) == 201
        assert api.push_manifest(f"t{number}", b"{}", data) == 201
    return server


def told(server, code):
    """What the code prints, run with BEGINNING in a process beside the server."""
    found = server.manage("shell", "-v0", "-c", BEGINNING + code)
    if (server.data / "kcr.sqlite3").exists():
        assert_integrity(server.data)
    return found


def test_one_of_several_simultaneous_moves_of_a_tag_succeeds(server):
    found = told(
        server,
        """
point("race", digests[0], "")
answers = at_once(7, lambda number: point("race", digests[number + 1], digests[0]))
meanings = list(Tag.objects.filter(name="race").order_by("pk").values_list("manifest__digest", "ended_at"))
print(json.dumps([answers, len(meanings), meanings[0][1] is not None, meanings[-1][1] is None]))
""",
    )
    answers, meanings, *ends = found
    assert sorted(map(str, answers)) == ["Changed"] * 6 + ["True"]
    assert (meanings, ends) == (2, [True, True])


def test_workers_of_one_run_delete_each_tag_once(server):
    """Four at once, while somebody moves one of the tags. One that comes when the run is done begins another run."""
    found = told(
        server,
        """
for number in range(120):
    point(f"old-{number:03}", digests[number % 8], "")
policy = policies.set_policy(SYSTEM, web, keep_last=1, keep_patterns=["t*", "race"], most_percent=100)
def act(number):
    return cleanup.run(policy.pk).pk if number else point("old-060", digests[0], digests[4])
moved, *runs = at_once(5, act)
deleted = CleanupLine.objects.filter(outcome="deleted").values_list("tag_version", flat=True)
print(json.dumps({
    "moved": moved,
    "runs": sorted(set(runs)) == sorted(CleanupRun.objects.values_list("pk", flat=True)),
    "states": sorted(set(CleanupRun.objects.values_list("state", flat=True))),
    "counted": sum(CleanupRun.objects.values_list("deleted", flat=True)),
    "lines": len(deleted), "meanings": len(set(deleted)),
    "events": Event.objects.filter(action="tag.delete").count(),
    "live": sorted(Tag.objects.live().filter(name__startswith="old-").values_list("name", flat=True)),
}))
""",
    )
    assert found["runs"]
    assert found["states"] == ["done"]
    assert found["counted"] == found["lines"] == found["meanings"] == found["events"]
    # The tag that was moved is the newest then, or was deleted before and seen to be gone.
    assert found["moved"] in {True, "Changed"}
    assert 1 <= len(found["live"]) <= 2
    assert set(found["live"]) <= {"old-119", "old-060"}
    assert found["counted"] + len(found["live"]) == 120
