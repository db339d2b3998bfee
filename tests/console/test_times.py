"""Relative times in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from console.templatetags.times import ago, near

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("distance", "words"),
    [
        (timedelta(seconds=59), "just now"),
        (timedelta(seconds=119), "1 min ago"),
        (timedelta(minutes=59, seconds=59), "59 min ago"),
        (timedelta(hours=23, minutes=59), "23 h ago"),
        (timedelta(days=2, hours=17), "2 d ago"),
        (timedelta(days=6, hours=23), "6 d ago"),
        (timedelta(days=7), "20 Nov 2026"),
        (timedelta(days=400), "23 Oct 2025"),
        (-timedelta(seconds=30), "in a moment"),
        (-timedelta(days=2, hours=17), "in 2 d"),
        (-timedelta(days=14), "11 Dec 2026"),
    ],
)
def test_distances_are_whole_units_and_dates_after_a_week(monkeypatch, distance, words):
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    drawn = ago(NOW - distance)
    assert f">{words}</time>" in drawn
    assert f'datetime="{(NOW - distance).isoformat()}"' in drawn


@pytest.mark.parametrize(("distance", "is_said"), [(timedelta(days=6, hours=23), True), (timedelta(days=7), False)])
def test_distance_is_left_out_when_it_is_a_date(monkeypatch, distance, is_said):
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    for moment in (NOW - distance, NOW + distance):
        assert near(moment) == (ago(moment) if is_said else "")
