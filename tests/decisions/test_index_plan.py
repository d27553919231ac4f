"""Which recommended index is there, what a plan does about the others, and that it never drops too much."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.drift import find_drift
from flows.decisions.index_judgement import GOOD, TO_BUILD, judge_index
from flows.decisions.index_naming import name_index, say_drop
from flows.decisions.index_plan import IndexPlan, describe_ground, find_builds, plan_indexes
from tasks.profiles import read_profile
from tasks.records.data_care import RecommendedIndex
from tasks.records.indexes import BuildFacts, DuplicateValue, IndexFacts, ObservedIndexes
from tasks.records.service import ServiceProfile

SERVICES = Path(__file__).parents[2] / "deployments" / "services"
INVOICE = read_profile(SERVICES / "invoice.yaml")
PROPERTYPULSE = read_profile(SERVICES / "propertypulse.yaml")


def want(key: str, *, unique: bool = False, source: str = "users") -> RecommendedIndex:
    """``want("a -b")`` is ascending by a and descending by b."""
    return RecommendedIndex.model_validate(
        {
            "source": source,
            "key": {field.lstrip("-"): -1 if field[0] == "-" else 1 for field in key.split()},
            "unique": unique,
        }
    )


def index(key: str, name: str = "there", source: str = "users", **facts: Any) -> IndexFacts:
    pairs = tuple((field.lstrip("-"), "-1" if field[0] == "-" else "1") for field in key.split())
    return IndexFacts(source=source, name=name, key=pairs, **facts)


def observe(*indexes: IndexFacts, sources: tuple[str, ...] = ("users", "auditLogs")) -> ObservedIndexes:
    return ObservedIndexes(sources=sources, indexes=indexes)


def recommend(*wanted: RecommendedIndex, service: ServiceProfile = INVOICE) -> ServiceProfile:
    return service.model_copy(update={"indexes": wanted})


def plan(
    observed: ObservedIndexes,
    *wanted: RecommendedIndex,
    met: BuildFacts | None = None,
    drop: bool = False,
    service: ServiceProfile = INVOICE,
) -> IndexPlan:
    examined = [(one, met or BuildFacts()) for one in find_builds(wanted, observed)]
    return plan_indexes(recommend(*wanted, service=service), observed, examined, drop_superfluous=drop)


TABLE = [
    # wanted, what is there, state, what it says
    (want("email"), [], "missing", ""),
    (want("email"), [index("email")], "present", ""),
    (want("email", unique=True), [index("email", unique=True)], "present", ""),
    (want("email", unique=True), [index("email", unique=True, is_constraint=True)], "present", ""),
    (want("email"), [index("email", source="auditLogs")], "missing", ""),
    (want("a b"), [index("b a")], "missing", ""),
    (want("a b"), [index("a -b")], "missing", ""),
    (want("a -b"), [index("-a b")], "served", "Served by there."),
    (want("a"), [index("a b")], "served", "Served by there."),
    (want("a"), [index("-a b")], "served", "Served by there."),
    (want("a b"), [index("a")], "missing", ""),
    (want("a"), [index("b a")], "missing", ""),
    (want("a"), [index("a", unique=True)], "served", "Served by there, which is unique as well."),
    (want("a", unique=True), [index("-a", unique=True)], "served", "Served by there."),
    (want("a", unique=True), [index("a b", unique=True)], "missing", ""),
    (want("a", unique=True), [index("a b")], "missing", ""),
    (want("a", unique=True), [index("a")], "different", "there has the same key, but"),
    (want("a", unique=True), [index("a")], "different", "(not unique)"),
    (want("a"), [index("a", special="sparse")], "different", "(sparse)"),
    (want("a"), [index("a", special="hidden")], "different", "(hidden)"),
    (want("a"), [index("a", special="TTL 60 s")], "different", "(TTL 60 s)"),
    (want("a"), [index("a", special='partial {"b": 1}')], "different", '(partial {"b": 1})'),
    (want("a"), [index("a", special="WHERE b > 1", unique=True)], "different", "(WHERE b > 1; unique)"),
    (want("a"), [index("a b", special="sparse")], "missing", ""),
    (want("a"), [index("a", special="INCLUDE (b)")], "present", ""),
    (want("a"), [index("a", special="INCLUDE (b), NULLS NOT DISTINCT")], "different", "NULLS NOT DISTINCT"),
    (want("a"), [index("a", special="sparse"), index("a b", "other")], "served", "Served by other."),
    (want("a"), [index("a", is_valid=False)], "invalid", "left by a build that failed"),
    (want("a"), [index("a", is_valid=False), index("a", "other")], "present", ""),
    (want("a"), [index("a b", is_valid=False)], "missing", ""),
    (want("a"), [index("a", is_valid=False, is_building=True)], "building", "is being built"),
    (want("a", unique=True), [index("a", is_valid=False)], "different", "not unique; left by a build that"),
    (want("a", source="Users"), [], "no source", "There is no Users (there is users): correct the profile."),
    (want("a", source="audit_logs"), [], "no source", "(there is auditLogs)"),
    (want("a", source="elsewhere"), [], "no source", "There is no elsewhere: correct the profile."),
]


@pytest.mark.parametrize(("wanted", "there", "state", "said"), TABLE)
def test_a_recommended_index_is_judged_by_what_is_there(
    wanted: RecommendedIndex, there: list[IndexFacts], state: str, said: str
) -> None:
    verdict = judge_index(wanted, observe(*there))
    assert verdict.state == state
    assert said in verdict.said
    assert bool(verdict.said) == (state not in {"present", "missing"})


@pytest.mark.parametrize(
    ("met", "state", "said"),
    [
        (BuildFacts(columns=("e_mail", "id")), "impossible", "users has no column email (there is e_mail)"),
        (BuildFacts(columns=("email",)), "missing", ""),
        (BuildFacts(columns=("email",), obstacle="it is partitioned"), "impossible", "it is partitioned."),
        (
            BuildFacts(duplicates=(DuplicateValue(count=7, entries=("_id 1", "_id 2")),)),
            "duplicates",
            "1 value of email more than once: _id 1, _id 2 and 5 more. Settle",
        ),
    ],
)
def test_what_stands_in_the_way_of_a_build_is_named(met: BuildFacts, state: str, said: str) -> None:
    verdict = judge_index(want("email", unique=True), observe(), met)
    assert verdict.state == state
    assert said in verdict.said


def test_of_many_duplicates_ten_are_named() -> None:
    met = BuildFacts(duplicates=tuple(DuplicateValue(count=2, entries=(f"_id {n}", "x")) for n in range(11)))
    said = judge_index(want("email", unique=True), observe(), met).said
    assert said.startswith("more than ten values of email")
    assert "_id 9" in said
    assert "_id 10" not in said


def test_one_obstacle_keeps_no_other_index_from_being_built() -> None:
    found = plan(observe(), want("a"), want("a", source="user"), want("b"))
    assert [(step.what, step.name) for step in found.steps] == [("build", "a_1"), ("build", "b_1")]
    (problem,) = found.problems
    assert problem == "the index on user (a): There is no user (there is users): correct the profile."


def test_what_a_failed_build_left_is_built_again_in_its_place() -> None:
    found = plan(observe(index("a", "left", is_valid=False)), want("a"), service=PROPERTYPULSE)
    assert [(step.what, step.name) for step in found.steps] == [("repair", "left")]
    assert not found.drops
    assert not found.superfluous


def test_one_of_two_wanted_serves_for_the_other_if_it_is_built_first() -> None:
    found = plan(observe(), want("a b"), want("a"), want("a b"))
    assert [step.name for step in found.steps] == ["a_1_b_1"]
    assert [verdict.state for verdict in found.verdicts] == ["missing", "served", "present"]


def test_what_another_index_is_in_the_way_of_is_no_problem_if_one_that_is_built_serves_it() -> None:
    observed = observe(index("a", "left", unique=True, is_valid=False))
    assert plan(observed, want("a")).problems != ()
    found = plan(observed, want("a"), want("a b"))
    assert [verdict.state for verdict in found.verdicts] == ["served", "missing"]
    assert found.problems == ()
    assert [one.name for one in found.superfluous] == ["left"]


def test_what_the_build_of_one_order_of_keys_meets_says_nothing_of_another() -> None:
    one, other = want("a b"), want("b a")
    assert one != other
    found = plan(observe(index("a b", "there")), one, other)
    assert [verdict.state for verdict in found.verdicts] == ["present", "missing"]
    assert find_builds([one, other], observe(index("a b", "there"))) == (other,)


def test_a_plan_says_how_to_undo_each_act() -> None:
    there = index("b", "old", definition="CREATE INDEX old ON users (b)", bytes=2_000, unique=True, uses=3)
    made, dropped = plan(observe(there), want("a"), drop=True, service=PROPERTYPULSE).acts
    assert made.what == "Build the index users_a_idx on users (a)"
    assert made.undo == 'DROP INDEX CONCURRENTLY "users_a_idx"'
    assert dropped.what == "Drop old on users (b)"
    assert dropped.undo == "CREATE INDEX old ON users (b)"
    assert "takes the same value twice; it was used 3 times" in dropped.why


@pytest.mark.parametrize(
    ("source", "name", "kind", "said"),
    [
        ("users", "a_1", "mongodb", 'db.getCollection("users").dropIndex("a_1")'),
        ('odd "name"', "a_1", "mongodb", 'db.getCollection("odd \\"name\\"").dropIndex("a_1")'),
        ("users", 'A"b', "postgresql", 'DROP INDEX CONCURRENTLY "A""b"'),
        ("old.users", "a", "postgresql", 'DROP INDEX CONCURRENTLY "old"."a"'),
    ],
)
def test_a_drop_is_said_in_the_servers_own_words(source: str, name: str, kind: Any, said: str) -> None:
    assert say_drop(source, name, kind) == said


def test_a_profile_without_indexes_does_not_let_all_of_them_be_dropped() -> None:
    found = plan(observe(index("a")), drop=True)
    assert found.refusal is not None
    assert "recommends no index" in found.refusal


@pytest.mark.parametrize(
    ("needed", "free", "refused"), [(10, 9, True), (9, 9, False), (10, None, False), (10, 0, True)]
)
def test_indexes_that_the_disk_has_no_room_for_are_refused(
    needed: int, free: int | None, refused: bool
) -> None:
    found = plan(observe(), want("a"), met=BuildFacts(bytes=needed, free_bytes=free))
    assert (found.refusal is not None) == refused


def test_the_room_for_all_builds_together_is_what_counts() -> None:
    met = BuildFacts(bytes=6, free_bytes=10)
    assert plan(observe(), want("a"), met=met).refusal is None
    assert plan(observe(), want("a"), want("b"), met=met).refusal is not None


def test_what_is_being_built_is_not_dropped() -> None:
    found = plan(observe(index("b", is_valid=False, is_building=True)), want("a"), drop=True)
    assert [step.what for step in found.steps] == ["build"]


def test_a_plan_rests_on_the_indexes_of_what_it_changes() -> None:
    found = plan(
        observe(index("a"), index("b", source="auditLogs"), index("c", "left", is_valid=False)), want("d")
    )
    assert found.rests_on == {"indexes of users": "there, left (invalid)"}


OLD = index("b", "old", source="auditLogs", definition="CREATE INDEX old ON auditLogs (b)")


@pytest.mark.parametrize(
    ("now", "is_refused"),
    [
        ([OLD], False),
        # How large it is and how often it is used, moves.
        ([OLD.model_copy(update={"bytes": 9, "uses": 4})], False),
        ([OLD, index("z", "newer", source="auditLogs")], False),
        ([OLD.model_copy(update={"definition": "CREATE INDEX old ON auditLogs (c)"})], True),
        ([OLD.model_copy(update={"is_valid": False})], True),
        ([], True),
    ],
)
def test_a_plan_rests_on_what_it_drops_being_the_same_wherever_it_is(
    now: list[IndexFacts], is_refused: bool
) -> None:
    made = plan(observe(OLD), want("a"), drop=True)
    ground = describe_ground(recommend(want("a")), observe(*now), made.steps)
    drift = find_drift(made, made.model_copy(update={"rests_on": ground}))
    assert (drift is not None) == is_refused
    assert "auditLogs/old was CREATE INDEX old ON auditLogs (b) and is" in (drift or "") or not is_refused


def test_a_name_that_would_be_cut_or_is_taken_becomes_another_one() -> None:
    long = want(" ".join(f"a_quite_long_column_{n}" for n in range(5)))
    name = name_index(long, "postgresql", observe())
    assert len(name) == 63
    assert name != name_index(want("x " + " ".join(long.key)), "postgresql", observe())
    taken = observe(index("b", "users_a_key", source="auditLogs"))
    assert name_index(want("a", unique=True), "postgresql", observe()) == "users_a_key"
    assert name_index(want("a", unique=True), "postgresql", taken) != "users_a_key"
    # A collection's indexes have their names for themselves.
    taken = observe(index("b", "a_1", source="auditLogs"))
    assert name_index(want("a"), "mongodb", taken) == "a_1"
    assert name_index(want("a"), "mongodb", observe(index("b", "a_1"))) != "a_1"


# --- For any indexes and any recommendations ---

SOURCES = ("users", "auditLogs", "größe.x")
FIELDS = st.sampled_from(["a", "b", "-a", "-b", "c"])
KEYS = st.lists(FIELDS, min_size=1, max_size=3, unique_by=lambda field: field.lstrip("-")).map(" ".join)
WANTED = st.builds(want, KEYS, unique=st.booleans(), source=st.sampled_from([*SOURCES, "nowhere"]))
# Two that differ in unique alone contradict each other: one of them always stays a problem.
SEVERAL_WANTED = st.lists(
    WANTED, min_size=1, max_size=5, unique_by=lambda one: (one.source, tuple(one.key.items()))
)
THERE = st.builds(
    index,
    KEYS,
    source=st.sampled_from(SOURCES),
    name=st.text("xyz_1", min_size=1, max_size=6),
    unique=st.booleans(),
    is_constraint=st.booleans(),
    is_valid=st.booleans(),
    special=st.sampled_from(["", "", "sparse", "INCLUDE (d)"]),
)
ANY = st.builds(
    lambda indexes: observe(*indexes, sources=SOURCES),
    st.lists(THERE, max_size=6, unique_by=lambda one: one.name),
)
SERVICE = st.sampled_from([INVOICE, PROPERTYPULSE])


def apply(made: IndexPlan, observed: ObservedIndexes) -> ObservedIndexes:
    """Do as a server does."""
    there = {(one.source, one.name): one for one in observed.indexes}
    for step in made.steps:
        place = step.source, step.name
        if step.what == "drop":
            del there[place]
            continue
        assert (place in there) == (step.what == "repair")
        there[place] = IndexFacts(source=step.source, name=step.name, key=step.key, unique=step.unique)
    return observed.model_copy(update={"indexes": tuple(there.values())})


@given(ANY, SEVERAL_WANTED, SERVICE, st.booleans())
def test_applied_once_a_plan_leaves_nothing_to_do(
    observed: ObservedIndexes, wanted: list[RecommendedIndex], service: ServiceProfile, drop: bool
) -> None:
    first = plan(observed, *wanted, drop=drop, service=service)
    after = apply(first, observed)
    second = plan(after, *wanted, drop=drop, service=service)
    assert second.steps == ()
    assert second.problems == first.problems
    for before, now in zip(first.verdicts, second.verdicts, strict=True):
        assert now.state == before.state or (before.state in TO_BUILD and now.state in GOOD)


@given(ANY, SEVERAL_WANTED, SERVICE, st.booleans())
def test_a_plan_drops_only_what_it_was_asked_to_and_nothing_that_is_needed(
    observed: ObservedIndexes, wanted: list[RecommendedIndex], service: ServiceProfile, drop: bool
) -> None:
    found = plan(observed, *wanted, drop=drop, service=service)
    dropped = {(step.source, step.name) for step in found.steps if step.what == "drop"}
    assert drop or not dropped
    assert found.drops == bool(dropped)
    for verdict in found.verdicts:
        if verdict.facts is not None:
            assert (verdict.facts.source, verdict.facts.name) not in dropped
    for one in observed.indexes:
        assert not (one.is_constraint and (one.source, one.name) in dropped)


@given(ANY, SEVERAL_WANTED, SERVICE)
def test_every_index_is_a_constraints_or_recommended_or_named_as_not_recommended(
    observed: ObservedIndexes, wanted: list[RecommendedIndex], service: ServiceProfile
) -> None:
    found = plan(observed, *wanted, service=service)
    meant = [verdict.facts for verdict in found.verdicts if verdict.facts is not None]
    for one in observed.indexes:
        assert (one in found.superfluous) == (not one.is_constraint and one not in meant)


@given(ANY, SEVERAL_WANTED, SERVICE)
def test_a_new_index_gets_a_name_that_nothing_else_has(
    observed: ObservedIndexes, wanted: list[RecommendedIndex], service: ServiceProfile
) -> None:
    made = [step for step in plan(observed, *wanted, service=service).steps if step.what == "build"]
    names = [(step.source, step.name) for step in made]
    assert len(set(names)) == len(names)
    assert not set(names) & {(one.source, one.name) for one in observed.indexes}
    if service is PROPERTYPULSE:
        assert not {step.name for step in made} & {one.name for one in observed.indexes}
        assert all(len(step.name.encode()) <= 63 for step in made)


@given(ANY, st.lists(WANTED, max_size=5))
def test_only_what_has_to_be_built_is_examined(
    observed: ObservedIndexes, wanted: list[RecommendedIndex]
) -> None:
    builds = find_builds(wanted, observed)
    assert all((one in builds) == (judge_index(one, observed).state in TO_BUILD) for one in wanted)
