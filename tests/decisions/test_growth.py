"""How a figure grows and when a disk is full: no date for what does not grow, and none in the past."""

from datetime import UTC, datetime, timedelta
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.growth import Trend, find_trend, forecast_full, gain_since, list_changes

NOW = datetime(2026, 11, 22, 6, 15, tzinfo=UTC)
DAY = timedelta(days=1)
Points = list[tuple[datetime, float]]


def days(*values: float) -> Points:
    """A value for each of the last days, the last one now."""
    return [(NOW - DAY * (len(values) - 1 - place), value) for place, value in enumerate(values)]


FIGURES = st.integers(0, 10**15).map(float)
MOMENTS = st.timedeltas(timedelta(days=-90), timedelta(days=2)).map(NOW.__add__)
GROWING = st.lists(st.integers(0, 10**9), min_size=9, max_size=30).map(
    lambda steps: days(*accumulate(map(float, steps)))
)
HISTORIES = GROWING | st.lists(st.tuples(MOMENTS, FIGURES), max_size=40)


@pytest.mark.parametrize(
    "points",
    [
        [],
        days(5),
        days(1, 2, 3, 4, 5, 6, 7),
        [(NOW - DAY * 8, 1.0), (NOW, 9.0)],
        [(at - DAY * 40, value) for at, value in days(*range(20))],
    ],
    ids=["nothing", "one", "six days", "two points", "older than a month"],
)
def test_before_a_week_of_measurements_is_there_nothing_is_said_of_a_trend(points: Points) -> None:
    assert find_trend(points, NOW) is None


def test_what_grows_evenly_has_a_trend_without_doubt_and_one_date() -> None:
    trend = find_trend(days(*range(0, 1000, 100)), NOW)
    assert trend == Trend(per_day=100, least=100, most=100)
    forecast = forecast_full(trend, free=500, now=NOW)
    assert forecast is not None
    assert forecast.likely is not None
    assert abs(forecast.likely - (NOW + 5 * DAY)) < timedelta(seconds=1)
    assert forecast.earliest == forecast.latest == forecast.likely


def test_what_grows_unevenly_has_a_range_around_the_likely_date() -> None:
    forecast = forecast_full(find_trend(days(0, 2, 1, 4, 6, 5, 9, 8, 12, 13, 12), NOW), free=30, now=NOW)
    assert forecast is not None
    assert forecast.earliest is not None
    assert forecast.likely is not None
    assert forecast.latest is not None
    assert NOW < forecast.earliest < forecast.likely < forecast.latest


@pytest.mark.parametrize(
    "values",
    [[7.0] * 12, list(range(20, 0, -1)), [1, 9, 2, 8, 3, 7, 2, 9, 1, 8]],
    ids=["flat", "shrinking", "to and fro"],
)
def test_what_does_not_clearly_grow_has_no_date(values: list[float]) -> None:
    trend = find_trend(days(*values), NOW)
    assert trend is not None
    assert forecast_full(trend, free=1, now=NOW) is None


def test_what_grows_so_slowly_that_a_date_says_nothing_has_none() -> None:
    forecast = forecast_full(find_trend(days(*range(10)), NOW), free=1e6, now=NOW)
    assert forecast is not None
    assert (forecast.earliest, forecast.likely, forecast.latest) == (None, None, None)


@given(points=HISTORIES, free=st.floats(min_value=-1e15, max_value=1e18))
def test_a_forecast_is_never_in_the_past_and_its_dates_are_in_order(points: Points, free: float) -> None:
    forecast = forecast_full(find_trend(points, NOW), free, NOW)
    if forecast is not None:
        furthest = NOW + 10 * 365 * DAY
        dates = [date or furthest for date in (forecast.earliest, forecast.likely, forecast.latest)]
        assert NOW <= dates[0] <= dates[1] <= dates[2]


@given(points=HISTORIES, free=FIGURES, exponent=st.integers(-40, 40))
def test_a_forecast_is_the_same_in_any_unit(points: Points, free: float, exponent: int) -> None:
    factor = 2.0**exponent
    scaled = [(at, value * factor) for at, value in points]
    forecast = forecast_full(find_trend(scaled, NOW), free * factor, NOW)
    assert forecast == forecast_full(find_trend(points, NOW), free, NOW)


@given(
    number=st.integers(12, 30),
    step=st.integers(1, 10**9),
    place=st.integers(0, 29),
    outlier=st.floats(min_value=0, max_value=1e18),
)
def test_one_night_that_is_quite_different_does_not_move_the_forecast(
    number: int, step: int, place: int, outlier: float
) -> None:
    values = [float(step * day) for day in range(number)]
    free = 100.0 * step
    expected = forecast_full(find_trend(days(*values), NOW), free, NOW)
    values[place % number] = outlier
    found = forecast_full(find_trend(days(*values), NOW), free, NOW)
    assert expected is not None
    assert found is not None
    assert expected.likely is not None
    assert found.likely is not None
    assert abs(found.likely - expected.likely) < timedelta(minutes=1)


@given(value=FIGURES, others=st.lists(FIGURES, max_size=30))
def test_a_day_on_which_many_reports_were_made_counts_as_one(value: float, others: list[float]) -> None:
    points = days(*range(12))
    noon = NOW - DAY * 3 - timedelta(hours=5)
    crowd = [(noon + timedelta(seconds=second), other) for second, other in enumerate([*others, value])]
    assert find_trend([*points, *crowd], NOW) == find_trend(points, NOW)


def test_a_measurement_that_a_wrong_clock_dated_ahead_is_left_out() -> None:
    points = days(*range(12))
    assert find_trend([*points, (NOW + DAY * 300, 1e9)], NOW) == find_trend(points, NOW)


def test_changes_are_told_since_the_measurements_nearest_to_a_day_a_week_and_a_month_ago() -> None:
    points = [(NOW - DAY * 31, 1.0), (NOW - DAY * 7, 40.0), (NOW - timedelta(hours=23), 100.0), (NOW, 5.0)]
    assert list_changes(points, 90, NOW) == {"yesterday": -10, "last week": 50, "last month": 89}


def test_without_a_measurement_from_about_then_no_change_is_told() -> None:
    points = [(NOW - timedelta(hours=1), 1.0), (NOW - DAY * 4, 2.0), (NOW - DAY * 50, 3.0)]
    assert list_changes(points, 9, NOW) == {"yesterday": None, "last week": None, "last month": None}


@pytest.mark.parametrize(("before", "after", "gained"), [(5, 9, 4), (9, 9, 0), (900, 7, 7), (900, 0, 0)])
def test_a_counter_that_is_lower_than_before_began_anew(before: float, after: float, gained: float) -> None:
    assert gain_since(before, after) == gained
