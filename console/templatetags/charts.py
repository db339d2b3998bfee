"""Charts, drawn on the server as SVG. Colours come from the theme; a screen reader reads the words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import ngettext

from console.templatetags.numbers import count

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from registry.inspection import Layer

register = template.Library()

COLOURS = 6
DAYS_BELOW = 20  # the height of their names
SPARK_WIDTH, SPARK_HEIGHT = 87, 16  # three units a day
NEARLY_FULL = 0.8


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a bar: ``x`` and ``width`` in hundredths of it."""

    x: float
    width: float
    colour: str
    value: Any


def segments(sizes: Sequence[int], values: Sequence[Any], colours: Sequence[str] = ()) -> list[Segment]:
    """Pieces of a bar of 100, as wide as their sizes; nothing that exists is invisible."""
    total = sum(sizes) or 1
    widths = [max(0.6, 100 * size / total) if size else 0.0 for size in sizes]
    shrink = 100 / (sum(widths) or 1)
    found, x = [], 0.0
    for number, (width, value) in enumerate(zip(widths, values, strict=True)):
        colour = colours[number] if colours else f"c{number % COLOURS + 1}"
        found.append(Segment(round(x, 2), round(width * shrink, 2), colour, value))
        x += width * shrink
    return found


@register.inclusion_tag("console/parts/_quota.html")
def quota(words: str, used: int, limit: int, link: str = "", *, of_bytes: bool = False) -> dict[str, Any]:
    """How full something is; from four fifths on it warns. ``of_bytes``: both numbers are bytes."""
    share = min(1.0, used / limit) if limit else 1.0
    level = "full" if used >= limit else "warn" if share >= NEARLY_FULL else ""
    width = round(100 * share, 1)
    return {
        "words": words,
        "used": used,
        "limit": limit,
        "link": link,
        "width": width,
        "level": level,
        "of_bytes": of_bytes,
    }


@register.inclusion_tag("console/parts/_layer_bar.html")
def layer_bar(layers: Sequence[Layer]) -> dict[str, Any]:
    """The layers of an image, as wide as they are big."""
    return {"segments": segments([layer.size for layer in layers], list(enumerate(layers, 1)))}


@register.simple_tag
def sparkline(days: Sequence[int]) -> SafeString:
    """Pulls day by day as a line as wide as a word, the last day to the right; nothing where there are none."""
    top = max(days, default=0)
    if not top:
        return SafeString("")
    step = SPARK_WIDTH / max(1, len(days) - 1)
    points = " ".join(
        f"{index * step:.0f},{1 + (SPARK_HEIGHT - 2) * (1 - number / top):.0f}" for index, number in enumerate(days)
    )
    total = sum(days)
    words = ngettext("%(shown)s pull in the last %(days)s days", "%(shown)s pulls in the last %(days)s days", total) % {
        "shown": count(total),
        "days": len(days),
    }
    return format_html(
        '<svg class="sparkline" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" aria-label="{2}">'
        '<polyline points="{3}"/></svg>',
        SPARK_WIDTH,
        SPARK_HEIGHT,
        words,
        points,
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """The vertical axis of a chart: ``height`` units for ``top``, and ticks as (y, number), 0 first.

    The step between ticks is 1, 2, 2.5 or 5 times a power of ten. ``top`` is at most 1.05 times the highest number.
    """

    height: int
    top: float
    ticks: list[tuple[float, int]]

    def y(self, number: float) -> float:
        """Where a number is drawn."""
        return round(self.height * (1 - number / self.top), 2)


def scale(highest: int, height: int) -> Scale:
    """The axis for numbers up to ``highest``: 0 and one or two ticks above it."""
    drawn, step = Scale(height, max(1.0, highest * 1.05), []), _step(highest)
    drawn.ticks.extend((drawn.y(number), number) for number in range(0, highest + 1, step))
    return drawn


def _step(highest: int) -> int:
    """The smallest step that fits into ``highest`` at most twice."""
    power = 1
    while True:
        for factor in (1, 2, 2.5, 5):
            step = int(factor * power)
            if step == factor * power and highest // step <= 2:
                return step
        power *= 10


@register.simple_tag(takes_context=True)
def day_with_words(context: template.Context, x: str, day: str, words: str) -> SafeString:
    """A day of a chart as an area to point at, with words; the chart has its width, ``step``, and height, ``base``."""
    return format_html(
        '<rect class="hit" x="{}%" y="0" width="{}%" height="{}"><title>{}: {}</title></rect>',
        *(x, context["step"], context["base"], day, words),
    )


@register.inclusion_tag("console/parts/_days.html")
def size_chart(days: Sequence[tuple[date, int]], words: str) -> dict[str, Any]:
    """Columns of bytes, one a day."""
    return days_chart(days, words, "c2") | {"is_size": True}


@register.inclusion_tag("console/parts/_days.html", name="days_chart")
def days_chart(
    days: Sequence[tuple[date, int]], words: str, colour: str = "c1", height: int = 120, *, has_days: bool = True
) -> dict[str, Any]:
    """Columns, one a day, the last one of today. ``height``: with the names of the days, if it has them."""
    axis = scale(max((number for _, number in days), default=0), height - (DAYS_BELOW if has_days else 1))
    step = 100 / max(1, len(days))
    columns = [
        {
            "x": str(round(index * step, 3)),  # texts: templates write numbers as the language does
            "y": str(axis.y(number)),
            "height": str(round(axis.height - axis.y(number), 2)),
            "day": day,
            "number": number,
            "is_named": has_days and index % 7 == len(days) % 7,
            "is_between": index // 7 % 2 == 1,
            "is_today": index == len(days) - 1,
        }
        for index, (day, number) in enumerate(days)
    ]
    return {
        "columns": columns,
        "step": str(round(step, 3)),
        "width": str(round(step * 0.72, 3)),
        "words": words,
        "is_size": False,
        "colour": colour,
        "ticks": axis.ticks,
        "total": sum(number for _, number in days),
        "days": len(days),
        "base": axis.height,
        "height": height,
    }
