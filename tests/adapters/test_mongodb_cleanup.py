"""What a cleanup rule meets, reads and deletes in MongoDB: the same to the byte, and nothing else."""

import functools
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import BSON, encode
from bson.raw_bson import RawBSONDocument
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient, monitoring

from deployments.sandbox.endpoints import Endpoints
from tasks.errors import ConfigurationError, UnreachableError
from tasks.mongodb import RAW
from tasks.mongodb_cleanup import MongodbCleanup
from tasks.mongodb_replication import find_lag
from tasks.records import cleanup
from tasks.records.data_care import CleanupRule

CUTOFF = datetime(2025, 11, 22, tzinfo=UTC)
RULE = CleanupRule(name="audit-log", source="audit", time_field="at", older_than=timedelta(days=365))
MANY = 10_000
LARGE = 1 << 24
Document = dict[str, Any]


def days(number: float) -> datetime:
    """So many days after the cutoff, or before it."""
    return CUTOFF + timedelta(days=number)


class Audit:
    """A small collection of a test's own."""

    def __init__(self, endpoints: Endpoints) -> None:
        admin_url = endpoints.mongodb_admin_url
        self.name = f"cleanup_{os.getpid()}_{time.monotonic_ns() % 10**12}"
        self.url = admin_url.replace("/admin?", f"/{self.name}?")
        self.client: MongoClient[Document] = MongoClient(admin_url)
        self.database = self.client[self.name]
        self.collection = self.database["audit"]
        self.collection.create_index("at")
        self.admin_url = admin_url
        self.source = MongodbCleanup(self.url, self.admin_url)

    def fill(self, *documents: Document) -> None:
        self.source.close()
        self.source = MongodbCleanup(self.url, self.admin_url)
        self.collection.delete_many({})
        if documents:
            self.collection.insert_many(list(documents))

    def raw(self) -> set[bytes]:
        found = self.database.with_options(RAW)["audit"].find({})
        return {bytes(document.raw) for document in found}

    def read(self, rule: CleanupRule = RULE, most: int = MANY, size: int = LARGE) -> tuple[bytes, ...]:
        return self.source.read_expired(rule, CUTOFF, most, size)

    def delete(self, *entries: bytes, rule: CleanupRule = RULE) -> int:
        return self.source.delete(rule, CUTOFF, entries)


@pytest.fixture(scope="module")
def audit(endpoints: Endpoints) -> Iterator[Audit]:
    made = Audit(endpoints)
    yield made
    made.source.close()
    made.client.drop_database(made.name)
    made.client.close()


def identities(entries: tuple[bytes, ...]) -> list[Any]:
    return [RawBSONDocument(entry, RAW)["_id"] for entry in entries]


def held(query: Document | str) -> CleanupRule:
    return RULE.model_copy(update={"legal_hold": query})


# --- What it meets ---


def test_what_has_expired_is_counted_by_month_with_its_bytes(audit: Audit) -> None:
    documents: list[Document] = [{"_id": n, "at": days(-40 - n % 2 * 30)} for n in range(10)]
    audit.fill(*documents, {"_id": "young", "at": days(0)}, {"_id": "none"}, {"_id": "null", "at": None})
    facts = audit.source.observe(RULE, CUTOFF)
    size = len(encode(documents[0]))
    assert [(m.month, m.entries, m.raw_bytes) for m in facts.months] == [
        ("2025-09", 5, 5 * size),
        ("2025-10", 5, 5 * size),
    ]
    assert (facts.entries, facts.without_time, facts.wrong_type, facts.held) == (13, 2, 0, 0)
    assert (facts.exists, facts.has_time_field, facts.newest) == (True, True, CUTOFF)
    assert facts.index == "at_1"
    assert audit.source.measure("audit")[0] == 13


