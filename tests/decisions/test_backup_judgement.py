"""Which sets are findings and not backups, and what is said aloud of good ones."""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from flows.decisions.backup_judgement import describe_backup, expect_summary, judge_set
from tasks.records.backup import (
    ApplicationContent,
    CollectionContent,
    Consistency,
    Manifest,
    MongodbContent,
    PostgresqlContent,
    SetSummary,
    StoredObject,
    TableFacts,
)

NOW = datetime(2026, 11, 21, 1, 0, tzinfo=UTC)
HASH = "0" * 64


def make_object(key: str, stored: int, raw: int) -> StoredObject:
    return StoredObject(key=key, bytes=stored, sha256=HASH, raw_bytes=raw)


def make_collection(
    name: str,
    documents: int,
    raw: int,
    *,
    stored: int = 100,
    kind: Literal["collection", "view", "timeseries"] = "collection",
) -> CollectionContent:
    return CollectionContent(
        database="invoice",
        collection=name,
        kind=kind,
        documents=documents,
        content_hash=HASH,
        options="",
        indexes=(),
        metadata=make_object(f"{name}.metadata.json.gz", 50, 80),
        data=None if kind == "view" else make_object(f"{name}.bson.gz", stored, raw),
    )


def make_manifest(*collections: CollectionContent, files: int = 3, **changed: Any) -> Manifest:
    facts: dict[str, Any] = {
        "set_id": "tonight",
        "service": "invoice",
        "kind": "nightly",
        "reason": "scheduled",
        "started_at": NOW,
        "finished_at": NOW + timedelta(seconds=8),
        "consistency": Consistency(method="snapshot", moment="1", explanation="One moment."),
        "mongodb": MongodbContent(server_version="8.0", collections=collections, seconds=1.0),
        "postgresql": None,
        "application": ApplicationContent(
            files=files, content_hash=HASH, archive=make_object("app.tar.gz", 10, 20), seconds=1.0
        ),
        "software": {},
    }
    return Manifest(**(facts | changed))


def make_postgresql(rows: int, *, raw: int = 5_000_000, tables: int = 1) -> Manifest:
    content = PostgresqlContent(
        tables=tuple(
            TableFacts(table=f"t{n}", columns="(id)", rows=rows, content_hash=HASH) for n in range(tables)
        ),
        definitions={},
        database="app",
        server_version="18",
        client_version="18",
        dump=make_object("app.dump", 1000, raw),
        seconds=1.0,
    )
    return make_manifest(mongodb=None, postgresql=content)


def make_set(days_old: int, **changed: Any) -> SetSummary:
    summary = expect_summary(f"d{days_old}", "nightly", NOW - timedelta(days=days_old), None)
    return summary.model_copy(update={"raw_bytes": 10_000_000, "entries": 1000, "stored_bytes": 9} | changed)


USUAL = make_manifest(make_collection("users", 1000, 10_000_000))
HISTORY = [make_set(days) for days in range(1, 8)]


@pytest.mark.parametrize("history", [[], HISTORY])
def test_a_usual_set_is_good(history: list[SetSummary]) -> None:
    assert judge_set(USUAL, history, 3.0) == ()


@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize(
    ("manifest", "word"),
    [
        (make_manifest(make_collection("users", 5, 9, stored=0)), "users.bson.gz has 0 bytes"),
        (make_manifest(make_collection("users", 5, 0)), "Collection users counts 5 documents"),
        (make_manifest(), "The database has no collections"),
        (make_manifest(mongodb=None), "The set holds no database"),
        (make_manifest(make_collection("users", 5, 9), files=0), "holds no files"),
        (make_postgresql(5, tables=0), "The database has no tables"),
        (make_postgresql(5, raw=0), "pg_dump wrote 0 bytes"),
    ],
)
def test_a_set_of_nothing_is_found_whatever_was_accepted(manifest: Manifest, word: str, accept: bool) -> None:
    found = judge_set(manifest, [], 3.0, accept_changed_size=accept)
    assert [word in finding for finding in found] == [True]


def test_empty_collections_and_views_among_full_ones_are_usual() -> None:
    manifest = make_manifest(
        make_collection("users", 5, 9),
        make_collection("empty", 0, 0, stored=20),
        make_collection("seen", 5, 0, kind="view"),
    )
    assert judge_set(manifest, [], 3.0) == ()


EMPTY = make_manifest(make_collection("users", 0, 0, stored=20))


@pytest.mark.parametrize(
    ("history", "accept", "word"),
    [
        ([], False, "no earlier set to compare with"),
        ([], True, None),
        ([make_set(1)], False, "where the last good set d1 has 1,000 documents"),
        ([make_set(1)], True, "where the last good set d1 has 1,000 documents"),
        ([make_set(1, entries=0), make_set(2)], False, None),
        ([make_set(1, entries=0, reread_passed=False), make_set(2)], False, "the last good set d2"),
        ([make_set(1, entries=0, reread_passed=None), make_set(2)], False, "the last good set d2"),
        ([make_set(2), make_set(1, entries=0, drill_passed=False)], False, "the last good set d2"),
    ],
)
def test_an_empty_database_is_found_unless_it_was_good_before(
    history: list[SetSummary], accept: bool, word: str | None
) -> None:
    found = judge_set(EMPTY, history, 3.0, accept_changed_size=accept)
    assert found == () if word is None else word in found[0]


