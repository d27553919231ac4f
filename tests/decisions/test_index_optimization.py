"""The plan of the care of indexes: from what is there to the exact acts, and what proves them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flows.decisions.database_upkeep import Limits
from flows.decisions.drift import find_drift
from flows.decisions.index_findings import examine, list_findings
from flows.decisions.index_optimization import (
    OptimizationPlan,
    find_unproven,
    measure_after,
    plan_optimization,
    rest_now,
    say_done,
)
from flows.decisions.index_use import Sample, make_sample
from tasks.records.index_care import (
    CareAct,
    CollectionSpace,
    DoneAct,
    IndexBloat,
    IndexCareFacts,
    SequenceState,
    TableState,
    TransactionAge,
)
from tasks.records.indexes import IndexFacts
from tasks.records.service import ServiceProfile

NOW = datetime(2026, 11, 1, 5, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
LIMITS = Limits()
PROFILE = ServiceProfile.model_validate(
    {
        "name": "invoice",
        "title": "Invoices",
        "time_zone": "Australia/Sydney",
        "application": {
            "directory": "/srv/invoice/current",
            "health_url": "http://127.0.0.1:8080/health",
            "process_manager": "pm2",
            "process_name": "invoice-backend",
        },
        "database": {"kind": "postgresql", "url_variable": "DATABASE_URL", "admin_url": "file:/etc/x"},
        "backup": {"destination": {"url": "s3://backups/runbooks"}, "retention": {"keep_days": 30}},
    }
)


COUNTED_BY_ONE = "Uses are those of a:1: each counts its own."


def make_index(name: str, *fields: str, **changed: Any) -> IndexFacts:
    key = tuple((field, "1") for field in fields or (name,))
    definition = f"CREATE INDEX {name} ON users ({', '.join(fields or (name,))})"
    index = {"source": "users", "name": name, "key": key, "bytes": 40_000_000, "definition": definition}
    return IndexFacts(**(index | changed))


def make_facts(*indexes: IndexFacts, **changed: Any) -> IndexCareFacts:
    return IndexCareFacts(**({"observed_at": NOW, "identity": "oid 5", "indexes": indexes} | changed))


def make_table(**changed: Any) -> TableState:
    table = {
        "source": "users",
        "bytes": 90_000_000,
        "live": 100_000,
        "dead": 0,
        "vacuum_above": 20_050,
        "last_vacuum": NOW - 30 * HOUR,
        "modified": 0,
        "analyze_above": 10_050,
        "last_analyze": NOW - 30 * HOUR,
        "index_writes": 12_000,
    }
    return TableState(**(table | changed))


def plan(
    facts: IndexCareFacts, samples: tuple[Sample, ...] = (), *, drop_unused: bool = False
) -> OptimizationPlan:
    return plan_optimization(PROFILE, examine(PROFILE, facts, samples), LIMITS, drop_unused=drop_unused)


def steps(facts: IndexCareFacts, samples: tuple[Sample, ...] = (), *, drop_unused: bool = False) -> list[str]:
    return [f"{step.kind} {step.key}" for step in plan(facts, samples, drop_unused=drop_unused).steps]


def findings(facts: IndexCareFacts, samples: tuple[Sample, ...] = ()) -> dict[str, str]:
    found = list_findings(PROFILE, examine(PROFILE, facts, samples), LIMITS)
    return {finding.sentence: finding.severity for finding in found}


def unused(*indexes: IndexFacts) -> tuple[Sample, ...]:
    """Samples of a month and a day in which nobody used any of them."""
    counted = make_sample(
        [index.model_copy(update={"uses": 3, "uses_since": NOW - 999 * HOUR}) for index in indexes]
    )
    return tuple((NOW - timedelta(days=day), counted) for day in range(31, -1, -1))


# --- What is rebuilt ---


@pytest.mark.parametrize(
    ("wasted", "size", "expected"),
    [
        (0.31, 40_000_000, ["rebuild users/email"]),
        (0.30, 40_000_000, []),
        # Three quarters of little is little.
        (0.75, 13_000_000, []),
        (0.75, 14_000_000, ["rebuild users/email"]),
    ],
)
def test_an_index_is_rebuilt_when_much_of_it_and_many_bytes_are_empty(
    wasted: float, size: int, expected: list[str]
) -> None:
    bloat = IndexBloat(source="users", name="email", wasted=wasted, measured=True)
    facts = make_facts(make_index("email", bytes=size), bloat=(bloat,))
    assert steps(facts) == expected
    assert steps(facts.model_copy(update={"cannot_rebuild": "Too old."})) == []


@pytest.mark.parametrize(("measured", "said"), [(True, "as read page by page"), (False, "as estimated")])
def test_a_plan_says_whether_bloat_was_read_or_estimated(measured: bool, said: str) -> None:
    bloat = IndexBloat(source="users", name="email", wasted=0.5, measured=measured)
    (act,) = plan(make_facts(make_index("email"), bloat=(bloat,))).acts
    assert act.why.startswith(f"50% of it is empty, {said}")


def test_an_invalid_index_is_not_rebuilt_and_what_a_rebuild_left_of_it_is_dropped_first() -> None:
    bloat = tuple(IndexBloat(source="users", name=name, wasted=0.9, measured=True) for name in ("a", "b"))
    left = make_index("a_ccnew", "a", is_valid=False)
    facts = make_facts(make_index("a"), make_index("b", is_valid=False), left, bloat=bloat)
    assert steps(facts) == ["remove users/a_ccnew", "rebuild users/a"]
    assert findings(facts)["The index users/b is not valid: ensure-indexes can repair that."] == "warning"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"name": "a_ccnew1"}, ["remove users/a_ccnew1"]),
        ({"name": "a_ccold"}, ["remove users/a_ccold"]),
        ({"name": "a_ccnew", "is_building": True}, []),
        ({"name": "a_ccnew", "is_valid": True}, []),
        ({"name": "a_ccnewer"}, []),
    ],
)
def test_only_what_a_rebuild_left_and_nobody_works_at_is_dropped(
    changed: dict[str, Any], expected: list[str]
) -> None:
    assert steps(make_facts(make_index(**({"is_valid": False} | changed)))) == expected


def test_collections_are_compacted_on_the_secondaries_before_the_primary() -> None:
    spaces = [
        CollectionSpace(
            source="logs", member=member, is_primary=primary, file_bytes=400_000_000, reusable_bytes=reusable
        )
        for member, primary, reusable in (
            ("a:1", True, 200_000_000),
            ("b:1", False, 200_000_000),
            ("c:1", False, 1),
        )
    ]
    made = plan(make_facts(spaces=tuple(spaces)))
    assert [(step.source, step.member) for step in made.steps] == [("logs", "b:1"), ("logs", "a:1")]
    assert "meanwhile only its indexes cannot be changed" in made.acts[0].why


def test_a_member_that_is_away_is_named_where_the_plan_is_shown_and_among_what_was_found() -> None:
    facts = make_facts(away=("b:1", "c:1"))
    assert plan(facts).summary.endswith(" Left out, for want of an answer: b:1, c:1.")
    said = [f"The member {member} does not answer and is left out" for member in ("b:1", "c:1")]
    assert [level for found, level in findings(facts).items() if found.startswith(tuple(said))] == [
        "warning",
        "warning",
    ]
    assert "Left out" not in plan(make_facts()).summary


@pytest.mark.parametrize(("of", "reusable"), [(1_000_000_000, 300_000_000), (200_000_000, 100_000_000)])
def test_a_little_free_space_is_left_for_the_collection_to_fill(of: int, reusable: int) -> None:
    space = CollectionSpace(
        source="logs", member="", is_primary=False, file_bytes=of, reusable_bytes=reusable
    )
    assert steps(make_facts(spaces=(space,))) == []


# --- Tables ---


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"dead": 26_000}, ["vacuum users"]),
        ({"dead": 26_000, "last_vacuum": None}, ["vacuum users"]),
        ({"dead": 26_000, "last_vacuum": NOW - HOUR / 2}, []),
        ({"dead": 24_000}, []),
        # What autovacuum would not begin yet is not behind.
        ({"dead": 26_000, "vacuum_above": 30_000}, []),
        ({"dead": 900, "live": 100, "vacuum_above": 70}, []),
        ({"modified": 10_051}, ["analyze users"]),
        ({"modified": 10_051, "last_analyze": NOW - HOUR / 2}, []),
        ({"modified": 10_000}, []),
        ({"modified": 900, "analyze_above": 60}, []),
        ({"dead": 26_000, "modified": 26_000}, ["vacuum users"]),
    ],
)
def test_a_table_is_taken_care_of_when_autovacuum_does_not_get_to_it(
    changed: dict[str, Any], expected: list[str]
) -> None:
    assert steps(make_facts(tables=(make_table(**changed),))) == expected


def test_dead_rows_that_a_vacuum_of_a_moment_ago_left_are_somebodys_who_reads() -> None:
    (sentence,) = [
        said
        for said in findings(make_facts(tables=(make_table(dead=90_000, last_vacuum=NOW - HOUR / 2),)))
        if "vacuumed" in said
    ]
    assert "was vacuumed less than 1 h ago and still has 90,000 dead rows" in sentence


@pytest.mark.parametrize(("wasted", "told"), [(100_000_001, True), (100_000_000, False)])
def test_a_table_that_is_mostly_empty_is_named_and_left_to_a_person(wasted: int, told: bool) -> None:
    facts = make_facts(tables=(make_table(bytes=199_000_000, wasted_bytes=wasted),))
    assert any("VACUUM FULL" in said for said in findings(facts)) == told
    large = make_facts(tables=(make_table(bytes=200_000_010, wasted_bytes=100_000_001),))
    assert not any("VACUUM FULL" in said for said in findings(large))
    assert steps(facts) == []


# --- What a person must know ---


@pytest.mark.parametrize(("last", "severity"), [(75, None), (76, "warning"), (90, "warning"), (91, "alarm")])
def test_a_sequence_near_its_end_is_told_before_it_stops_the_application(
    last: int, severity: str | None
) -> None:
    sequence = SequenceState(name="public.users_id_seq", last=last, limit=100, feeds="users.id")
    told = [
        level
        for sentence, level in findings(make_facts(sequences=(sequence,))).items()
        if "users_id_seq" in sentence
    ]
    assert told == ([severity] if severity else [])


@pytest.mark.parametrize(
    ("age", "severity"), [(1_000_000_000, None), (1_000_000_001, "warning"), (1_500_000_001, "alarm")]
)
def test_old_transactions_are_told_with_what_holds_them(age: int, severity: str | None) -> None:
    old = TransactionAge(
        counter="transaction ids", age=age, vacuum_above=200_000_000, held_by="the replication slot gone"
    )
    told = {said: level for said, level in findings(make_facts(ages=(old,))).items() if "oldest" in said}
    assert list(told.values()) == ([severity] if severity else [])
    assert all("the replication slot gone keeps vacuum from it" in sentence for sentence in told)


def test_findings_come_worst_first() -> None:
    sequences = tuple(
        SequenceState(name=name, last=last, limit=100, feeds="users.id")
        for name, last in (("b", 80), ("a", 95))
    )
    assert list(findings(make_facts(sequences=sequences)).values()) == ["alarm", "warning", "minor"]


def test_where_the_server_does_not_count_nothing_is_unused_and_the_report_says_why() -> None:
    index = make_index("email")
    facts = make_facts(index, uncounted="this server does not count uses.")
    assert findings(facts, unused(index)) == {
        "No index is called unused: this server does not count uses.": "minor"
    }
    assert steps(facts, unused(index), drop_unused=True) == []


def test_before_the_time_is_over_no_index_is_unused_and_the_report_says_so() -> None:
    index = make_index("email")
    said = "No index is called unused yet: uses were watched for 20 days, and the profile's "
    said += "queries.unused_for is 30 days."
    assert findings(make_facts(index), unused(index)[11:]) == {said: "minor"}


# --- What may go ---


def test_an_unused_index_is_named_and_dropped_only_when_that_is_asked_for() -> None:
    index = make_index("email", bytes=12_000_000)
    assert findings(make_facts(index), unused(index)) == {
        "The index users/email (12.0 MB) may go: nobody used it for 31 days.": "warning"
    }
    (sentence,) = findings(make_facts(index, tables=(make_table(),)), unused(index))
    assert "(12.0 MB, written to 12,000 times since statistics began) may go" in sentence
    assert steps(make_facts(index), unused(index)) == []
    made = plan(make_facts(index), unused(index), drop_unused=True)
    assert made.drops
    assert made.acts[0].undo == "make it again by CREATE INDEX email ON users (email)"
    assert made.steps[0].definition == index.definition


@pytest.mark.parametrize(
    ("name", "counted_by", "expected"),
    [
        ("email", "", "Nobody used it for 31 days"),
        ("email", COUNTED_BY_ONE, "Nobody used it for 31 days. Uses are those of a:1: each counts its own"),
        ("name", "", "both begins with the same keys and serves its queries"),
        # Another index serves wherever that one would have been read.
        ("name", COUNTED_BY_ONE, "both begins with the same keys and serves its queries"),
    ],
)
def test_who_agrees_to_drop_an_unused_index_is_told_whose_uses_were_counted(
    name: str, counted_by: str, expected: str
) -> None:
    email, one, both = make_index("email"), make_index("name"), make_index("both", "name", "born")
    made = plan(make_facts(email, one, both, counted_by=counted_by), unused(email), drop_unused=True)
    assert {act.what: act.why for act in made.acts}[f"Drop the index users/{name}"] == expected


def test_an_index_that_is_dropped_is_not_rebuilt_before() -> None:
    index = make_index("email")
    bloat = IndexBloat(source="users", name="email", wasted=0.9, measured=True)
    facts = make_facts(index, bloat=(bloat,))
    assert steps(facts, unused(index), drop_unused=True) == ["drop users/email"]
    assert steps(facts, unused(index)) == ["rebuild users/email"]


def test_a_plan_rests_on_what_it_drops_being_the_same_and_still_superfluous() -> None:
    email, name, both = make_index("email"), make_index("name"), make_index("both", "name", "born")
    facts, samples = make_facts(email, name, both), unused(email)
    made = plan(facts, samples, drop_unused=True)
    assert {step.name for step in made.steps} == {"email", "name"}

    def drift(facts: IndexCareFacts, samples: tuple[Sample, ...] = samples) -> str:
        return find_drift(made, rest_now(made, examine(PROFILE, facts, samples))) or ""

    assert drift(facts) == ""
    used = make_sample([email.model_copy(update={"uses": 4, "uses_since": NOW - 999 * HOUR})])
    assert "unused and is CREATE INDEX email ON users (email), needed" in drift(
        facts, (*samples, (NOW + HOUR, used))
    )
    assert "both serves instead" in drift(make_facts(email, name))
    assert "users/email was" in drift(make_facts(name, both))
    assert "database was oid 5 and is oid 6" in drift(facts.model_copy(update={"identity": "oid 6"}))


# --- What proves it ---


def test_an_act_is_proven_by_what_is_there_afterwards() -> None:
    index = make_index("email", bytes=30)
    rebuild = CareAct(kind="rebuild", source="users", name="email", bytes=90, definition=index.definition)
    drop = CareAct(kind="drop", source="users", name="name", bytes=10)
    done = [DoneAct(act=rebuild, after=30), DoneAct(act=drop, after=0)]
    assert list(find_unproven(done, make_facts(index))) == []
    assert say_done(done) == "2 acts of care done, 70 bytes given back."
    assert list(find_unproven(done, make_facts(index, make_index("name")))) == [
        "users/name was dropped and is still there."
    ]
    not_there = "users/email was rebuilt, and there is no valid index of that name."
    assert list(find_unproven(done, make_facts())) == [not_there]
    invalid = index.model_copy(update={"is_valid": False})
    assert list(find_unproven(done, make_facts(invalid))) == [not_there]
    other = index.model_copy(update={"definition": "CREATE INDEX email ON users (mail)"})
    (sentence,) = find_unproven(done, make_facts(other))
    assert "is another index now" in sentence
    left = make_index("email_ccnew", "email", is_valid=False)
    (sentence,) = find_unproven(done, make_facts(index, left))
    assert sentence.startswith("users/email_ccnew is left of a rebuild")
    failed = [DoneAct(act=rebuild, problem="Somebody was in the way.")]
    assert list(find_unproven(failed, make_facts(index, left))) == ["Somebody was in the way."]


def test_what_failed_says_why_and_gives_nothing_back() -> None:
    act = CareAct(kind="vacuum", source="users", bytes=90)
    done = [DoneAct(act=act, after=10, problem="users is locked.")]
    assert list(find_unproven(done, make_facts())) == ["users is locked."]
    assert say_done(done) == "0 acts of care done, 0 bytes given back."


def test_sizes_are_measured_again_of_what_each_act_concerned() -> None:
    space = CollectionSpace(source="users", member="b:1", is_primary=False, file_bytes=7, reusable_bytes=0)
    facts = make_facts(make_index("email", bytes=30), tables=(make_table(bytes=50),), spaces=(space,))
    acts = {
        CareAct(kind="rebuild", source="users", name="email"): 30,
        CareAct(kind="rebuild", source="users", name="gone"): None,
        CareAct(kind="drop", source="users", name="gone"): 0,
        CareAct(kind="vacuum", source="users"): 50,
        CareAct(kind="compact", source="users", member="b:1"): 7,
        CareAct(kind="compact", source="users", member="a:1"): None,
    }
    assert {act: measure_after(act, facts) for act in acts} == acts
