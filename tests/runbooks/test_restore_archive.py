"""restore-archive on both databases: what a cleanup took out is there again, to the byte."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from bson import Int64, Regex, Timestamp
from prefect.client.schemas.objects import State

from flows.audit_log_cleanup import audit_log_cleanup
from flows.restore_archive import restore_archive
from tasks.archives import open_archives
from tasks.journal import list_open_journals
from tasks.opening_cleanup import open_cleanup_source
from tasks.records.archive import ArchiveManifest, ArchivePart
from tests.runbooks.conftest import (
    Children,
    Ledger,
    Ledgers,
    MongodbDatabase,
    PostgresqlDatabase,
    artifacts_of,
    completed,
    cut,
    empty,
    failed,
    flip,
)
from tests.runbooks.test_audit_log_cleanup import Health

NOW = datetime(2026, 11, 21, 2, tzinfo=UTC)
RULE = {"name": "audit", "source": "audit", "time_field": "at", "older_than": "P365D"}


def fill(ledger: Ledger) -> None:
    """Add an audit log of 60 entries, of which 40 are older than a year."""
    if isinstance(ledger.database, PostgresqlDatabase):
        ledger.database.execute(
            "CREATE TABLE audit (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz, "
            "name text UNIQUE, kept json, body bytea);"
            "INSERT INTO audit (at, name, kept, body) "
            "SELECT '2024-01-01'::timestamptz + n * interval '17 days', 'name ' || n, "
            "('{\"b\":  ' || n || '}')::json, decode(md5(n::text), 'hex') "
            "FROM generate_series(1, 60) n"
        )
        return
    assert isinstance(ledger.database, MongodbDatabase)
    collection = ledger.database.database["audit"]
    collection.create_index("name", unique=True)
    collection.create_index("at")
    start = datetime(2024, 1, 1, tzinfo=UTC)
    collection.insert_many(
        {
            "_id": n,
            "at": start + n * timedelta(days=17),
            "name": f"name {n}",
            "odd": [Int64(n), Timestamp(0, n), Regex("a", "i"), float("nan"), {"b": 1, "a": None}],
        }
        for n in range(1, 61)
    )


def clean(ledger: Ledger, started: datetime = NOW, batch: int = 15) -> ArchiveManifest:
    """Take out what is older than a year, as a cleanup does."""
    ledger.change(cleanup={"rules": [RULE]})
    profile = ledger.profile
    (rule,) = profile.cleanup.rules
    archives, cutoff = open_archives(profile), NOW - rule.older_than
    archive_id, parts = archives.new_id(started), list[ArchivePart]()
    with open_cleanup_source(profile) as source:
        columns = source.observe(rule, cutoff).columns
        while entries := source.read_expired(rule, cutoff, batch, 1 << 20):
            parts.append(archives.write_part(rule.name, archive_id, len(parts) + 1, entries))
            assert source.delete(rule, cutoff, entries) == len(entries)
    manifest = ArchiveManifest(
        service=ledger.name,
        rule=rule.name,
        archive_id=archive_id,
        kind=ledger.kind,
        database=ledger.database.name,
        source=rule.source,
        columns=columns,
        time_field=rule.time_field,
        cutoff=cutoff,
        started_at=started,
        finished_at=started,
        tool_version="1",
        parts=tuple(parts),
    )
    archives.publish(manifest)
    return manifest


def restore(ledger: Ledger, **parameters: Any) -> State[Any]:
    return cast("State[Any]", restore_archive(ledger.name, "audit", **parameters, return_state=True))


def change_entry(ledger: Ledger, number: int, name: str) -> None:
    """Let an entry with this identity be there, and be another one."""
    if isinstance(ledger.database, PostgresqlDatabase):
        ledger.database.execute(
            f"INSERT INTO audit OVERRIDING SYSTEM VALUE VALUES ({number}, now(), '{name}') "
            "ON CONFLICT (id) DO UPDATE SET name = excluded.name"
        )
    else:
        assert isinstance(ledger.database, MongodbDatabase)
        audit = ledger.database.database["audit"]
        audit.update_one({"_id": number}, {"$set": {"name": name, "at": NOW}}, upsert=True)


def test_what_a_cleanup_took_out_is_there_again_to_the_byte(ledger: Ledger) -> None:
    fill(ledger)
    before = ledger.database.hash_content()
    older, manifest = clean(ledger, NOW - timedelta(days=1)), clean(ledger)
    assert (older.entries, manifest.entries) == (40, 0)
    assert ledger.database.hash_content() != before

    shown = artifacts_of(state := restore(ledger, archive=older.archive_id, dry_run=True))
    assert "nothing was done" in completed(state)
    assert "40 of 40" in shown["restore-archive-plan-ledger"]
    assert "The next cleanup by this rule takes them out again" in shown["restore-archive-plan-ledger"]
    table = shown["restore-archive-archives-ledger"].splitlines()
    assert [older.archive_id in line for line in table[-2:]] == [False, True]
    assert "| whole |" in table[-1]
    assert "not in this run" in table[-2]

    said = completed(state := restore(ledger, archive=older.archive_id))
    assert "40 were inserted and 40 are in audit now, to the byte." in said
    assert ledger.database.hash_content() == before
    assert "inserting part (3 times)" in artifacts_of(state)["restore-archive-done-ledger"]
    assert list_open_journals(ledger.profile) == ()
    # Once more there is nothing to do, and the newest, which is empty, is whole as well.
    assert "0 were inserted and 40 are in audit" in completed(restore(ledger, archive=older.archive_id))
    assert "0 were inserted" in completed(restore(ledger))
    assert ledger.database.hash_content() == before


def test_what_is_there_otherwise_is_named_and_left_as_it_is(ledger: Ledger) -> None:
    fill(ledger)
    clean(ledger)
    change_entry(ledger, 5, "another")
    # Another entry stands in the way of one whose identity is free.
    change_entry(ledger, 500, "name 7")
    said = failed(state := restore(ledger))
    assert "38 were inserted and 38 are in audit now" in said
    assert "2 could not be, because something else is in their place" in said
    names = ('"5"', '"7"') if ledger.kind == "mongodb" else ("id=5", "id=7")
    assert all(name in said for name in names)
    assert "there otherwise: 1" in artifacts_of(state)["restore-archive-plan-ledger"]
    content = ledger.database.hash_content()
    assert "0 were inserted and 38 are in audit now" in failed(restore(ledger))
    assert ledger.database.hash_content() == content
    assert list_open_journals(ledger.profile) == ()


def test_a_damaged_archive_is_refused_and_nothing_is_inserted(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    fill(ledger)
    manifest = clean(ledger)
    content = ledger.database.hash_content()
    part = ledger.root / manifest.parts[-1].key
    whole = part.read_bytes()
    damages: list[Callable[[Path], object]] = [flip, cut, empty, Path.unlink]
    for damage in damages:
        part.write_bytes(whole)
        damage(part)
        assert part.name in failed(restore(ledger))
    described = part.with_name("manifest.json")
    described.write_text(described.read_text().replace('"ledger"', '"other"'))
    state = restore(ledger)
    assert "copied to where it isn't due. Restore another one." in failed(state)
    assert "DAMAGED" in artifacts_of(state)["restore-archive-archives-ledger"]
    assert ledger.database.hash_content() == content
    assert not (ledger.folder / "state" / "ledger" / "trail.jsonl").exists()


def test_an_archive_that_is_not_there_is_refused_with_those_that_are(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    ledger.change(cleanup={"rules": [RULE]})
    assert "has no archive of a rule 'audit'. The profile's rules are: audit." in failed(restore(ledger))
    fill(ledger)
    manifest = clean(ledger)
    said = failed(restore(ledger, archive="nonsense"))
    assert said.endswith(f"The newest are: {manifest.archive_id}.")


def test_killed_in_the_middle_a_rerun_inserts_what_is_still_missing(
    ledgers: Ledgers, children: Children
) -> None:
    ledger = ledgers.make("mongodb")
    fill(ledger)
    before = ledger.database.hash_content()
    clean(ledger)
    parameters = {"service": ledger.name, "rule": "audit"}
    child = children.start(ledger, "restore_archive", parameters=parameters, kill_after_journal=3)
    assert child.wait() is None
    assert list_open_journals(ledger.profile) == ("restore-archive",)
    assert "25 were inserted and 40 are in audit now, to the byte." in completed(restore(ledger))
    assert ledger.database.hash_content() == before
    assert list_open_journals(ledger.profile) == ()


def test_a_cleanup_and_its_restore_both_killed_leave_a_table_as_it_was(
    ledgers: Ledgers, children: Children
) -> None:
    ledger, health = ledgers.make("postgresql"), Health()
    fill(ledger)
    before = ledger.database.hash_content()
    days = (datetime.now(UTC) - NOW).days + 365
    rule = {**RULE, "older_than": f"P{days}D", "batch": 7}
    ledger.change(cleanup={"rules": [rule]}, application={"health_url": health.url})
    assert children.start(ledger, "audit_log_cleanup", kill_after_journal=4).wait() is None
    completed(cast("State[Any]", audit_log_cleanup(ledger.name, return_state=True)))
    assert ledger.database.hash_content()["audit"] != before["audit"]
    archives = open_archives(ledger.profile)
    made = {name: archives.read_manifest("audit", name).entries for name in archives.list_ids("audit")}
    # What the killed run had deleted, and the rest.
    assert sorted(made.values()) == [19, 21]
    parameters = {"service": ledger.name, "rule": "audit"}
    order = {"kill_when_called": "flows.restore_archive:_conclude"}
    assert children.start(ledger, "restore_archive", parameters=parameters, **order).wait() is None
    for archive_id, entries in made.items():
        said = completed(restore(ledger, archive=archive_id))
        assert f"{entries} are in audit now, to the byte." in said
    assert ledger.database.hash_content() == before
    health.server.shutdown()
    health.server.server_close()
