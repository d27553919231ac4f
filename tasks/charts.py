"""Charts as static SVG in a data URI: Prefect's markdown shows those, and neither raw SVG nor scripts."""

import base64
import math
from collections.abc import Sequence
from datetime import datetime
from xml.etree import ElementTree as ET
from zoneinfo import ZoneInfo

import pygal  # type: ignore[import-untyped]  # pygal ships no types
from pygal.style import Style  # type: ignore[import-untyped]  # likewise

from tasks.records.backup import SetSummary

_MOST_NIGHTS = 30
_MOST_POINTS = 60
_MOST_LABELS = 6
_WIDTH, _HEIGHT = 700, 230
_FEWEST_PLACES = 10
_MOST_STEPS = 5
SIZES = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
TIMES = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
_BLUE, _RED = "#2d6cdf", "#c43d3d"


def chart_history(summaries: Sequence[SetSummary], zone: ZoneInfo) -> str:
    """Given sets in any order, return stored size and duration of the last 30 as two markdown images."""
    if not summaries:
        return "There is no backup set yet, so there is no history to draw."
    recent = sorted(summaries, key=lambda found: found.created_at)[-_MOST_NIGHTS:]
    sizes = _scale([found.stored_bytes for found in recent], SIZES)
    times = _scale([found.seconds for found in recent], TIMES)
    return "\n\n".join(
        (
            _draw(recent, sizes, zone, title=f"Stored size, {_say_span(recent)}"),
            _draw(recent, times, zone, title=f"Duration, {_say_span(recent)}"),
        )
    )


def chart_series(
    title: str, points: Sequence[tuple[datetime, float]], units: Sequence[tuple[str, float]], zone: ZoneInfo
) -> str:
    """Given a figure's history in any order, return its last 60 measurements as a markdown image.

    ``units`` are names and factors, largest first: ``SIZES``, ``TIMES``, or ``(("", 1.0),)`` for a number.
    """
    if not points:
        return f"{title}: nothing was measured yet."
    recent = sorted(points)[-_MOST_POINTS:]
    axis, values = _scale([value for _, value in recent], units)
    ticks = _choose_ticks(max(values))
    chart = pygal.DateTimeLine(
        width=_WIDTH,
        height=_HEIGHT,
        title=title,
        y_title=axis,
        style=_make_style(),
        js=(),
        show_legend=False,
        truncate_label=-1,
        x_label_rotation=0,
        y_labels=ticks,
        range=(0, ticks[-1]),
        value_formatter="{:,.6g}".format,
        x_value_formatter=lambda moment: f"{moment.astimezone(zone):%d %b %H:%M}",
        margin_right=24,
        dots_size=3,
    )
    step = -(-len(recent) // _MOST_LABELS)
    chart.x_labels = [moment for moment, _ in recent[::step]]
    chart.add(title, [(moment, value) for (moment, _), value in zip(recent, values, strict=True)])
    return f"![{title}]({_encode(chart.render_tree())})"


def _say_span(recent: Sequence[SetSummary]) -> str:
    return "first set" if len(recent) == 1 else f"last {len(recent)} sets"


def _scale(values: Sequence[float], units: Sequence[tuple[str, float]]) -> tuple[str, list[float]]:
    """Return the values in the first unit of which the largest holds at least two, and its name."""
    largest = max(values)
    unit, factor = next((pair for pair in units if largest >= 2 * pair[1]), units[-1])
    return unit, [value / factor for value in values]


def _draw(
    recent: Sequence[SetSummary], scaled: tuple[str, list[float]], zone: ZoneInfo, *, title: str
) -> str:
    axis, values = scaled
    failed = [found.reread_passed is False or found.drill_passed is False for found in recent]
    ticks = _choose_ticks(max(values))
    chart = pygal.StackedBar(
        width=_WIDTH,
        height=_HEIGHT,
        title=title,
        y_title=axis,
        style=_make_style(),
        # No scripts: the picture is shown as an image, where they would not run.
        js=(),
        show_legend=any(failed),
        legend_at_bottom=True,
        legend_box_size=10,
        truncate_label=-1,
        y_labels=ticks,
        range=(0, ticks[-1]),
        value_formatter="{:,.6g}".format,
        margin_right=24,
    )
    # Empty places keep the bar of a first night from filling the picture.
    padding = [None] * (_FEWEST_PLACES - len(recent))
    chart.x_labels = _label_dates(recent, zone) + [""] * len(padding)
    pairs = list(zip(values, failed, strict=True))
    chart.add("good", [None if bad else value for value, bad in pairs] + padding)
    chart.add("failed a verification", [value if bad else None for value, bad in pairs] + padding)
    return f"![{title}]({_encode(chart.render_tree())})"


def _label_dates(recent: Sequence[SetSummary], zone: ZoneInfo) -> list[str]:
    every = -(-len(recent) // _MOST_LABELS)
    return [
        f"{found.created_at.astimezone(zone):%d %b}" if place % every == 0 else ""
        for place, found in enumerate(recent)
    ]


def _choose_ticks(largest: float) -> list[float]:
    """Return three to six even marks from 0, the last one at or above the largest value."""
    step = 10.0 ** math.floor(math.log10(largest)) if largest > 0 else 1.0
    for part in (0.2, 0.25, 0.5, 1.0, 2.0):
        if largest / (step * part) <= _MOST_STEPS:
            step *= part
            break
    return [place * step for place in range(max(2, math.ceil(largest / step)) + 1)]


def _make_style() -> Style:
    return Style(
        background="#ffffff",
        plot_background="#ffffff",
        foreground="#444444",
        foreground_strong="#222222",
        foreground_subtle="#cccccc",
        guide_stroke_dasharray="2,3",
        guide_stroke_color="#d0d0d0",
        major_guide_stroke_dasharray="2,3",
        major_guide_stroke_color="#d0d0d0",
        colors=(_BLUE, _RED),
        opacity="1",
        font_family="sans-serif",
        title_font_size=15,
        label_font_size=11,
        major_label_font_size=11,
        legend_font_size=11,
    )


def _encode(tree: ET.Element) -> str:
    # An image without a size of its own grows as wide as the page.
    tree.set("width", str(_WIDTH))
    tree.set("height", str(_HEIGHT))
    for parent in list(tree.iter()):
        for child in list(parent):
            if str(child.tag).rpartition("}")[2] == "script":
                parent.remove(child)
    return "data:image/svg+xml;base64," + base64.b64encode(ET.tostring(tree)).decode("ascii")
