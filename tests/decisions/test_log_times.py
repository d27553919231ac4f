"""The time of a log's line, in the forms that loggers, PM2, syslog and PostgreSQL write."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.log_times import make_reader

NOW = datetime(2026, 1, 3, 12, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def host_in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What has no zone is in the host's."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("line", "at", "rest"),
    [
        ("2026-01-03T07:42:53.123Z hello", "2026-01-03T07:42:53.123", "hello"),
        ("2026-01-03T07:42:53.123456789+01:00 hello", "2026-01-03T06:42:53.123456", "hello"),
        ("2026-01-03 07:42:53.123 +01:00: hello", "2026-01-03T06:42:53.123", "hello"),
        ("2026-01-03T02:42:53: PM2 log: hello", "2026-01-03T07:42:53", "PM2 log: hello"),
        ("2026-01-03 02:42:53,500 INFO hello", "2026-01-03T07:42:53.5", "INFO hello"),
        ("[2026-01-03T07:42:53.000Z] error: hello", "2026-01-03T07:42:53", "error: hello"),
        ("2026/01/03 02:42:53 hello", "2026-01-03T07:42:53", "hello"),
        ("2026-01-03 07:42:53.123 UTC [12] ERROR:  hello", "2026-01-03T07:42:53.123", "[12] ERROR:  hello"),
        ("2026-01-03 07:42:53 CET [12] LOG:  hello", "2026-01-03T06:42:53", "[12] LOG:  hello"),
        ("2026-01-03 07:42:53 IST [12] LOG:  hello", "2026-01-03T02:12:53", "[12] LOG:  hello"),
        ("2026-01-03 07:42:53 +0530 [12] LOG:  hello", "2026-01-03T02:12:53", "[12] LOG:  hello"),
        ("Dec 31 19:00:00 host node[12]: hello", "2026-01-01T00:00:00", "host node[12]: hello"),
        ("Jan  3 02:42:53 host hello", "2026-01-03T07:42:53", "host hello"),
        ("03/Jan/2026:07:42:53 +0000 hello", "2026-01-03T07:42:53", "hello"),
        ("1/3/2026, 2:42:53 AM hello", "2026-01-03T07:42:53", "hello"),
        ("31.12.2025 19:00:00 hello", "2026-01-01T00:00:00", "hello"),
        ("02.01.2026 19:00:00 hello", "2026-01-03T00:00:00", "hello"),
        ("02.11.2025 19:00:00 hello", "2025-11-03T00:00:00", "hello"),
        ("12/01/2025, 02:42:53 hello", "2025-12-01T07:42:53", "hello"),
        ("01/12/2025, 02:42:53 hello", "2025-12-01T07:42:53", "hello"),
        (
            "Sat Jan 03 2026 08:42:53 GMT+0100 (Central European Standard Time) hello",
            "2026-01-03T07:42:53",
            "hello",
        ),
        ("2026-01-03 07:42:53 +00:00:     at x (y.js:1:2)", "2026-01-03T07:42:53", "    at x (y.js:1:2)"),
    ],
)
def test_a_time_is_found_in_many_forms(line: str, at: str, rest: str) -> None:
    split = make_reader(NOW, ZoneInfo("Asia/Kolkata"))
    assert split(line) == (datetime.fromisoformat(at).replace(tzinfo=UTC), rest)


@pytest.mark.parametrize(
    "line",
    [
        "hello",
        "",
        "    at x (y.js:1:2)",
        "2026-13-45 25:61:00 hello",
        "took 12:30",
        "v2.10.2026 12:00 is out",
        "2026-01-03 07:42:53 IST [12] LOG:  of India, Israel or Ireland",
    ],
)
def test_a_line_without_a_time_is_left_whole(line: str) -> None:
    assert make_reader(NOW, ZoneInfo("Europe/Berlin"))(line) == (None, line)


@pytest.mark.parametrize(
    ("line", "at"),
    [
        # New York's clocks went from 02:00 back to 01:00, at six in UTC; now it is 06:40.
        ("2025-11-02 01:30:00 hello", "2025-11-02T06:30:00"),
        ("2025-11-02 01:55:00 hello", "2025-11-02T05:55:00"),
        ("2025-11-02 01:30:00 EDT hello", "2025-11-02T05:30:00"),
        ("2025-11-02 01:30:00 EST hello", "2025-11-02T06:30:00"),
        # Of a server in New Zealand, in its own such night.
        ("2025-04-06 02:30:00 NZST hello", "2025-04-05T14:30:00"),
    ],
)
def test_the_hour_that_comes_twice_is_the_later_one_unless_that_is_to_come(line: str, at: str) -> None:
    split = make_reader(datetime(2025, 11, 2, 6, 40, tzinfo=UTC), ZoneInfo("Asia/Kolkata"))
    assert split(line) == (datetime.fromisoformat(at).replace(tzinfo=UTC), "hello")


@settings(deadline=None)
@given(
    st.datetimes(datetime.fromisoformat("2020-01-01"), datetime.fromisoformat("2026-01-03")),
    st.integers(-14 * 4, 14 * 4).map(lambda quarters: timezone(timedelta(minutes=15 * quarters))),
)
def test_what_python_writes_is_read_back(moment: datetime, zone: timezone) -> None:
    aware = moment.replace(tzinfo=zone)
    split = make_reader(NOW, ZoneInfo("Europe/Berlin"))
    for written in (aware.isoformat(), aware.isoformat(" "), f"{aware:%Y-%m-%d %H:%M:%S.%f %z}:"):
        assert split(f"{written} hello") == (aware, "hello")


@settings(deadline=None)
@given(st.text(max_size=80))
def test_any_line_is_split_without_losing_a_word(line: str) -> None:
    at, rest = make_reader(NOW, ZoneInfo("Europe/Berlin"))(line)
    assert line.endswith(rest)
    assert at is None or at.tzinfo is UTC
