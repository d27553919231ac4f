"""The plan of a restore of the application: from what is there to the exact acts, or a reason against."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flows.decisions.application_plan import (
    ApplicationFacts,
    ApplicationPlan,
    name_folders,
    plan_application,
)
from flows.decisions.drift import find_drift
from tasks.records.application_tree import OwnedPath, TreeFacts
from tasks.records.backup import ApplicationContent, Consistency, Manifest, StoredObject
from tasks.records.service import ServiceProfile

SET_ID = "20261121T010000Z-nightly-4f2a11"
DIRECTORY = Path("/srv/invoice/backend")
BESIDE, ASIDE = (DIRECTORY.with_name(f"backend.{what}-93df19d2037d") for what in ("restore", "aside"))


def make_profile(**application: Any) -> ServiceProfile:
    reference = "file:/etc/runbooks/x"
    return ServiceProfile.model_validate(
        {
            "name": "invoice",
            "title": "Invoices",
            "time_zone": "Australia/Sydney",
            "application": {
                "directory": "/srv/invoice/current",
                "health_url": "http://127.0.0.1:8080/health",
                "process_manager": "pm2",
                "process_name": "invoice-backend",
                **application,
            },
            "database": {"kind": "mongodb", "url_variable": "MONGODB_URI", "admin_url": reference},
            "backup": {"destination": {"url": "s3://backups/runbooks"}, "retention": {"keep_days": 30}},
        }
    )


def make_manifest(**changed: Any) -> Manifest:
    archive = StoredObject(
        key="application/application.tar.gz", bytes=900, sha256="c0ffee" * 10 + "beef", raw_bytes=2_500_000
    )
    facts = {"files": 120, "content_hash": "", "archive": archive, "seconds": 1, **changed}
    at = datetime(2026, 11, 21, 1, 0, tzinfo=UTC)
    return Manifest(
        set_id=SET_ID,
        service="invoice",
        kind="nightly",
        reason="",
        started_at=at,
        finished_at=at,
        consistency=Consistency(method="none", moment=None, explanation=""),
        mongodb=None,
        postgresql=None,
        application=ApplicationContent(**facts),
        software={},
    )


TREE = TreeFacts(
    directory=DIRECTORY,
    kind="folder",
    identity="66:123",
    top_level="abcdef0123456789",
    files=124,
    changed=3,
    has_env=True,
    mounts=(),
    siblings=(),
    parent_writable=True,
    free_bytes=1 << 40,
    of_another=None,
    as_root=False,
)
UPLOADS = OwnedPath(path=DIRECTORY / "uploads", owner="www-data")


def make_facts(
    *, findings: tuple[str, ...] = (), running: bool = True, manifest: Manifest | None = None, **tree: Any
) -> ApplicationFacts:
    return ApplicationFacts(
        manifest=manifest or make_manifest(),
        findings=findings,
        tree=TREE.model_copy(update=tree),
        running=running,
    )


def plan(facts: ApplicationFacts, *, keep_env: bool = True, **application: Any) -> ApplicationPlan:
    return plan_application(make_profile(**application), facts, keep_env=keep_env)


def whats(found: ApplicationPlan) -> list[str]:
    return [act.what for act in found.acts]


UNPACK = f"Unpack the set's application into {BESIDE}, and compare it with the manifest"
KEEP = "Give it of the present files: node_modules, .git, *.log"
STOP = "Stop invoice-backend"
SWAP = f"Rename {DIRECTORY} to {ASIDE}, and {BESIDE} to {DIRECTORY}"
START = "Start invoice-backend, and prove it by its health"
DELETE = f"Delete {ASIDE}"


def test_the_plan_is_these_acts_in_this_order() -> None:
    found = plan(make_facts())
    assert whats(found) == [UNPACK, f"{KEEP}, .env as it is now", STOP, SWAP, START, DELETE]
    assert [act.how_many for act in found.acts] == [
        "120 files, 2.5 MB",
        "",
        "",
        "124 files aside; 3 files of them changed after the set was made",
        "",
        "",
    ]
    assert found.summary == (
        "/srv/invoice/backend, which holds 124 files now, is put back to the set "
        f"{SET_ID} of 2026-11-21 01:00 UTC: 120 files."
    )
    assert found.refusal is None
    assert found.rests_on == {
        "set": f"{SET_ID}, archive c0ffeec0ffee",
        "directory": "/srv/invoice/backend, 66:123",
        "files at its top": "abcdef012345",
    }
    assert all(act.why and act.undo for act in found.acts)
    assert found.acts[-1].undo.startswith("It cannot be undone")


LOGIN = {"url": "http://127.0.0.1:8080/login", "user": "probe", "password": "env:PASSWORD"}


@pytest.mark.parametrize(
    ("facts", "keep_env", "application", "acts"),
    [
        (make_facts(), False, {}, [UNPACK, KEEP, STOP, SWAP, START, DELETE]),
        (make_facts(has_env=False), True, {}, [UNPACK, KEEP, STOP, SWAP, START, DELETE]),
        (
            make_facts(),
            False,
            {"install_command": ["npm", "ci"]},
            [UNPACK, KEEP.replace("node_modules, ", ""), "Run npm ci there", STOP, SWAP, START, DELETE],
        ),
        (
            make_facts(),
            False,
            {"exclude_from_backup": []},
            [UNPACK, STOP, SWAP, START, DELETE],
        ),
        (
            make_facts(),
            False,
            {"login": LOGIN},
            [UNPACK, KEEP, STOP, SWAP, f"{START} and a login", DELETE],
        ),
        (
            make_facts(kind="missing", identity="", top_level="", files=0, changed=0, has_env=False),
            True,
            {},
            [UNPACK, STOP, f"Rename {BESIDE} to {DIRECTORY}", START],
        ),
    ],
    ids=["env of the set", "no env", "install", "nothing left out", "login", "nothing there"],
)
def test_what_is_there_and_wanted_decides_the_acts(
    facts: ApplicationFacts, keep_env: bool, application: dict[str, Any], acts: list[str]
) -> None:
    assert whats(plan(facts, keep_env=keep_env, **application)) == acts


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (make_facts(findings=("It is damaged.",)), "cannot be relied on: It is damaged. Restore another"),
        (make_facts(manifest=make_manifest(files=0)), "holds no file of the application"),
        (make_facts(kind="other"), "is no folder"),
        (make_facts(mounts=(DIRECTORY,)), "is a mount point"),
        (make_facts(mounts=(DIRECTORY / "uploads",)), "uploads is mounted within /srv/invoice/backend"),
        (make_facts(parent_writable=False), "may not write in /srv/invoice"),
        (
            make_facts(of_another=UPLOADS),
            f"{DIRECTORY}/uploads belongs to the user www-data, and only root could give it back to www-data",
        ),
        (make_facts(siblings=(BESIDE.name,)), f"{BESIDE} is there"),
        (make_facts(siblings=(ASIDE.name,)), f"{ASIDE} is there"),
        (
            make_facts(free_bytes=1_000_000),
            "needs 2.5 MB beside /srv/invoice/backend, and only 1.0 MB are free",
        ),
    ],
    ids=["damaged", "empty", "file", "mount", "mounts", "parent", "owner", "beside", "aside", "full"],
)
def test_it_is_refused_in_a_sentence(facts: ApplicationFacts, reason: str) -> None:
    found = plan(facts)
    assert found.refusal is not None
    assert reason in found.refusal
    assert found.refusal.endswith(".")


def test_root_gives_every_file_its_owner_so_whose_they_are_is_no_reason_against_it() -> None:
    assert plan(make_facts(of_another=UPLOADS, as_root=True)).refusal is None


def test_a_folder_of_another_set_is_no_reason_against_it() -> None:
    assert plan(make_facts(siblings=("backend.restore-000000000000",))).refusal is None


def test_two_sets_and_two_directories_have_folders_of_their_own() -> None:
    other = TREE.model_copy(update={"directory": Path("/srv/invoice/other")})
    names = [name_folders(TREE, SET_ID), name_folders(TREE, "another"), name_folders(other, SET_ID)]
    assert len({found.beside.name.rpartition("-")[2] for found in names}) == 3
    assert name_folders(TREE, SET_ID) == names[0]


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        ({"identity": "66:124"}, "directory"),
        ({"top_level": "other"}, "files at its top"),
        ({"kind": "missing", "identity": ""}, "directory"),
        ({"parent_writable": False}, "What the plan rests on has changed: "),
    ],
)
def test_what_changed_since_the_plan_was_shown_stops_it(change: dict[str, Any], moved: str) -> None:
    drift = find_drift(plan(make_facts()), plan(make_facts(**change)))
    assert drift is not None
    assert moved in drift


def test_another_archive_stops_it_and_more_files_or_a_restart_do_not() -> None:
    archive = make_manifest().application.archive.model_copy(update={"sha256": "0" * 64})
    shown = plan(make_facts())
    assert find_drift(shown, plan(make_facts(manifest=make_manifest(archive=archive)))) is not None
    assert find_drift(shown, plan(make_facts(files=200, changed=9, running=False))) is None