def test_months_are_the_same_when_the_server_cannot_count_them(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit.fill({"_id": 1, "at": days(-40)}, {"_id": 2, "at": days(-400), "text": "x" * 99})
    counted = audit.source.observe(RULE, CUTOFF).months
    monkeypatch.setattr("tasks.mongodb_cleanup_facts._SIZE", {"$sizeThatNoServerKnows": "$$ROOT"})
    assert len(counted) == 2
    assert audit.source.observe(RULE, CUTOFF).months == counted


def test_a_value_that_is_no_time_is_counted_and_shown(audit: Audit) -> None:
    wrong: list[Any] = ["2020-01-01T00:00:00Z", 1577836800, {"$x": 1}, [days(-400)], True]
    audit.fill({"_id": 0, "at": days(-1)}, *({"_id": n, "at": value} for n, value in enumerate(wrong, 1)))
    facts = audit.source.observe(RULE, CUTOFF)
    assert facts.wrong_type == len(wrong)
    assert facts.wrong_type_example == "_id 1, which has a value of type str"


def test_a_collection_or_field_that_nobody_has_is_told_apart(audit: Audit) -> None:
    audit.fill({"_id": 1, "at": days(-1)})
    typo = RULE.model_copy(update={"source": "adit"})
    facts = audit.source.observe(typo, CUTOFF)
    assert (facts.exists, facts.others) == (False, ("audit",))
    no_field = RULE.model_copy(update={"time_field": "created"})
    facts = audit.source.observe(no_field, CUTOFF)
    assert (facts.has_time_field, facts.without_time, facts.index) == (False, 1, None)
    audit.fill()
    assert audit.source.observe(no_field, CUTOFF).has_time_field


def test_a_view_and_a_capped_collection_are_obstacles(audit: Audit) -> None:
    audit.database.create_collection("seen", viewOn="audit", pipeline=[])
    audit.database.create_collection("ring", capped=True, size=4096)
    for name, said in (("seen", "is a view"), ("ring", "is capped")):
        (obstacle,) = audit.source.observe(RULE.model_copy(update={"source": name}), CUTOFF).obstacles
        assert said in obstacle


def test_a_partial_or_hidden_index_is_not_taken_for_one_that_serves(audit: Audit) -> None:
    other = audit.database["other"]
    other.insert_one({"_id": 1, "at": days(-1)})
    other.create_index("at", partialFilterExpression={"kind": 1})
    other.create_index([("kind", 1), ("at", 1)])
    rule = RULE.model_copy(update={"source": "other"})
    assert audit.source.observe(rule, CUTOFF).index is None
    other.create_index([("at", -1), ("kind", 1)], name="serves")
    assert audit.source.observe(rule, CUTOFF).index == "serves"


def test_a_large_collection_without_an_index_is_not_read_to_be_counted(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleanup, "MOST_WITHOUT_INDEX", 2)
    large = audit.database["large"]
    large.insert_many([{"_id": n, "at": days(-n)} for n in range(1, 4)])
    rule = RULE.model_copy(update={"source": "large"})
    facts = audit.source.observe(rule, CUTOFF)
    assert (facts.needs_index, facts.is_counted, facts.has_time_field, facts.months) == (
        True,
        False,
        True,
        (),
    )
    assert not audit.source.observe(rule.model_copy(update={"time_field": "att"}), CUTOFF).has_time_field
    large.create_index("at")
    assert audit.source.observe(rule, CUTOFF).expired == large.count_documents({})


@pytest.mark.parametrize(
    ("changed", "said"),
    [({}, True), ({"archive": False, "legal_hold": {"kind": 1}}, True), ({"archive": False}, False)],
)
def test_what_the_server_deletes_by_itself_is_said_to_whoever_wants_an_archive_or_a_hold(
    audit: Audit, changed: dict[str, Any], *, said: bool
) -> None:
    audit.database["expiring"].create_index("at", name="by_age", expireAfterSeconds=86_400)
    audit.database["expiring"].create_index([("kind", 1), ("at", 1)])
    found = audit.source.observe(RULE.model_copy(update={"source": "expiring", **changed}), CUTOFF).cautions
    sentence = (
        "by its index by_age the server itself deletes what of expiring is older than 1 day, without an "
        "archive and whatever the legal_hold says."
    )
    assert found == ((sentence,) if said else ())


# --- What it reads ---


def test_the_oldest_come_first_and_a_read_ends_with_the_document_that_reaches_the_size(audit: Audit) -> None:
    audit.fill(*({"_id": n, "at": days(-n), "pad": "x" * 100} for n in range(1, 8)))
    assert identities(audit.read(most=3)) == [7, 6, 5]
    (entry,) = audit.read(most=1)
    assert identities(audit.read(size=2 * len(entry))) == [7, 6]
    assert identities(audit.read(size=1)) == [7]


def test_reading_goes_on_behind_what_was_deleted_and_comes_back_for_what_changed(audit: Audit) -> None:
    audit.fill(*({"_id": n, "at": days(-1000 + n * n)} for n in range(20)))
    seen: list[Any] = []
    changed = False
    while entries := audit.read(most=4):
        if not changed:
            audit.collection.update_one({"_id": 1}, {"$set": {"changed": True}})
            changed = True
        seen += identities(entries)
        audit.delete(*entries)
    assert sorted(seen) == [0, 1, *range(1, 20)]
    assert audit.raw() == set()


def test_reading_begins_where_it_is_told_and_older_ones_that_came_since_are_last(audit: Audit) -> None:
    audit.fill(*({"_id": n, "at": days(-500 + n)} for n in range(9)), {"_id": "older", "at": days(-900)})
    seen: list[Any] = []
    while entries := audit.source.read_expired(RULE, CUTOFF, 4, LARGE, days(-500)):
        seen += identities(entries)
        audit.delete(*entries)
    assert seen == [*range(9), "older"]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ages=st.lists(st.integers(-5, 5) | st.sampled_from([-1000, 1000]), min_size=1, max_size=12),
    most=st.integers(1, 5),
)
def test_exactly_what_is_older_than_the_cutoff_goes(audit: Audit, ages: list[int], most: int) -> None:
    moments = [CUTOFF + timedelta(milliseconds=age) for age in ages]
    documents = [{"_id": n, "at": moment} for n, moment in enumerate(moments)]
    audit.fill(*documents)
    gone: list[bytes] = []
    while entries := audit.read(most=most):
        assert audit.delete(*entries) == len(entries)
        gone += entries
    young = {n for n, moment in enumerate(moments) if moment >= CUTOFF}
    assert audit.raw() == {encode(documents[n]) for n in young}
    assert sorted(gone) == sorted(encode(document) for document in documents if document["_id"] not in young)


