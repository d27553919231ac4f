"""The restore drill: what was saved comes back, what is damaged is named, the real database is left alone."""

import gzip
import hashlib
import json
import random
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import bson
import pytest

from deployments.sandbox.stack import Sandbox
from flows.decisions.drill_plan import choose_set, is_scratch_database, name_scratch_database
from flows.decisions.refusal import Refusal
from tasks.backup_manifest import format_manifest
from tasks.backup_sets import locate_set
from tasks.lease_generations import write_first
from tasks.leases import hold_lease
from tasks.profiles import SERVICES_VARIABLE
from tasks.records.backup import Manifest, StoredObject
from tasks.records.lease import Lease
from tasks.verification import reread_application, reread_collection, reread_dump
from tests.runbooks.conftest import (
    KINDS,
    Children,
    Kind,
    Ledger,
    Ledgers,
    MongodbDatabase,
    artifacts_of,
    completed,
    cut,
    failed,
    flip,
    wait_until,
)


def scratch_databases(ledger: Ledger) -> set[str]:
    return {name for name in ledger.database.names_on_server() if is_scratch_database(name, ledger.name)}


# --- A good drill ---


def test_a_set_comes_back_as_it_was_saved_and_the_real_database_is_left_alone(ledger: Ledger) -> None:
    before = ledger.database.hash_content()
    set_id = ledger.must_back_up()

    state = ledger.drill()

    parts, entries = (5, 452) if ledger.kind == "mongodb" else (2, 450)
    message = completed(state)
    assert message.startswith(f"ledger: set {set_id} was restored in ")
    assert message.endswith(
        f" s and is what was saved: {parts} collections or tables, {entries} documents or rows."
    )
    assert [(verdict.kind, verdict.passed) for verdict in ledger.verdicts(set_id)] == [
        ("reread", True),
        ("drill", True),
    ]
    assert "# Restore drill passed" in artifacts_of(state)["restore-drill-verdict-ledger"]
    assert ledger.database.hash_content() == before
    assert scratch_databases(ledger) == set()


def test_what_changed_since_the_backup_is_no_difference(ledger: Ledger) -> None:
    ledger.must_back_up()
    ledger.database.grow(5)
    completed(ledger.drill())


def test_an_older_set_or_the_latest_verified_one_is_drilled_when_it_is_wanted(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    older = ledger.must_back_up()
    latest = ledger.must_back_up()
    ledger.store.delete(ledger.keys(f"verifications/{latest}")[0])
    assert older in completed(ledger.drill(wanted_set="latest-verified"))
    assert older in completed(ledger.drill(wanted_set=older))
    assert latest in completed(ledger.drill())


def test_a_dry_run_says_which_set_would_be_restored_where(ledger: Ledger) -> None:
    set_id = ledger.must_back_up()
    before, databases = ledger.listing(), ledger.database.names_on_server()
    message = completed(ledger.drill(dry_run=True))
    scratch = name_scratch_database("ledger", set_id)
    assert message == f"ledger: dry run, set {set_id} would be restored into {scratch}; nothing was done."
    assert ledger.listing() == before
    assert ledger.database.names_on_server() == databases


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ("latest", "ledger has no backup set. There are no sets: run the backup first."),
        ("latest-verified", "ledger has no set that passed its reread and failed no drill."),
        ("20260101T000000Z-nightly-abcdef", "ledger has no set '20260101T000000Z-nightly-abcdef'."),
    ],
)
def test_a_set_that_is_not_there_is_refused(ledgers: Ledgers, wanted: str, sentence: str) -> None:
    ledger = ledgers.make("postgresql")
    assert failed(ledger.drill(wanted_set=wanted)).startswith(sentence)
    assert scratch_databases(ledger) == set()


