"""Probes of the connection doctor about scanning."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from registry.doctor.results import Ended
from scanning import doctor
from scanning.models import DatabaseRefresh

pytestmark = pytest.mark.django_db


def verdict(**values):
    """The verdict on a database whose last refresh has these values; without values there was none."""
    if values:
        DatabaseRefresh.objects.create(source="a mirror", **values)
    with pytest.raises(Ended) as raised:
        doctor.vulnerability_database(None)
    return raised.value


def test_a_database_of_today_is_good():
    assert str(verdict(updated_at=timezone.now() - timedelta(hours=5)).seen) == "built 5 hours ago"


@pytest.mark.parametrize(
    ("refreshes", "said"),
    [
        ({}, "there is no vulnerability database"),
        ({"problem": "the mirror refused"}, "there is no vulnerability database: the mirror refused"),
    ],
)
def test_a_database_that_was_never_fetched(refreshes, said):
    found = verdict(**refreshes)
    assert (found.state, str(found.seen)) == ("failure", said)


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        ("", "the vulnerability database is 30 days old"),
        ("no route", "the vulnerability database is 30 days old; the last attempt to renew it: no route"),
    ],
)
def test_an_old_database(problem, said):
    found = verdict(updated_at=timezone.now() - timedelta(days=30, hours=1), problem=problem)
    assert (found.state, str(found.seen)) == ("warning", said)