# --- What it deletes ---


def test_what_changed_since_it_was_read_or_is_young_or_not_there_stays(audit: Audit) -> None:
    audit.fill(*({"_id": n, "at": days(-n)} for n in range(1, 6)), {"_id": 9, "at": days(1)})
    entries = audit.read()
    audit.collection.update_one({"_id": 2}, {"$set": {"at": days(-2.5)}})
    audit.collection.update_one({"_id": 3}, {"$set": {"more": 1}})
    audit.collection.update_one({"_id": 4}, {"$set": {"at": days(2)}})
    young = encode({"_id": 9, "at": days(1)})
    unknown = encode({"_id": 77, "at": days(-3)})
    assert audit.delete(*entries, young, unknown) == 2
    assert sorted(audit.collection.distinct("_id")) == [2, 3, 4, 9]
    assert audit.delete(*entries) == 0
    assert audit.delete() == 0


def test_a_stranger_between_the_documents_stays(audit: Audit) -> None:
    audit.fill(*({"_id": n, "at": days(-n)} for n in range(1, 6)))
    entries = audit.read()
    audit.collection.insert_one({"_id": "late", "at": days(-2.5)})
    assert audit.delete(*entries) == 5
    assert audit.collection.distinct("_id") == ["late"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    documents=st.lists(
        st.tuples(st.integers(-9, 3), st.sampled_from(["ours", "changed", "gone", "stranger"])),
        min_size=1,
        max_size=20,
    ),
    size=st.integers(1, 4),
)
def test_in_commands_of_any_size_exactly_what_is_ours_old_and_unchanged_goes(
    audit: Audit, documents: list[tuple[int, str]], size: int
) -> None:
    known: list[Document] = [
        {"_id": n, "at": CUTOFF + timedelta(milliseconds=age), "is": what}
        for n, (age, what) in enumerate(documents)
    ]
    ours = [encode(document) for document in known if document["is"] != "stranger"]
    there = [
        {**document, "more": 1} if document["is"] == "changed" else document
        for document in known
        if document["is"] != "gone"
    ]
    audit.fill(*there)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.mongodb_short_commands._READ_AGAIN", size)
        patch.setattr("tasks.mongodb_short_commands.Pace.learn", lambda pace, *_: None)
        audit.source._deleting.documents = size
        stay = {
            encode(document) for document in there if document["is"] != "ours" or document["at"] >= CUTOFF
        }
        assert audit.delete(*ours) == len(there) - len(stay)
    assert audit.raw() == stay


class Spans(monitoring.CommandListener):
    """When each command that reads or deletes began and ended."""

    def __init__(self) -> None:
        self.begun: list[float] = []
        self.ended: list[float] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name in {"find", "delete"}:
            self.begun.append(time.monotonic())

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        if event.command_name in {"find", "delete"}:
            self.ended.append(time.monotonic())

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        pass