@pytest.mark.parametrize(
    ("raw", "documents", "words"),
    [
        (29_990_000, 1000, []),
        (31_000_000, 1000, ["31.0 MB before compression, 3.1 times more"]),
        (3_400_000, 1000, []),
        (3_200_000, 1000, ["3.2 MB before compression, 3.1 times less"]),
        (10_000_000, 3000, []),
        (10_000_000, 3001, ["3,001 documents, 3.0 times more"]),
        (10_000_000, 333, ["333 documents, 3.0 times less"]),
        (100_000, 10, ["times less", "10 documents, 100.0 times less"]),
    ],
)
def test_a_size_far_from_the_median_is_found_with_figures(raw: int, documents: int, words: list[str]) -> None:
    manifest = make_manifest(make_collection("users", documents, raw))
    found = judge_set(manifest, HISTORY, 3.0)
    assert len(found) == len(words)
    for finding, word in zip(found, words, strict=True):
        assert word in finding
        assert "accept_changed_size" in finding
    assert judge_set(manifest, HISTORY, 3.0, accept_changed_size=True) == ()


def test_tiny_sets_change_by_any_factor_without_alarm() -> None:
    history = [make_set(days, raw_bytes=1000, entries=4) for days in range(1, 8)]
    assert judge_set(make_manifest(make_collection("users", 99, 990_000)), history, 3.0) == ()
    assert len(judge_set(make_manifest(make_collection("users", 100, 1_000_000)), history, 3.0)) == 2


@pytest.mark.parametrize(
    "history",
    [
        [make_set(1, entries=9000), make_set(2, entries=9000)],
        [make_set(days, entries=9000, reread_passed=False) for days in range(1, 9)],
        [make_set(days, entries=9000, drill_passed=False) for days in range(1, 9)],
        [make_set(days, entries=9000 if days > 14 else 1000) for days in range(1, 60)],
        [*HISTORY[:3], make_set(0, set_id="tonight", entries=10**9)],
        [HISTORY[0], make_set(2, entries=10**9), *HISTORY[2:]],
    ],
    ids=["too few", "failed", "undrillable", "long ago", "itself", "one outlier"],
)
def test_only_the_median_of_enough_recent_good_sets_counts(history: list[SetSummary]) -> None:
    assert judge_set(USUAL, history, 3.0) == ()


def test_three_good_sets_are_enough_to_compare_with() -> None:
    manifest = make_manifest(make_collection("users", 100, 10_000_000))
    assert len(judge_set(manifest, HISTORY[:3], 3.0)) == 1
    assert judge_set(manifest, HISTORY[:2], 3.0) == ()


def test_the_fifteenth_set_back_decides_nothing() -> None:
    """Of the last 14, half have 1,000 entries and half 2,800: the median is 1,900, with one more 2,800."""
    history = [make_set(days, entries=1000 if days <= 7 else 2800) for days in range(1, 16)]
    assert judge_set(make_manifest(make_collection("users", 800, 10_000_000)), history, 3.0) == ()
    assert len(judge_set(make_manifest(make_collection("users", 600, 10_000_000)), history, 3.0)) == 1


def test_a_size_that_was_accepted_once_is_the_measure_from_then_on() -> None:
    """The newest good set is ten times the median: somebody said that this is right."""
    history = [make_set(1, raw_bytes=100_000_000, entries=10_000), *HISTORY[1:]]
    grown = make_manifest(make_collection("users", 10_000, 100_000_000))
    assert judge_set(grown, history, 3.0) == ()
    for finding in judge_set(USUAL, history, 3.0):
        assert "10.0 times less than the last good set d1, whose size was accepted" in finding
    assert len(judge_set(USUAL, history, 3.0)) == 2


def test_a_size_that_creeps_night_after_night_is_measured_by_the_median() -> None:
    history = [make_set(1, raw_bytes=4_000_000, entries=400), *HISTORY[1:]]
    crept = make_manifest(make_collection("users", 160, 1_600_000))
    assert len(judge_set(crept, history, 3.0)) == 2


def test_the_expected_set_is_one_that_will_have_been_verified() -> None:
    found = expect_summary("s1", "emergency", NOW, "before migration 42")
    assert (found.set_id, found.kind, found.created_at) == ("s1", "emergency", NOW)
    assert (found.reread_passed, found.drill_passed) == (True, None)
    assert (found.pinned, found.leased_by) == ("before migration 42", None)
    assert {found.seconds, found.stored_bytes, found.raw_bytes, found.parts, found.entries} == {0}


def test_the_result_can_be_read_aloud() -> None:
    collections = [make_collection(f"c{n}", 870, 1_182_000, stored=257_000) for n in range(12)]
    assert describe_backup(make_manifest(*collections), 1, 30) == (
        "invoice: 12 collections with 10,440 documents (14.2 MB, 3.1 MB stored) saved and verified in 8 s; "
        "1 old set deleted, 30 kept."
    )
    assert describe_backup(make_postgresql(1), 0, 1, seconds=200.2) == (
        "invoice: 1 table with 1 row (5.0 MB, 1.0 kB stored) saved and verified in 3 min 20 s; "
        "0 old sets deleted, 1 kept."
    )
