"""A leak is steady growth that no chance explains; all else that memory does is none."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.decisions.memory_trend import find_leak
from tasks.records.metrics import MemorySample

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MIB = 2.0**20
QUARTER = timedelta(minutes=15)


def samples(
    values: list[float], started_at: datetime | None = NOON - timedelta(days=1)
) -> list[MemorySample]:
    return [
        MemorySample(at=NOON + place * QUARTER, bytes=value, started_at=started_at)
        for place, value in enumerate(values)
    ]


def noisy(seed: int, count: int, per_step: float, spread: float = 5 * MIB) -> list[float]:
    """Make a saw as garbage collection does, around a line."""
    dice = random.Random(seed)
    return [100 * MIB + step * per_step + dice.uniform(-spread, spread) for step in range(count)]


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(30, 300))
def test_steady_growth_is_a_leak_of_about_its_slope(seed: int, count: int) -> None:
    leak = find_leak(samples(noisy(seed, count, 2 * MIB)))
    assert leak is not None
    assert leak.per_hour == pytest.approx(8 * MIB, rel=0.25)
    assert leak.from_bytes < leak.to_bytes


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(0, 300))
def test_noise_without_growth_is_none(seed: int, count: int) -> None:
    assert find_leak(samples(noisy(seed, count, 0, 30 * MIB))) is None


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6))
def test_growth_that_levels_off_is_none(seed: int) -> None:
    grown = noisy(seed, 20, 5 * MIB)
    assert find_leak(samples([*grown, *(value + 100 * MIB for value in noisy(seed, 60, 0))])) is None


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.integers(0, 79))
def test_one_peak_makes_none(seed: int, place: int) -> None:
    values = noisy(seed, 80, 0)
    values[place] += 900 * MIB
    assert find_leak(samples(values)) is None


def test_a_restart_begins_anew_and_the_time_after_it_does_not_count() -> None:
    before = samples(noisy(1, 60, 3 * MIB))
    restart = before[-1].at + timedelta(minutes=5)
    after = [
        sample.model_copy(update={"at": sample.at + 61 * QUARTER, "started_at": restart})
        for sample in samples(noisy(2, 40, 0))
    ]
    assert find_leak(before) is not None
    assert find_leak([*before, *after]) is None
    # A start fills caches for half an hour.
    young = samples([100 * MIB + step * 20 * MIB for step in range(13)], started_at=NOON + 11 * QUARTER)
    assert find_leak(young) is None


def test_too_short_a_time_or_too_little_is_none() -> None:
    assert find_leak([]) is None
    assert find_leak(samples(noisy(1, 11, 9 * MIB))) is None
    assert find_leak(samples(noisy(1, 80, 0.1 * MIB, 0))) is None


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_matter(seed: int, shuffling: random.Random) -> None:
    found = samples(noisy(seed, 40, 2 * MIB))
    mixed = found.copy()
    shuffling.shuffle(mixed)
    assert find_leak(mixed) == find_leak(found)


def test_it_says_when_the_limit_is_reached() -> None:
    leak = find_leak(samples(noisy(1, 80, 2 * MIB, 0)))
    assert leak is not None
    full = leak.reaches(leak.to_bytes + 80 * MIB)
    assert full is not None
    assert full - leak.until == pytest.approx(timedelta(hours=10), abs=timedelta(minutes=5))
    assert leak.reaches(1e18) is None
