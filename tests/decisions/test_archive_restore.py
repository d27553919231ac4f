"""Which archive is given back, what the plan says, and when it may be called whole."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.archive_restore import (
    choose_archive,
    describe_restored,
    is_whole,
    plan_archive_restore,
)
from flows.decisions.drift import find_drift
from flows.decisions.refusal import Refusal
from tasks.profiles import read_profile
from tasks.records.archive import ArchiveManifest, ArchivePart
from tasks.records.archive_restore import ArchiveComparison, FoundArchive

PROFILE = read_profile(Path(__file__).parents[2] / "deployments" / "services" / "invoice.yaml")
NIGHT = datetime(2026, 11, 21, 2, tzinfo=UTC)


def manifest(archive_id: str = "one", **changed: Any) -> ArchiveManifest:
    part = ArchivePart(
        number=1, key="k", stored_bytes=5, sha256="a" * 64, raw_bytes=9, raw_sha256="b" * 64, entries=70
    )
    fields = {
        "service": "invoice",
        "rule": "audit-log",
        "archive_id": archive_id,
        "kind": "mongodb",
        "database": "invoice",
        "source": "auditLogs",
        "columns": (),
        "time_field": "timestamp",
        "cutoff": NIGHT - timedelta(days=365),
        "started_at": NIGHT,
        "finished_at": NIGHT,
        "tool_version": "1",
        "parts": (part,),
    }
    return ArchiveManifest.model_validate({**fields, **changed})


FOUND = tuple(FoundArchive(name, manifest(name)) for name in ("one", "two"))


@pytest.mark.parametrize(("wanted", "chosen"), [("latest", "two"), ("one", "one")])
def test_an_archive_is_chosen_by_its_id_or_as_the_newest(wanted: str, chosen: str) -> None:
    assert choose_archive(PROFILE, "audit-log", FOUND, wanted) == manifest(chosen)


@pytest.mark.parametrize(
    ("found", "wanted", "said"),
    [
        ((), "latest", "no archive of a rule 'audit-log'. The profile's rules are: audit-log, expired-otps."),
        (FOUND, "three", "no archive 'three' of the rule audit-log. The newest are: two, one."),
        ((*FOUND, FoundArchive("bad", None, "It is damaged.")), "latest", "It is damaged. Restore another"),
        ((FoundArchive("p", manifest("p", kind="postgresql")),), "p", "restore it by hand"),
    ],
)
def test_there_is_a_reason_where_none_is_chosen(
    found: tuple[FoundArchive, ...], wanted: str, said: str
) -> None:
    refusal = choose_archive(PROFILE, "audit-log", found, wanted)
    assert isinstance(refusal, Refusal)
    assert said in refusal.reason


def test_a_damaged_archive_does_not_stand_in_the_way_of_another() -> None:
    found = (FoundArchive("bad", None, "It is damaged."), *FOUND)
    assert choose_archive(PROFILE, "audit-log", found, "latest") == manifest("two")


def test_the_plan_says_what_is_inserted_and_what_stays() -> None:
    compared = ArchiveComparison(unchanged=20, missing=48, otherwise=2, examples=("id=1", "id=2"))
    plan = plan_archive_restore(PROFILE, manifest(), compared)
    (act,) = plan.acts
    assert act.how_many == "48 of 70 documents"
    assert plan.summary.endswith("There unchanged: 20; not there: 48; there otherwise: 2 (id=1, id=2).")
    assert plan_archive_restore(PROFILE, manifest(), ArchiveComparison(unchanged=70)).acts == ()


@pytest.mark.parametrize(
    ("manifest_now", "compared_now"),
    [
        (manifest(), ArchiveComparison(unchanged=1, missing=69)),
        (manifest(), ArchiveComparison(missing=69, otherwise=1)),
        (manifest("two"), ArchiveComparison(missing=70)),
    ],
)
def test_a_plan_does_not_outlive_what_it_rests_on(
    manifest_now: ArchiveManifest, compared_now: ArchiveComparison
) -> None:
    plan = plan_archive_restore(PROFILE, manifest(), ArchiveComparison(missing=70))
    assert find_drift(plan, plan_archive_restore(PROFILE, manifest(), plan.before)) is None
    drift = find_drift(plan, plan_archive_restore(PROFILE, manifest_now, compared_now))
    assert drift is not None
    assert "Nothing was changed" in drift


@given(st.integers(0, 70), st.data())
def test_only_an_archive_of_which_all_is_there_unchanged_is_whole(missing: int, data: st.DataObject) -> None:
    otherwise = data.draw(st.integers(0, 70 - missing))
    after = ArchiveComparison(unchanged=70 - missing - otherwise, missing=missing, otherwise=otherwise)
    plan = plan_archive_restore(PROFILE, manifest(), ArchiveComparison(missing=70))
    said = describe_restored(plan, after, ("id=1",))
    assert is_whole(after) == (after.unchanged == 70) == ("something else" not in said)
    assert f"{70 - missing} were inserted" in said


def test_what_was_taken_and_is_gone_again_is_not_said_to_have_something_else_in_its_place() -> None:
    plan = plan_archive_restore(PROFILE, manifest(), ArchiveComparison(missing=70))
    said = describe_restored(plan, ArchiveComparison(unchanged=68, missing=2), ())
    assert "2 were taken and not kept: see whether a trigger, or a TTL index" in said
    assert "something else" not in said
