"""The nightly backup as an operator meets it: on real servers, and on what goes wrong with them at night."""

import hashlib
import io
import json
import re
import shlex
import tarfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from prefect.client.schemas.objects import FlowRun, State
from prefect.flow_engine import run_flow

from deployments.sandbox.stack import Sandbox
from flows.nightly_backup import nightly_backup
from tasks.backup_repository import BackupRepository
from tasks.leases import hold_lease
from tasks.records.backup import Manifest
from tests.runbooks.conftest import (
    Ledger,
    Ledgers,
    artifacts_of,
    completed,
    decisions_in,
    failed,
    flip,
    make_late_run,
)

# --- A good night ---


def test_a_night_is_saved_verified_and_told_in_one_sentence(ledger: Ledger) -> None:
    state = ledger.back_up()

    part, entries = (
        ("5 collections", "452 documents") if ledger.kind == "mongodb" else ("2 tables", "450 rows")
    )
    assert re.fullmatch(
        rf"ledger: {part} with {entries} \([\d.]+ kB, [\d.]+ kB stored\) saved and verified in [\d.]+ s; "
        r"0 old sets deleted, 1 kept\.",
        completed(state),
    )
    (set_id,) = ledger.sets()
    manifest = ledger.manifest(set_id)
    assert ledger.find_damage(set_id) == []
    folder = f"ledger/sets/{set_id}/"
    saved = {
        key.removeprefix(folder): size for key, size in ledger.listing().items() if key.startswith(folder)
    }
    assert saved.pop("manifest.json") > 0
    assert saved == {stored.key: stored.bytes for stored in manifest.objects}
    (verdict,) = ledger.verdicts(set_id)
    assert (verdict.kind, verdict.passed, verdict.findings) == ("reread", True, ())
    assert verdict.manifest_sha256 == hashlib.sha256(ledger.store.read(f"{folder}manifest.json")).hexdigest()
    assert set(artifacts_of(state)) == {
        f"nightly-backup-{what}-ledger" for what in ("plan", "progress", "saved", "retention", "history")
    }


def test_every_night_makes_a_set_of_its_own(ledger: Ledger) -> None:
    first = ledger.must_back_up()
    ledger.database.grow(10)
    second = ledger.must_back_up()
    assert set(ledger.sets()) == {first, second}
    assert ledger.manifest(second).entries == ledger.manifest(first).entries + 10
    assert ledger.manifest(second).parts == ledger.manifest(first).parts + 1
    assert ledger.find_damage(first) == []


def test_the_applications_files_are_saved_without_what_is_excluded(ledger: Ledger) -> None:
    manifest = ledger.manifest(ledger.must_back_up())
    archive = ledger.read(manifest.set_id, manifest.application.archive)
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        assert {member.name for member in members} == {".env", "link", "src", "src/größe.js"}
        file = members.extractfile("src/größe.js")
        assert file is not None
        assert file.read() == b"x" * 700


def test_the_manifest_says_of_which_moment_the_set_is(ledger: Ledger) -> None:
    manifest = ledger.manifest(ledger.must_back_up())
    method = {"mongodb": "transaction", "postgresql": "exported-snapshot"}[ledger.kind]
    assert manifest.consistency.method == method
    assert manifest.consistency.moment is not None


def test_the_manifest_is_json_that_needs_no_software_of_ours(ledger: Ledger) -> None:
    set_id = ledger.must_back_up()
    manifest = json.loads(ledger.store.read(f"ledger/sets/{set_id}/manifest.json"))
    assert manifest["format_version"] == 1
    assert manifest["set_id"] == set_id


