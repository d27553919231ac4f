"""An index's use over time, from a counter that begins anew now and then: cases, and a simulated server."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.index_use import Sample, make_sample, sum_uses
from tasks.records.index_care import ObservedUse
from tasks.records.indexes import IndexFacts

START = datetime(2026, 10, 1, 4, 45, tzinfo=UTC)
KEY = "users/by_email"


def days(count: float) -> timedelta:
    return timedelta(days=count)


def sample(day: float, uses: int, began: float | None = -100, *, by: str = "") -> Sample:
    """A count on a day; the counter began on another one. Before samples had a definition they had none."""
    since = None if began is None else START + days(began)
    definition = f"CREATE INDEX by_email ON users ({by})" if by else ""
    index = IndexFacts(
        source="users",
        name="by_email",
        key=(("email", "1"),),
        uses=uses,
        uses_since=since,
        definition=definition,
    )
    return START + days(day), make_sample([index])


def found(*samples: Sample) -> tuple[int, float, float]:
    use = sum_uses(KEY, samples)
    assert use is not None
    return use.uses, use.watched / days(1), use.idle / days(1)


def test_an_index_without_a_count_has_no_use_and_one_sample_has_watched_nothing() -> None:
    uncounted = IndexFacts(source="users", name="by_email", key=(("email", "1"),))
    assert make_sample([uncounted]) == {}
    assert sum_uses(KEY, []) is None
    assert found(sample(0, 7)) == (0, 0, 0)


def test_uses_are_what_the_counter_gained_and_idle_is_the_time_since_it_last_did() -> None:
    assert found(sample(0, 7), sample(1, 9), sample(2, 9), sample(31, 9)) == (2, 31, 30)


def test_samples_may_come_in_any_order() -> None:
    assert found(sample(31, 9), sample(0, 7), sample(2, 9), sample(1, 9)) == (2, 31, 30)


def test_after_a_restart_the_new_counter_is_added_and_the_time_nobody_counted_is_not_watched() -> None:
    # Restarted at noon of the third day: half a day is lost.
    assert found(sample(0, 7), sample(2, 7), sample(3, 0, began=2.5), sample(10, 0, began=2.5)) == (
        0,
        9.5,
        9.5,
    )
    assert found(sample(0, 7), sample(2, 7), sample(3, 4, began=2.5)) == (4, 2.5, 0)


def test_a_smaller_count_of_a_counter_without_a_beginning_is_a_new_one_that_watched_nothing_yet() -> None:
    assert found(sample(0, 7, None), sample(1, 3, None), sample(2, 3, None)) == (3, 1, 1)
    # As one index's statistics are reset, or the index is made anew: the server says when all began.
    assert found(sample(0, 7), sample(1, 0), sample(2, 0)) == (0, 1, 1)


def test_another_member_of_a_replica_set_is_another_counter() -> None:
    # Failed over and back: what both counted from their beginnings is taken for use, never for idleness.
    assert found(sample(0, 7, -100), sample(1, 5, -90), sample(2, 7, -100)) == (12, 2, 0)


def test_an_index_that_a_sample_lacks_was_made_anew_after_it() -> None:
    gone = (START + days(1), {"users/other": 1.0})
    assert found(sample(0, 0), gone, sample(2, 0), sample(40, 0)) == (0, 38, 38)
    assert sum_uses(KEY, [sample(0, 0), gone]) is None


def test_an_index_of_the_same_name_with_another_definition_begins_anew() -> None:
    old = [sample(day, 0, by="email") for day in range(3)]
    assert found(*old, sample(31, 0, by="email")) == (0, 31, 31)
    assert found(*old, sample(31, 0, by="phone"), sample(40, 0, by="phone")) == (0, 9, 9)
    assert found(*old, sample(31, 4, by="phone")) == (0, 0, 0)
    # What was in between and is not known changes nothing of what was known before.
    assert found(*old, sample(30, 0), sample(31, 0, by="phone")) == (0, 0, 0)


def test_a_sample_without_a_definition_counts_as_the_same_index() -> None:
    assert found(sample(0, 0), sample(30, 0), sample(31, 0, by="email")) == (0, 31, 31)
    assert found(sample(0, 0, by="email"), sample(30, 0), sample(31, 0, by="email")) == (0, 31, 31)


@dataclass
class Server:
    """A server that counts, restarts and is sampled; it knows what was really used, and when."""

    events: Sequence[tuple[str, int]]
    by: str = ""

    def run(self) -> tuple[list[Sample], list[float], int]:
        """Return the samples, the hours of the uses since the first one, and how often it restarted."""
        hour, count, began, restarts = 0, 0, 0, 0
        samples: list[Sample] = []
        used: list[float] = []
        for event, hours in self.events:
            hour += hours
            if event == "use":
                count += 1
                used += [hour] if samples else []
            elif event == "restart":
                count, began = 0, hour
                restarts += bool(samples)
            else:
                samples.append(sample(hour / 24, count, began / 24, by=self.by))
        return samples, used, restarts


EVENTS = st.lists(
    st.tuples(st.sampled_from(["use", "sample", "sample", "restart"]), st.integers(1, 50)),
    min_size=2,
    max_size=40,
)


@given(EVENTS)
def test_no_more_is_claimed_than_was_seen(events: list[tuple[str, int]]) -> None:
    samples, used, restarts = Server(events).run()
    use = sum_uses(KEY, samples)
    if use is None:
        assert samples == []
        return
    last, span = samples[-1][0], samples[-1][0] - samples[0][0]
    seen = [hour for hour in used if START + timedelta(hours=hour) <= last]
    assert use.uses <= len(seen)
    assert timedelta(0) <= use.idle <= use.watched <= span + timedelta(milliseconds=1)
    if restarts == 0:
        assert (use.uses, use.watched) == (len(seen), span)
        # Nobody knows when between two samples it was used: the time begins with the second.
        after = max((START + timedelta(hours=hour) for hour in seen), default=samples[0][0])
        assert use.idle == last - min(at for at, _ in samples if at >= after)


@given(EVENTS, st.integers(0, 40))
def test_what_is_summed_in_two_parts_is_what_is_summed_at_once(
    events: list[tuple[str, int]], cut: int
) -> None:
    samples, _, _ = Server(events).run()
    if len(samples) > 1:
        cut = min(cut, len(samples) - 1)
        whole, first, second = (
            sum_uses(KEY, part) or ObservedUse(uses=0, watched=days(0), idle=days(0))
            for part in (samples, samples[: cut + 1], samples[cut:])
        )
        assert whole.uses == first.uses + second.uses
        assert whole.watched == first.watched + second.watched


@given(EVENTS, EVENTS, st.sampled_from(["phone", "email", ""]))
def test_nothing_of_a_predecessor_is_inherited_and_what_has_no_definition_is_no_other_index(
    before: list[tuple[str, int]], after: list[tuple[str, int]], by: str
) -> None:
    old, _, _ = Server(before, by="email").run()
    new, _, _ = Server([*before, *after], by=by).run()
    new = new[len(old) :]
    same, _, _ = Server([*before, *after]).run()
    assert sum_uses(KEY, [*old, *new]) == sum_uses(KEY, new if by == "phone" and new else same)
