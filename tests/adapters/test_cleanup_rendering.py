"""What a cleanup meets, as its page shows it."""

from tasks.cleanup_rendering import render_months
from tasks.records.cleanup import MOST_WITHOUT_INDEX, MonthOfExpired, RuleFacts

LARGE = RuleFacts(rule="log", source="audit", exists=True, entries=MOST_WITHOUT_INDEX + 1)


def test_what_was_counted_is_shown_with_an_index_or_without() -> None:
    counted = LARGE.model_copy(update={"months": (MonthOfExpired(month="2024-07", entries=7, raw_bytes=70),)})
    shown = render_months("ledger", [counted], (), ())
    assert "10,001 entries; 7 expired and go" in shown
    assert "Index: none." in shown
    assert "2024-07" in shown


def test_of_what_was_not_counted_no_count_is_shown() -> None:
    shown = render_months("ledger", [LARGE.model_copy(update={"is_counted": False})], (), ())
    assert "10,001 entries, not counted further" in shown
    assert "expired and go" not in shown