def test_a_manifest_that_the_disk_did_not_keep_fails_the_night(
    ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledgers.make("postgresql")
    publish = BackupRepository.publish

    def publish_on_a_bad_disk(repository: BackupRepository, manifest: Manifest, **how: Any) -> None:
        publish(repository, manifest, **how)
        flip(ledger.root / repository.object_key(manifest.set_id, "manifest.json"))

    monkeypatch.setattr(BackupRepository, "publish", publish_on_a_bad_disk)
    message = failed(ledger.back_up())
    assert message.endswith("manifest.json: its bytes in the store are not those that were written.")
    (set_id,) = ledger.sets()
    assert [verdict.passed for verdict in ledger.verdicts(set_id)] == [False]


def test_a_dry_run_shows_the_plan_and_changes_nothing(ledger: Ledger) -> None:
    now = datetime.now(UTC)
    kept = ledger.must_back_up()
    old = ledger.publish_old_set(kept, timedelta(days=20), now=now)
    before = ledger.listing()

    state = ledger.back_up(dry_run=True)

    assert completed(state) == "ledger: dry run, the plan is shown and nothing was done."
    assert ledger.listing() == before
    artifacts = artifacts_of(state)
    assert set(artifacts) == {"nightly-backup-plan-ledger"}
    (plan,) = artifacts.values()
    assert "accounts" in plan
    assert "entries" in plan
    assert decisions_in(plan) == {kept: "keep", old: "delete"}


def test_a_dry_run_does_not_wait_for_a_backup_under_way(ledgers: Ledgers) -> None:
    ledger = ledgers.make("postgresql")
    with hold_lease(ledger.store, "ledger", "repository", purpose="nightly backup", holder="somebody"):
        completed(ledger.back_up(dry_run=True))


# --- What cannot be backed up is refused in one sentence ---


def forget_env(ledger: Ledger, sandbox: Sandbox) -> None:
    (ledger.application / ".env").unlink()


def forget_variable(ledger: Ledger, sandbox: Sandbox) -> None:
    ledger.write_env("")


def mistype_profile(ledger: Ledger, sandbox: Sandbox) -> None:
    ledger.change(backup={"retension": {"keep_days": 3}})


def mistake_password(ledger: Ledger, sandbox: Sandbox) -> None:
    ledger.write_env(re.sub(r":[^:@/]+@", ":Wr0ng-p4ssword@", ledger.database.url))


def forget_escaping(ledger: Ledger, sandbox: Sandbox) -> None:
    ledger.write_env(re.sub(r":[^:@/]+@", ":Wr0ng-p4ssword/with?an@at%zz@", ledger.database.url))


def mistake_port(ledger: Ledger, sandbox: Sandbox) -> None:
    ledger.write_env(re.sub(r":\d+/", ":9/", ledger.database.url))


def mistake_database(ledger: Ledger, sandbox: Sandbox) -> None:
    ledger.write_env(ledger.database.url.replace(f"/{ledger.database.name}", "/postgres"))


def mistake_store(ledger: Ledger, sandbox: Sandbox) -> None:
    s3_destination(ledger, sandbox, endpoint_url="http://127.0.0.1:9")


def mistake_bucket(ledger: Ledger, sandbox: Sandbox) -> None:
    s3_destination(ledger, sandbox, url="s3://no-such-bucket/x")


def mistake_key(ledger: Ledger, sandbox: Sandbox) -> None:
    wrong = ledger.folder / "wrong-key"
    wrong.write_text("Wr0ng-p4ssword")
    wrong.chmod(0o600)
    s3_destination(ledger, sandbox, secret_access_key=f"file:{wrong}")


def open_key_to_others(ledger: Ledger, sandbox: Sandbox) -> None:
    mistake_key(ledger, sandbox)
    (ledger.folder / "wrong-key").chmod(0o644)


def unmount_disk(ledger: Ledger, sandbox: Sandbox) -> None:
    mount_point = ledger.folder / "mnt"
    mount_point.mkdir()
    ledger.change(backup={"destination": {"url": (mount_point / "runbooks").as_uri()}})


def move_application(ledger: Ledger, sandbox: Sandbox) -> None:
    env = ledger.application / ".env"
    ledger.change(application={"directory": str(ledger.folder / "moved"), "env_file": str(env)})


def s3_destination(ledger: Ledger, sandbox: Sandbox, **changed: str) -> None:
    at, secrets = sandbox.endpoints, sandbox.vault.folder
    right = {
        "url": f"s3://{at.s3_bucket}/refused",
        "endpoint_url": at.s3_endpoint,
        "access_key_id": f"file:{secrets / 's3-access-key-id'}",
        "secret_access_key": f"file:{secrets / 's3-secret-access-key'}",
    }
    ledger.change(backup={"destination": {**right, **changed}})


@pytest.mark.parametrize(
    ("break_it", "sentence"),
    [
        (forget_env, r"the env file .*\.env does not exist"),
        (forget_variable, r"DATABASE_URL is not set in .*\.env"),
        (mistype_profile, r"ledger\.yaml is wrong at line \d+, backup\.retension: there is no such field"),
        (mistake_password, r"refuses the (user or the )?password"),
        (forget_escaping, r"URL is malformed: expected (mongodb|postgresql)://"),
        (mistake_port, r"127\.0\.0\.1:9 does not answer"),
        (mistake_database, r"has nothing to save: look whether DATABASE_URL"),
        (mistake_store, r"s3://.* \(127\.0\.0\.1:9\).*no answer: check the network"),
        (mistake_bucket, r"no such bucket"),
        (mistake_key, r"the access key is not accepted"),
        (open_key_to_others, r"open to others: run chmod 600"),
        (unmount_disk, r"mount its disk"),
        (move_application, r"directory .*moved does not exist"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_backed_up_is_refused_and_leaves_all_sets_as_they_were(
    established: Ledger,
    sandbox: Sandbox,
    quick_retries: None,
    break_it: Callable[[Ledger, Sandbox], None],
    sentence: str,
) -> None:
    settings, sets, before = established.settings, established.sets(), settled(established)
    try:
        break_it(established, sandbox)
        message = failed(established.back_up())
    finally:
        established.settings = settings
        established.change()
        established.write_env(established.database.url)

    assert re.search(sentence, message), message
    assert "Wr0ng" not in message
    # What was begun before it was refused is no backup; a later run collects it.
    assert before <= settled(established)
    assert established.sets() == sets
    for set_id in sets:
        assert established.find_damage(set_id) == []


def settled(ledger: Ledger) -> set[str]:
    """Return the keys that are not of a lease."""
    return {key for key in ledger.listing() if "/leases/" not in key}


def test_an_unknown_service_is_refused_with_the_names_of_the_known(ledgers: Ledgers) -> None:
    ledgers.make("postgresql")
    message = failed(nightly_backup("legder", return_state=True))
    assert re.fullmatch(r"There is no service 'legder' in .*; known services: ledger\.", message)


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("", r"pg_dump is not in "),
        ('case "$1" in --version) echo pg_dump 18;; esac', r"(the dump|archive|pg_restore)"),
        ('{real} "$@" | head -c 3000', r"(the dump|archive|pg_restore)"),
        ("echo 'pg_dump: error: aborting because of server version mismatch' >&2; exit 1", r"is older than"),
        ('{real} "$@"; echo "pg_dump: error: out of memory" >&2; exit 1', r"out of memory"),
    ],
    ids=["missing", "silent", "cut short", "too old", "failing at its end"],
)
def test_a_pg_dump_that_does_not_do_its_work_publishes_nothing(
    ledgers: Ledgers, sandbox: Sandbox, script: str, sentence: str
) -> None:
    ledger = ledgers.make("postgresql")
    programs, real = ledger.folder / "bin", sandbox.endpoints.pg_bin
    programs.mkdir()
    (programs / "pg_restore").symlink_to(real / "pg_restore")
    if script:
        pg_dump = programs / "pg_dump"
        pg_dump.write_text(f"#!/bin/sh\n{script.replace('{real}', shlex.quote(str(real / 'pg_dump')))}\n")
        pg_dump.chmod(0o755)
    ledger.change(database={"client_directory": str(programs)})

    assert re.search(sentence, failed(ledger.back_up()))

    assert ledger.sets() == ()


# --- Late ---


@pytest.mark.parametrize("when_late", ["run", "skip"])
def test_a_run_that_starts_hours_late_runs_or_is_skipped_as_the_profile_says(
    ledgers: Ledgers, when_late: str
) -> None:
    """The run is made by Prefect's own scheduler, for a time that is past."""
    ledger = ledgers.make("postgresql")
    ledger.change(backup={"when_late": when_late, "late_after": "PT2H"})
    flow_run = make_late_run(nightly_backup, f"late-{when_late}-{time.monotonic_ns()}")
    assert flow_run.auto_scheduled

    state = run_late(flow_run)

    if when_late == "skip":
        assert (state.type.value, state.name) == ("CANCELLED", "Skipped")
        assert re.search(
            r"started 5 h.* later, which is more than the 2 h allowed.*: skipped", state.message or ""
        )
        assert ledger.listing() == {}
    else:
        completed(state)
        (set_id,) = ledger.sets()
        assert re.search(r"started 5 h.* later.*it runs all the same", ledger.manifest(set_id).reason)
        assert "it runs all the same" in artifacts_of(state)["nightly-backup-plan-ledger"]


def run_late(flow_run: FlowRun) -> State[Any]:
    """Run a run that Prefect made, in this process."""
    state = run_flow(nightly_backup, flow_run, {"service": "ledger"}, return_type="state")
    return cast("State[Any]", state)