def test_a_set_of_the_database_that_a_service_had_before_is_refused_and_not_judged(ledgers: Ledgers) -> None:
    """Nothing of it could be restored, and nothing would differ."""
    before = ledgers.make("postgresql")
    set_id = before.must_back_up()
    ledger = ledgers.make("mongodb")
    ledger.change(backup={"destination": {"url": before.root.as_uri()}})

    for dry_run in (True, False):
        message = failed(ledger.drill(dry_run=dry_run))
        assert message.startswith(
            f"Set {set_id} holds no mongodb database, which ledger has now: nothing was"
        )
    assert [verdict.kind for verdict in before.verdicts(set_id)] == ["reread"]


# --- Damage ---


def flipped(content: bytes, position: int, bit: int = 0) -> bytes:
    return content[:position] + bytes([content[position] ^ (1 << bit)]) + content[position + 1 :]


def reread(ledger: Ledger, manifest: Manifest) -> Callable[[StoredObject], tuple[str, ...]]:
    """Return what re-reads the part of the set that an object belongs to, as the flows do."""
    location = locate_set(ledger.profile, manifest.set_id)
    clients = ledger.profile.database.client_directory

    def reread_part(stored: StoredObject) -> tuple[str, ...]:
        if stored == manifest.application.archive:
            return reread_application.fn(manifest, location)
        if manifest.postgresql is not None:
            return reread_dump.fn(manifest, clients, location)
        assert manifest.mongodb is not None
        (content,) = (c for c in manifest.mongodb.collections if stored in {c.metadata, c.data})
        return reread_collection.fn(content, location)

    return reread_part


def test_any_flipped_bit_of_any_object_is_found_and_the_object_named(ledger: Ledger) -> None:
    """Every byte of a small object, and the first, the last and a sample of a larger one's."""
    manifest = ledger.manifest(ledger.must_back_up())
    check, rng = reread(ledger, manifest), random.Random(7)
    tried = 0
    for stored in manifest.objects:
        key = ledger.repository.object_key(manifest.set_id, stored.key)
        whole = ledger.store.read(key)
        # pg_restore is a program of its own and takes its time.
        most = 40 if stored.key.startswith("postgresql") else 250
        sampled = sorted(rng.sample(range(len(whole)), min(most, len(whole))))
        for position in {0, len(whole) - 1, *sampled}:
            (ledger.root / key).write_bytes(flipped(whole, position, rng.randrange(8)))
            findings = check(stored)
            assert findings, f"{stored.key}: byte {position} is flipped and nobody sees it"
            assert any(stored.key in finding for finding in findings), findings
            tried += 1
        (ledger.root / key).write_bytes(whole)
        assert check(stored) == ()
    assert tried > 250


def cut_last_document(content: bytes) -> bytes:
    documents = bson.decode_all(gzip.decompress(content))
    return gzip.compress(b"".join(bson.encode(document) for document in documents[:-1]))


def drop_an_index(content: bytes) -> bytes:
    metadata = json.loads(gzip.decompress(content))
    metadata["indexes"] = [index for index in metadata["indexes"] if index["name"] == "_id_"]
    return gzip.compress(json.dumps(metadata).encode())


