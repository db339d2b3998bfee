"""The clock of the machine is set forward or back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from registry.celery import Scheduler, app

JUMPS = [timedelta(days=1), timedelta(hours=1), timedelta(hours=-1), timedelta(days=-1)]


class Clock:
    """The time of the scheduler."""

    def __init__(self) -> None:
        self.now = datetime(2027, 3, 3, 12, 0, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(app, "now", lambda: made.now)
    return made


@pytest.mark.parametrize("jump", JUMPS, ids=str)
def test_scheduler_goes_on_after_the_clock_was_set(clock, tmp_path, monkeypatch, jump):
    scheduler = Scheduler(app=app, schedule_filename=str(tmp_path / "beat"))
    sent: list[str] = []
    monkeypatch.setattr(scheduler, "apply_async", lambda entry, **options: sent.append(entry.name))

    def run(seconds: float) -> set[str]:
        """Let time pass. Return the names of the tasks that were sent."""
        sent.clear()
        end = clock.now + timedelta(seconds=seconds)
        while clock.now < end:
            clock.now += timedelta(seconds=max(scheduler.tick(), 0.1))
        return set(sent)

    often = {name for name, entry in app.conf.beat_schedule.items() if isinstance(entry["schedule"], float)}
    assert run(700) >= often
    clock.now += jump
    assert run(700) >= often
    scheduler.close()
