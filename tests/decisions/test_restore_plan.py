"""A restore's plan: what it does in which order, what it refuses, and what it rests on."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.corruption import choose_set_before, plan_recovery
from flows.decisions.drift import find_drift
from flows.decisions.drill_plan import refuse_long_names
from flows.decisions.refusal import Refusal
from flows.decisions.restore_plan import RestoreFacts, plan_restore
from tasks.records.backup import (
    ApplicationContent,
    CollectionContent,
    Consistency,
    Manifest,
    MongodbContent,
    RepositoryState,
    SetKind,
    SetSummary,
    StoredObject,
)
from tasks.records.replication import Replication
from tasks.records.service import ServiceProfile

NOW = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)
SET = "20261120T020000Z-nightly-0a1b2c"
BESIDE = "restore_invoice_20261120t020000_"
ASIDE = "aside_invoice_20261120t020000_"


def stored(key: str) -> StoredObject:
    return StoredObject(key=key, bytes=10, sha256="0" * 64, raw_bytes=20)


def collection(documents: int, name: str = "users") -> CollectionContent:
    return CollectionContent(
        database="invoice",
        collection=name,
        kind="collection",
        documents=documents,
        content_hash="f" * 64,
        options="{}",
        indexes=(),
        metadata=stored("mongodb/users.metadata.json.gz"),
        data=stored("mongodb/users.bson.gz"),
    )


def manifest(documents: int = 3, name: str = "users") -> Manifest:
    return Manifest(
        set_id=SET,
        service="invoice",
        kind="nightly",
        reason="",
        started_at=NOW,
        finished_at=NOW + timedelta(seconds=5),
        consistency=Consistency(method="none", moment=None, explanation=""),
        mongodb=MongodbContent(server_version="8", collections=(collection(documents, name),), seconds=1),
        postgresql=None,
        application=ApplicationContent(files=1, content_hash="a" * 64, archive=stored("app"), seconds=1),
        software={},
    )


def facts(**changed: Any) -> RestoreFacts:
    found = RestoreFacts(
        manifest=manifest(), findings=(), real="invoice", identity="abc", databases=("admin", "invoice")
    )
    return replace(found, **changed)


def profile(**application: Any) -> ServiceProfile:
    document: Mapping[str, Any] = {
        "name": "invoice",
        "title": "Invoices",
        "time_zone": "UTC",
        "application": {
            "directory": "/srv/invoice",
            "health_url": "http://127.0.0.1/health",
            "process_manager": "pm2",
            "process_name": "invoice-backend",
            **application,
        },
        "database": {"kind": "mongodb", "url_variable": "MONGODB_URI", "admin_url": "env:ADMIN"},
        "backup": {"destination": {"url": "file:///backups"}, "retention": {"keep_days": 7}},
    }
    return ServiceProfile.model_validate(document)


def verbs(found: Any) -> list[str]:
    return [" ".join(act.what.split()[:2]) for act in found.acts]


def test_the_old_data_goes_last_and_only_when_the_new_is_proven() -> None:
    plan = plan_restore(profile(), facts(), "")
    assert plan.refusal is None
    assert verbs(plan) == [
        "Restore the",
        "Stop invoice-backend",
        "Back up",
        "Put invoice",
        "Start invoice-backend",
        "Drop aside_invoice_20261120t020000_" + plan.aside[-8:],
    ]
    assert plan.beside.startswith(BESIDE)
    assert plan.aside.startswith(ASIDE)
    assert all(act.undo for act in plan.acts)


@pytest.mark.parametrize(
    ("changed", "nothing_to_save", "expected"),
    [
        ({}, "", True),
        ({}, "invoice", False),
        ({"identity": "missing"}, "", False),
        ({"identity": "missing"}, "invoice", False),
    ],
)
def test_what_is_there_is_saved_unless_somebody_typed_that_there_is_nothing(
    changed: dict[str, Any], nothing_to_save: str, expected: bool
) -> None:
    plan = plan_restore(profile(), facts(**changed), nothing_to_save)
    assert plan.saves_first is expected
    assert ("Back up" in verbs(plan)) is expected


def test_migrations_run_before_the_application_starts() -> None:
    plan = plan_restore(profile(migrate_command=["npm", "run", "migrate"]), facts(), "")
    assert verbs(plan)[-3:-1] == ["Run npm", "Start invoice-backend"]


def test_what_a_killed_restore_left_is_dropped_first_and_shown() -> None:
    left = f"{BESIDE}00000000"
    plan = plan_restore(profile(), facts(databases=("invoice", left)), "")
    assert plan.leftovers == (left,)
    assert plan.acts[0].what == f"Drop {left}"


@pytest.mark.parametrize(
    ("changed", "nothing_to_save", "words"),
    [
        ({"findings": ("users is damaged.",)}, "", "is damaged, choose another one. users is damaged."),
        ({"manifest": manifest(0)}, "", "holds no document or row"),
        ({}, "invoices", "type invoice there, or leave it empty"),
        ({}, "yes", "type invoice there, or leave it empty"),
        ({"databases": ("invoice", f"{ASIDE}00000000")}, "", "may be the only copy of what invoice was"),
        ({"real": f"{BESIDE}00000000"}, "", "is called like a scratch database"),
        (
            {"replication": Replication(subscriptions=("orders", "stock"))},
            "",
            "subscribes to changes of another database (orders, stock)",
        ),
        ({"manifest": manifest(name="n" * 220)}, "", "has too long a name"),
        (
            {"manifest": manifest().model_copy(update={"mongodb": None})},
            "",
            "is not of a mongodb database",
        ),
    ],
)
def test_what_must_not_be_restored_is_refused_in_a_sentence(
    changed: dict[str, Any], nothing_to_save: str, words: str
) -> None:
    refusal = plan_restore(profile(), facts(**changed), nothing_to_save).refusal
    assert refusal is not None
    assert words in refusal
    assert refusal.endswith(".")


def test_a_replication_slot_that_goes_with_the_old_data_is_said() -> None:
    plan = plan_restore(profile(), facts(replication=Replication(slots=("warehouse",))), "")
    assert plan.refusal is None
    assert "and with it the replication slot warehouse" in plan.acts[-1].what
    assert "slot" not in plan_restore(profile(), facts(), "").acts[-1].what


@pytest.mark.parametrize(
    ("name", "kind", "fits"),
    [
        ("n" * 214, "collection", True),
        ("n" * 215, "collection", False),
        ("ñ" * 107, "view", True),
        ("ñ" * 108, "view", False),
        ("n" * 199, "timeseries", True),
        ("n" * 200, "timeseries", False),
    ],
)
def test_a_name_that_has_no_room_beside_the_new_databases_says_nothing_against_the_set(
    name: str, kind: str, fits: bool
) -> None:
    named = collection(3).model_copy(update={"collection": name, "kind": kind})
    content = MongodbContent(server_version="8", collections=(named,), seconds=1)
    refusal = refuse_long_names("d" * 40, manifest().model_copy(update={"mongodb": content}))
    assert (refusal is None) is fits
    if refusal is not None:
        assert "MongoDB takes 255" in refusal.reason
        assert "says nothing against set" in refusal.reason


def test_old_data_that_a_journal_may_know_is_nobodys_to_drop() -> None:
    changed = facts(databases=("invoice", f"{ASIDE}00000000"), half_done=("corruption-recovery",))
    refusal = plan_restore(profile(), changed, "").refusal
    assert refusal is not None
    assert f"{ASIDE}00000000 is there, and corruption-recovery is under way or was killed" in refusal
    assert "Leave it alone, and start corruption-recovery again" in refusal
    assert "drop" not in refusal
    # Without old data in the way the plan stands: who applies it waits for the other.
    assert plan_restore(profile(), facts(half_done=("corruption-recovery",)), "").refusal is None


def test_a_database_of_another_service_is_neither_dropped_nor_in_the_way() -> None:
    foreign = ("restore_other_20261120t020000_00000000", "aside_other_20261120t020000_00000000")
    plan = plan_restore(profile(), facts(databases=foreign), "")
    assert plan.refusal is None
    assert plan.leftovers == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"identity": "another"},
        {"real": "elsewhere"},
        {"manifest": manifest(4)},
        {"databases": ("invoice", f"{BESIDE}00000000")},
        {"databases": ("invoice", f"{ASIDE}00000000")},
    ],
)
def test_whatever_the_plan_rests_on_stops_it_when_it_changed(changed: dict[str, Any]) -> None:
    shown = plan_restore(profile(), facts(), "")
    drift = find_drift(shown, plan_restore(profile(), facts(**changed), ""))
    assert drift is not None
    assert "has changed" in drift


def test_a_plan_that_still_holds_is_applied() -> None:
    shown = plan_restore(profile(), facts(), "")
    assert find_drift(shown, plan_restore(profile(), facts(databases=("new", "invoice")), "")) is None


def test_a_recovery_examines_before_it_restores() -> None:
    plan = plan_restore(profile(), facts(), "", "corruption-recovery")
    recovery = plan_recovery(plan, "invoice-backend")
    assert recovery.acts[0].what.startswith("Stop invoice-backend and examine")
    assert recovery.acts[1:] == plan.acts
    assert recovery.rests_on == plan.rests_on


def summary(
    age_hours: int, reread: bool | None, drill: bool | None, kind: SetKind = "nightly", hours: int = 0
) -> SetSummary:
    return SetSummary(
        set_id=f"set-{age_hours:05d}",
        kind=kind,
        created_at=NOW - timedelta(hours=age_hours),
        seconds=3600 * hours,
        stored_bytes=1,
        raw_bytes=1,
        parts=1,
        entries=1,
        reread_passed=reread,
        drill_passed=drill,
        pinned=None,
        leased_by=None,
    )


SUMMARIES = st.lists(
    st.builds(
        summary,
        st.integers(0, 99),
        st.sampled_from([True, False, None]),
        st.sampled_from([True, False, None]),
        st.sampled_from(["nightly", "safety"]),
        st.integers(0, 3),
    ),
    unique_by=lambda found: found.set_id,
)


@given(SUMMARIES, st.one_of(st.none(), st.integers(0, 99)))
def test_a_recovery_goes_back_to_the_newest_sound_set_from_before_the_damage(
    sets: list[SetSummary], damaged_hours_ago: int | None
) -> None:
    since = None if damaged_hours_ago is None else NOW - timedelta(hours=damaged_hours_ago)
    state = RepositoryState(service="invoice", observed_at=NOW, sets=tuple(sets), unfinished=())
    chosen = choose_set_before(state, since)
    sound = {
        found.set_id: found.created_at
        for found in sets
        if found.kind != "safety"
        and found.reread_passed
        and found.drill_passed is not False
        and (since is None or found.created_at + timedelta(seconds=found.seconds) < since)
    }
    if isinstance(chosen, Refusal):
        assert not sound
    else:
        assert sound[chosen] == max(sound.values())