DAMAGE: dict[str, tuple[Kind, str, Callable[[bytes], bytes | None]]] = {
    "a flipped bit in a collection": (
        "mongodb",
        "entries.bson.gz",
        lambda whole: flipped(whole, len(whole) // 2),
    ),
    "a collection that is missing": ("mongodb", "entries.bson.gz", lambda whole: None),
    "a collection without its last document": ("mongodb", "accounts.bson.gz", cut_last_document),
    "a description without an index": ("mongodb", "accounts.metadata.json.gz", drop_an_index),
    "a description that is missing": ("mongodb", "poor.metadata.json.gz", lambda whole: None),
    "a flipped bit in a dump": (
        "postgresql",
        "database.dump.zst",
        lambda whole: flipped(whole, len(whole) // 2),
    ),
    "a dump cut short": ("postgresql", "database.dump.zst", lambda whole: whole[: len(whole) * 3 // 5]),
    "a dump that is missing": ("postgresql", "database.dump.zst", lambda whole: None),
    "an empty archive": ("postgresql", "application.tar.gz", lambda whole: b""),
}


@pytest.fixture(scope="module")
def sound(
    sandbox: Sandbox, prefect_server: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Kind, tuple[Ledger, str]]]:
    """A service with one set on each of the databases, shared by tests that repair what they damage."""
    with pytest.MonkeyPatch.context() as environment:
        maker = Ledgers(sandbox, tmp_path_factory.mktemp("sound"), environment)
        made = {kind: maker.make(kind) for kind in KINDS}
        found: dict[Kind, tuple[Ledger, str]] = {}
        for kind, ledger in made.items():
            environment.setenv(SERVICES_VARIABLE, str(ledger.services))
            found[kind] = ledger, ledger.must_back_up()
        yield found
        maker.remove()


@pytest.mark.parametrize(("kind", "name", "change"), DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_set_fails_its_drill_which_names_the_object_and_leaves_nothing_behind(
    sound: dict[Kind, tuple[Ledger, str]],
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
    name: str,
    change: Callable[[bytes], bytes | None],
) -> None:
    ledger, set_id = sound[kind]
    monkeypatch.setenv(SERVICES_VARIABLE, str(ledger.services))
    before = ledger.database.hash_content()
    (key,) = (key for key in ledger.keys(f"sets/{set_id}") if key.endswith(f"/{name}"))
    whole = ledger.store.read(key)
    content = change(whole)
    if content is None:
        ledger.store.delete(key)
    else:
        ledger.store.write(key, content)

    state = ledger.drill()

    ledger.store.write(key, whole)
    message = failed(state)
    assert message.startswith(f"ledger: set {set_id} failed its restore drill. ")
    assert name in message
    verdict = ledger.verdicts(set_id)[-1]
    assert (verdict.kind, verdict.passed) == ("drill", False)
    assert any(name in finding for finding in verdict.findings)
    assert "# Restore drill FAILED" in artifacts_of(state)["restore-drill-verdict-ledger"]
    assert scratch_databases(ledger) == set()
    assert ledger.database.hash_content() == before


def test_an_additional_object_fails_the_drill(ledger: Ledger) -> None:
    """The official tools would restore it with the rest."""
    set_id = ledger.must_back_up()
    ledger.store.write(f"ledger/sets/{set_id}/mongodb/books/more.bson.gz", gzip.compress(b""))
    assert "mongodb/books/more.bson.gz" in failed(ledger.drill())


def test_a_manifest_that_is_damaged_fails_the_drill_and_no_older_set_is_drilled_for_it(
    ledger: Ledger,
) -> None:
    older, set_id = ledger.must_back_up(), ledger.must_back_up()
    manifest = ledger.root / f"ledger/sets/{set_id}/manifest.json"
    for harm, wanted in ((flip, "latest"), (cut, set_id)):
        harm(manifest)
        message = failed(ledger.drill(wanted_set=wanted))
        assert f"ledger/sets/{set_id}/manifest.json is damaged: " in message
        assert f"There is: {older} (verified)" in message
    assert scratch_databases(ledger) == set()
    assert [verdict.kind for drilled in (older, set_id) for verdict in ledger.verdicts(drilled)] == [
        "reread",
        "reread",
    ]


def test_any_flipped_bit_of_the_manifest_is_found(ledgers: Ledgers) -> None:
    """Those too that leave it JSON of the right fields: a digit of a time, of a size, of a hash."""
    ledger = ledgers.make("postgresql")
    set_id, now, rng = ledger.must_back_up(), datetime.now(UTC), random.Random(7)
    manifest = ledger.root / f"ledger/sets/{set_id}/manifest.json"
    whole = manifest.read_bytes()
    for position in {0, len(whole) - 1, *rng.sample(range(len(whole)), 250)}:
        manifest.write_bytes(flipped(whole, position, rng.randrange(8)))
        found = choose_set(ledger.repository.state(now), set_id)
        assert isinstance(found, Refusal), f"byte {position} is flipped and nobody sees it"
        assert f"{set_id}/manifest.json" in found.reason
    manifest.write_bytes(whole)
    assert choose_set(ledger.repository.state(now), set_id) == set_id


def forge(ledger: Ledger, set_id: str, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change an object and make the manifest's hash of it right, so that a reread finds nothing.

    The set has no verdict then, as one of which it was lost.
    """
    manifest = ledger.manifest(set_id)
    (stored,) = (found for found in manifest.objects if found.key.endswith(f"/{name}"))
    content = change(ledger.read(set_id, stored))
    forged = stored.model_copy(
        update={
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "raw_bytes": len(gzip.decompress(content)),
        }
    )
    ledger.store.write(ledger.repository.object_key(set_id, stored.key), content)
    text = format_manifest(manifest).decode()
    whole = json.loads(text)
    for collection in whole["mongodb"]["collections"]:
        for part in ("metadata", "data"):
            if collection[part] is not None and collection[part]["key"] == stored.key:
                collection[part] = forged.model_dump()
    ledger.store.write(f"ledger/sets/{set_id}/manifest.json", json.dumps(whole).encode())
    for key in ledger.keys(f"verifications/{set_id}"):
        ledger.store.delete(key)


def test_an_index_that_was_never_saved_is_found_by_restoring(ledgers: Ledgers) -> None:
    """The object's hash is right: only what the server makes of it tells."""
    ledger = ledgers.make("mongodb")
    set_id = ledger.must_back_up()
    forge(ledger, set_id, "accounts.metadata.json.gz", drop_an_index)
    message = failed(ledger.drill())
    assert "Collection accounts: index by_owner is missing" in message
    assert scratch_databases(ledger) == set()


def make_an_index_unique(content: bytes) -> bytes:
    metadata = json.loads(gzip.decompress(content))
    metadata["indexes"].append({"v": 2, "key": {"account": 1}, "name": "one each", "unique": True})
    return gzip.compress(json.dumps(metadata).encode())


def test_a_set_that_the_server_refuses_to_restore_fails_its_drill(ledgers: Ledgers) -> None:
    ledger = ledgers.make("mongodb")
    set_id = ledger.must_back_up()
    forge(ledger, set_id, "entries.metadata.json.gz", make_an_index_unique)
    message = failed(ledger.drill())
    assert f"set {set_id} failed its restore drill. Collection entries does not restore: " in message
    assert "(code 11000)" in message
    assert "dup key" not in message
    assert [(verdict.kind, verdict.passed) for verdict in ledger.verdicts(set_id)] == [("drill", False)]
    assert scratch_databases(ledger) == set()


# --- The scratch database ---


def kill_while_restored(ledger: Ledger, children: Children) -> None:
    module = {"mongodb": "mongodb_restore", "postgresql": "postgresql_restore"}[ledger.kind]
    what = {"mongodb": "observe_restored_collections", "postgresql": "observe_restored_database"}[ledger.kind]
    run = children.start(ledger, "restore_drill", kill_when_called=f"tasks.{module}:{what}")
    assert run.wait() is None


def test_a_killed_drills_scratch_database_is_dropped_by_the_next_drill(
    ledger: Ledger, children: Children
) -> None:
    set_id = ledger.must_back_up()
    kill_while_restored(ledger, children)
    assert scratch_databases(ledger) == {name_scratch_database("ledger", set_id)}
    # Of another set, so that it is no matter of the same name.
    ledger.must_back_up()
    completed(ledger.drill())
    assert scratch_databases(ledger) == set()


def test_a_drill_never_restores_into_the_real_database(ledgers: Ledgers, sandbox: Sandbox) -> None:
    """A service whose real database is called like a scratch one would have it dropped."""
    for kind in KINDS:
        ledger = ledgers.make(kind)
        set_id = ledger.must_back_up()
        scratch = name_scratch_database("ledger", set_id)
        other = ledgers.make(kind, database=scratch)
        before = other.database.hash_content()
        assert before
        other.change(backup={"destination": {"url": ledger.root.as_uri()}})

        message = failed(other.drill())

        assert message == f"The scratch database '{scratch}' is the real database: nothing was restored."
        assert other.database.hash_content() == before
        # Nor is it dropped as what a killed drill left, when another set is drilled.
        other.must_back_up()
        assert "is called like a scratch database" in failed(other.drill())
        assert other.database.hash_content() == before


def test_two_drills_at_once_leave_each_others_scratch_database_alone(
    ledgers: Ledgers, children: Children
) -> None:
    ledger = ledgers.make("postgresql")
    first = ledger.must_back_up()
    ledger.must_back_up()
    other = children.start(
        ledger,
        "restore_drill",
        parameters={"service": "ledger", "wanted_set": first},
        pause_when_called="tasks.postgresql_restore:observe_restored_database",
    )
    wait_until(lambda: scratch_databases(ledger))
    threading.Timer(1, other.go_on).start()
    completed(ledger.drill())
    end = other.wait()
    assert end is not None
    assert end["type"] == "COMPLETED", end
    assert scratch_databases(ledger) == set()


def test_a_set_that_is_being_drilled_is_kept_by_retention(ledgers: Ledgers, children: Children) -> None:
    ledger = ledgers.make("postgresql")
    like, now = ledger.must_back_up(), datetime.now(UTC)
    drilled, other = (ledger.publish_old_set(like, timedelta(days=days), now=now) for days in (20, 21))
    drill = children.start(
        ledger,
        "restore_drill",
        parameters={"service": "ledger", "wanted_set": drilled},
        pause_when_called="tasks.postgresql_restore:observe_restored_database",
    )
    wait_until(lambda: scratch_databases(ledger))

    ledger.must_back_up()
    drill.go_on()

    assert drilled in ledger.sets()
    assert other not in ledger.sets()
    end = drill.wait()
    assert end is not None
    assert end["type"] == "COMPLETED", end


def test_a_drill_that_begins_just_before_its_set_is_deleted_keeps_it(
    ledgers: Ledgers, children: Children
) -> None:
    """After retention's last look at the repository, and before the tombstone stands."""
    ledger = ledgers.make("postgresql")
    like, now = ledger.must_back_up(), datetime.now(UTC)
    old = ledger.publish_old_set(like, timedelta(days=20), now=now)
    # Lease, two objects, manifest, verdict, tombstone.
    backup = children.start(ledger, pause_before=6)
    wait_until(lambda: backup.is_paused)

    with hold_lease(ledger.store, "ledger", f"set-{old}", purpose="restore drill", holder="somebody"):
        backup.go_on()
        end = backup.wait()

    assert end is not None
    assert end["type"] == "FAILED", end
    assert f"The set {old} of ledger is held by somebody (restore drill)" in end["message"]
    assert old in ledger.sets()
    assert ledger.find_damage(old) == []
    assert ledger.keys("tombstones") == []


def test_a_drill_whose_place_another_one_took_says_nothing_of_its_set(
    ledgers: Ledgers, children: Children
) -> None:
    """As after minutes without the store: the other drill has dropped what this one restored."""
    ledger = ledgers.make("mongodb")
    set_id = ledger.must_back_up()
    drill = children.start(
        ledger, "restore_drill", pause_when_called="tasks.mongodb_restore:observe_restored_collections"
    )
    wait_until(lambda: drill.is_paused)
    held = Lease.model_validate_json(ledger.store.read("ledger/leases/drills/0000000001.json"))
    write_first(ledger.store, "ledger", held.model_copy(update={"generation": 2, "host": "another"}))
    assert isinstance(ledger.database, MongodbDatabase)
    (scratch,) = scratch_databases(ledger)
    ledger.database.client.drop_database(scratch)

    drill.go_on()
    end = drill.wait()

    assert end is not None
    assert end["type"] == "FAILED", end
    assert end["message"].startswith("The lease drills of ledger is lost: somebody else has taken it over")
    assert [verdict.kind for verdict in ledger.verdicts(set_id)] == ["reread"]