def test_users_have_the_server_to_themselves_for_a_moment_between_any_two_commands(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = Spans()
    monkeypatch.setattr("tasks.mongodb.MongoClient", functools.partial(MongoClient, event_listeners=[spans]))
    audit.fill(*({"_id": n, "at": days(-400 + n / 10)} for n in range(300)))
    for _ in range(3):
        audit.delete(*audit.read(most=100))
    assert audit.collection.count_documents({}) == 0
    between = [later - earlier for earlier, later in zip(spans.ended, spans.begun[1:], strict=False)]
    assert len(between) > 20
    assert min(between) >= 0.001


def test_documents_of_one_moment_are_deleted_batch_by_batch(audit: Audit) -> None:
    audit.fill(*({"_id": n, "at": days(-1)} for n in range(60)))
    entries = audit.read()
    assert audit.delete(*entries[:7]) == 7
    assert audit.raw() == set(entries[7:])


def test_what_the_legal_hold_names_is_neither_read_nor_deleted(audit: Audit) -> None:
    audit.fill(*({"_id": n, "at": days(-n), "org": "AB"[n % 2]} for n in range(1, 7)))
    entries = audit.read()
    rule = held({"org": "A"})
    assert audit.source.observe(rule, CUTOFF).held == 3
    assert audit.source.observe(rule, CUTOFF).expired == 3
    assert identities(audit.read(rule)) == [5, 3, 1]
    assert audit.delete(*entries, rule=rule) == 3
    assert audit.collection.distinct("org") == ["A"]


def test_a_legal_hold_is_extended_json(audit: Audit) -> None:
    audit.fill({"_id": 1, "at": days(-5)}, {"_id": 2, "at": days(-2)})
    since = {"at": {"$gte": {"$date": days(-3).isoformat()}}}
    assert identities(audit.read(held(since))) == [1]
    for wrong in ("org = 'A'", {}, {"at": {"$date": "nonsense"}}):
        with pytest.raises(ConfigurationError, match="legal_hold of the rule audit-log"):
            audit.read(held(wrong))


def test_without_transactions_a_document_goes_only_as_it_was_read(
    audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.mongodb_cleanup.has_transactions", lambda client: False)
    audit.fill(*({"_id": n, "at": days(-n), "org": "AB"[n % 2], "n": n} for n in range(1, 6)))
    entries = audit.read()
    audit.collection.update_one({"_id": 2}, {"$set": {"more": 1}})
    assert audit.delete(*entries, rule=held({"org": "B"})) == 1
    assert sorted(audit.collection.distinct("_id")) == [1, 2, 3, 5]


# --- What it puts back ---


def test_only_what_is_missing_is_inserted_and_what_is_there_otherwise_is_named(audit: Audit) -> None:
    audit.fill(*({"_id": n, "at": days(-n)} for n in range(1, 6)))
    entries = audit.read()
    audit.collection.delete_many({"_id": {"$lte": 2}})
    audit.collection.update_one({"_id": 3}, {"$set": {"more": 1}})
    identity = '{"$numberInt": "3"}'
    assert audit.source.compare("audit", (), entries) == (2, (identity,))
    assert audit.source.insert_missing("audit", (), entries) == (2, (identity,))
    assert audit.source.compare("audit", (), entries) == (0, (identity,))
    assert audit.collection.find_one({"_id": 3}) == {"_id": 3, "at": days(-3).replace(tzinfo=None), "more": 1}
    assert set(entries) - audit.raw() == {entry for entry in entries if BSON(entry).decode()["_id"] == 3}


def test_a_url_that_prefers_secondaries_is_no_obstacle_to_a_transaction(audit: Audit) -> None:
    audit.fill({"_id": 1, "at": days(-3)}, {"_id": 2, "at": days(1)})
    preferring = (
        f"{audit.url}&readPreference=secondaryPreferred&readPreferenceTags=dc:ny&maxStalenessSeconds=90"
    )
    source = MongodbCleanup(preferring, audit.admin_url)
    try:
        entries = source.read_expired(RULE, CUTOFF, MANY, LARGE)
        assert source.delete(RULE, CUTOFF, entries) == 1
    finally:
        source.close()
    assert audit.collection.count_documents({}) == 1


# --- The server itself ---


def test_the_servers_clock_and_lag_are_read(audit: Audit) -> None:
    audit.fill()
    assert abs(audit.source.read_clock() - datetime.now(UTC)) < timedelta(minutes=1)
    assert audit.source.read_lag() == 0.0


@pytest.mark.parametrize(
    ("members", "lag"),
    [
        ([("a", 1, 60), ("b", 2, 58), ("c", 2, 20), ("d", 8, 0)], 40),
        # Without a primary, nobody knows; and a replica may have said so later than the primary.
        ([("b", 2, 60), ("c", 2, 20)], 0),
        ([("a", 1, 20), ("b", 2, 21)], 0),
        # Behind on purpose by a minute, and two seconds more.
        ([("a", 1, 80), ("b", 2, 79), ("delayed", 2, 18)], 2),
    ],
)
def test_the_lag_is_that_of_the_slowest_replica(members: list[tuple[str, int, int]], lag: float) -> None:
    states = {1: "PRIMARY", 2: "SECONDARY", 8: "DOWN"}
    status = {
        "members": [
            {
                "name": name,
                "state": state,
                "stateStr": states[state],
                "health": 1.0,
                "optimeDate": CUTOFF + timedelta(seconds=seconds),
            }
            for name, state, seconds in members
        ]
    }
    assert find_lag(status, {"delayed": 60.0}) == lag


def test_a_server_that_is_gone_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.mongodb._SELECTION_MILLISECONDS", 300)
    gone = "mongodb://127.0.0.1:9/nothing?directConnection=true"
    with pytest.raises(UnreachableError):
        MongodbCleanup(gone, gone).read_expired(RULE, CUTOFF, 1, 1)
