"""A race of pushers, pullers, deleters, restorers, purgers, collectors and reapers on the real code; some are killed.

The clock runs fast: leases, recovery and delays last a second or less, so that what takes weeks happens here
all the time. An observer checks the invariants all the time: a push inside its lease can name its
blobs, each manifest has its references, each blob its bytes. ``KCR_TEST_RACE_SECONDS`` says how long; the controls
break the rules on purpose, and the race must find damage.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest

from tests.race.controls import CONTROLS
from tests.support.programs import PostgresServer, environment_for, run
from tests.support.s3 import CREDENTIALS, SeaweedFS
from tests.support.server import SOURCE

pytestmark = [pytest.mark.real, pytest.mark.alone]

SECONDS = float(os.environ.get("KCR_TEST_RACE_SECONDS", "12"))
ROUND = 30.0
WORKERS = (
    *("pusher", "pusher", "pusher", "puller", "deleter", "restorer", "purger"),
    *("collector", "collector", "reaper", "observer"),
)


@dataclass
class Race:
    """A separate database and storage, and processes that work on it. ``done``: the number of deeds by worker."""

    environment: dict[str, str]
    seconds: float
    done: dict[str, int] = field(default_factory=dict)

    @classmethod
    def begin(cls, folder, seconds: float = SECONDS / 2, **settings: str) -> Race:
        """Create the installation of the race. ``seconds``: of one round."""
        paths = {"KCR_DATA_DIR": str(folder / "data"), "RACE_FOUND": str(folder / "found"), "RACE_CONTROL": ""}
        paths["DJANGO_SETTINGS_MODULE"] = "registry.settings"
        race = cls(environment_for(folder, PYTHONWARNINGS="ignore", **paths, **settings), seconds)
        run([sys.executable, "manage.py", "migrate"], environment=race.environment, directory=SOURCE, timeout=600)
        run(race.command("world"), environment=race.environment, directory=SOURCE)
        return race

    def command(self, module: str) -> list[str]:
        """Return the command line of a module of tests.race."""
        return [sys.executable, "-m", f"tests.race.{module}"]

    def findings(self) -> list[str]:
        """Return the problems of the installation while no worker runs."""
        found: list[str] = run(self.command("findings"), environment=self.environment, directory=SOURCE).json()
        return found

    def start(self, worker: str, seconds: float, control: str) -> subprocess.Popen[str]:
        """Start one worker, which waits for a line on its input."""
        command = self.command(worker)
        environment = self.environment | {"RACE_SECONDS": str(seconds), "RACE_CONTROL": control}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=environment, cwd=SOURCE, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def round(self, seconds: float, control: str = "", *, kill: bool = True) -> list[str]:
        """Run all workers at once and kill some of them. Return the problems found during the race and at its end."""
        working = [(name, self.start(name, seconds, control)) for name in WORKERS]
        victims = random.sample([process for _, process in working], 2 if kill else 0)
        try:
            for name, process in working:
                assert process.stdout.readline() == "ready\n", f"{name}: {process.stderr.read()[-2000:]}"
            for _, process in working:
                process.stdin.write("go\n")
                process.stdin.flush()
            for victim in victims:
                time.sleep(random.uniform(0, seconds / 2))
                victim.send_signal(signal.SIGKILL)
            wrong = [
                said for name, process in working for said in self.said(name, process, seconds, process in victims)
            ]
        finally:
            for _, process in working:  # with open pipes, a test that fails would make the next one fail too
                process.kill()
                process.communicate()
        return wrong + self.findings()

    def said(self, name: str, process: subprocess.Popen[str], seconds: float, was_killed: bool) -> list[str]:
        """Return the problems that an ended worker found."""
        output, errors = process.communicate(timeout=seconds + 120)
        if was_killed:
            return []
        assert process.returncode == 0, f"{name}: {errors[-2000:]}"
        told = json.loads(output.strip().splitlines()[-1])
        self.done[name] = self.done.get(name, 0) + told["done"]
        return [f"{name}: {each}" for each in told["wrong"]]


@pytest.fixture
def race(request, tmp_path):
    """A race on either database, with files or S3."""
    if request.param == "sqlite":
        yield Race.begin(tmp_path)
        return
    with PostgresServer() as server:
        if request.param == "postgresql":
            yield Race.begin(tmp_path, KCR_DATABASE_URL=server.url)
            return
        with SeaweedFS() as s3:
            # S3 answers more slowly than a disk. In a short round the workers would do little after their start.
            there = {"KCR_DATABASE_URL": server.url, "KCR_STORAGE_URL": s3.url("race"), **CREDENTIALS}
            yield Race.begin(tmp_path, SECONDS, **there)


PLACES = ("sqlite", "postgresql", "postgresql-s3")


@pytest.mark.parametrize("race", PLACES, indirect=True)
@pytest.mark.timeout(900 + 3 * SECONDS)  # eleven processes start for minutes on a crowded machine
def test_race_of_all_workers_loses_nothing(race):
    """Race for the requested time and until each worker has acted enough. A loaded machine needs more rounds."""
    left = SECONDS
    while left > 0 or min(race.done.get(who, 0) for who in ("pusher", "collector")) <= 20:
        assert race.round(min(ROUND, race.seconds)) == []
        left -= ROUND
    print(race.done)


# The damage that a control must cause; an error is not enough.
DAMAGE = ("missing sha256:", "has lost a reference", "a layer of a live manifest", "a push inside its lease")


# The second control is about rows. S3 does not change it.
BROKEN = [
    (place, rule) for place in PLACES for rule in CONTROLS if (place, rule) != (PLACES[-1], "look before the lock")
]


@pytest.mark.parametrize(("race", "control"), BROKEN, indirect=["race"])
def test_race_with_a_broken_rule_finds_damage(race, control):
    """Control: with a broken rule the race finds damage within half a minute."""
    found = race.round(30.0, control, kill=False)
    others = [each for each in found if not any(damage in each for damage in DAMAGE)]
    assert len(others) < len(found), "it was not caught"
    assert [each for each in others if "orphan blobs/xx/" not in each] == []  # a reused key sometimes belongs to no row
