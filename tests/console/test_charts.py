"""Charts: axes with few round ticks, areas without gaps, and a line of text when there is no data."""

from __future__ import annotations

import re
from datetime import date, timedelta
from types import SimpleNamespace

from django.template.loader import render_to_string
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from console.templatetags.charts import days_chart, scale, size_chart
from console.templatetags.scans import severity_chart
from registry.models import Image, ProjectDay
from tests.support.pages import see

TODAY = date(2026, 11, 27)


def of_days(*numbers: object) -> list:
    return [(TODAY - timedelta(days=len(numbers) - 1 - index), number) for index, number in enumerate(numbers)]


def severities(**numbers: int) -> SimpleNamespace:
    return SimpleNamespace(**{"critical": 0, "high": 0, "medium": 0, "low": 0, "unknown": 0} | numbers)


@given(st.integers(min_value=1, max_value=10**15))
def test_axis_has_two_or_three_round_ticks_near_the_maximum(highest):
    axis = scale(highest, 100)
    numbers = [number for _y, number in axis.ticks]
    step = numbers[1]
    assert numbers == [step * index for index in range(len(numbers))]
    assert len(numbers) in {2, 3}
    assert numbers[-1] <= highest
    assert re.fullmatch(r"(1|2|25|5)0*", str(step))
    assert axis.top <= 1.25 * highest
    assert axis.y(0) == 100
    assert 0 <= axis.y(highest) < 10


def test_ticks_of_known_maxima():
    for highest, expected in {
        22: [0, 10, 20],
        283: [0, 100, 200],
        1: [0, 1],
        4: [0, 2, 4],
        2400: [0, 1000, 2000],
    }.items():
        assert [number for _y, number in scale(highest, 100).ticks] == expected


def test_columns_have_their_numbers_and_mark_today():
    drawn = render_to_string("console/parts/_days.html", days_chart(of_days(0, 1200, 7), "Pulls by day"))
    assert 'aria-label="Pulls by day: 1,207 in all"' in drawn
    assert "<title>26 Nov 2026: 1,200</title>" in drawn
    assert drawn.count('class="c1"') == 2
    (today,) = re.findall(r'<g class="today">.*?</g>', drawn, re.DOTALL)
    assert "<title>27 Nov 2026: 7</title>" in today


def test_bytes_have_round_ticks_too():
    drawn = render_to_string("console/parts/_days.html", size_chart(of_days(283_000_000), "Bytes by day"))
    assert re.findall(r'class="tick".*?>(.*?)</text>', drawn) == ["0", "100 MB", "200 MB"]
    assert "<title>27 Nov 2026: 283 MB</title>" in drawn


def test_empty_chart_is_one_line_of_text_without_axes():
    drawn = render_to_string("console/parts/_days.html", days_chart(of_days(0, 0), "Pulls by day"))
    assert "None in the last 2 days" in drawn
    assert "<svg" not in drawn
    for last in (None, severities()):
        drawn = render_to_string("console/parts/_severity_chart.html", severity_chart(of_days(None, last), "Findings"))
        assert "No findings in the last 2 days" in drawn
        assert "<svg" not in drawn


def test_areas_have_no_gap_for_days_without_a_record():
    days = of_days(None, severities(critical=2, low=2), None, severities(low=4))
    chart = severity_chart(days, "Findings")
    critical, low = chart["areas"]
    assert (critical["name"], low["name"]) == ("critical", "low")
    corners = [tuple(map(float, point.split(","))) for point in low["points"].split(" ")]
    heights = {x: y for x, y in corners[: len(corners) // 2] if x % 25 == 0}
    base, full = chart["base"], corners[-1][1]
    assert full == base, "nothing below it on the last day"
    assert heights[0] == base, "nothing before the first record"
    assert heights[50] == heights[75] == heights[100] < base, "four findings on each day since"
    assert [label["letter"] for label in chart["labels"]] == ["L"]
    drawn = render_to_string("console/parts/_severity_chart.html", chart)
    assert "<title>25 Nov 2026: Critical 2, Low 2</title>" in drawn
    assert "<title>26 Nov 2026: no record</title>" in drawn


def test_the_overview_draws_pulls_and_pushes_in_one_card(console, docker, world):
    browser = console("reader")
    assert "None in the last 30 days" in see(browser, "/projects/demo/").text
    docker("member").push("web/app", "1.0")
    project = Image.objects.get(path="demo/web/app").repository.project
    ProjectDay.objects.update_or_create(project=project, day=timezone.now().date(), defaults={"pulls": 41, "pushes": 3})
    page = see(browser, "/projects/demo/")
    assert "Pulls 41" in page.text
    assert "Pushes 3" in page.text
