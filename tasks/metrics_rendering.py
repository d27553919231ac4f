"""Metrics as the Markdown that the Prefect UI shows. Pure but for the artifact's publication."""

from collections.abc import Sequence
from uuid import UUID
from zoneinfo import ZoneInfo

from tasks.artifact_rendering import render_list, render_table
from tasks.artifacts import publish_markdown
from tasks.charts import SIZES, chart_series
from tasks.records.figures import say_time
from tasks.records.metrics import MetricPicture, MetricsReport, MetricUnit

_UNITS: dict[MetricUnit, Sequence[tuple[str, float]]] = {
    "milliseconds": (("seconds", 1000.0), ("milliseconds", 1.0)),
    "bytes": (*SIZES, ("bytes", 1.0)),
    "percent": (("%", 1.0),),
    "number": (("", 1.0),),
}


def publish_metrics(report: MetricsReport, zone: ZoneInfo) -> UUID:
    """Show what was measured."""
    return publish_markdown(render_metrics(report, zone), "collect-metrics", "metrics", report.service)


def render_metrics(report: MetricsReport, zone: ZoneInfo) -> str:
    """Return the page: what to watch, figures, pictures."""
    rows = ((line.name, line.seen, line.usual) for line in report.lines)
    return "\n\n".join(
        (
            f"# Metrics of {report.service}, {say_time(report.at, zone)}",
            render_list(report.watches) or "Nothing to watch.",
            render_table(("What", "Now", "Median of the last day"), rows),
            "## Over time",
            _render_pictures(report.pictures, zone),
        )
    )


def _render_pictures(pictures: Sequence[MetricPicture], zone: ZoneInfo) -> str:
    drawn = [chart_series(picture.title, picture.points, _UNITS[picture.unit], zone) for picture in pictures]
    return "\n\n".join(drawn) or "Measured for the first time: pictures begin with the second run."
