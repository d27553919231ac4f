"""restore-application under a real application: the set's files serve, or those of before come back."""

import os
import shutil
import signal
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import psutil
import pytest
from prefect.client.schemas.objects import State

from deployments.sandbox.stack import Sandbox
from flows.restore_application import restore_application
from tasks.application_files import ARCHIVE_KEY
from tasks.errors import LeaseHeldError
from tasks.journal import list_open_journals
from tasks.leases import hold_lease
from tasks.process_manager import observe_application, start_application, stop_application
from tests.runbooks.conftest import (
    Children,
    Ledger,
    Ledgers,
    artifacts_of,
    completed,
    cut,
    empty,
    failed,
    flip,
    wait_until,
)
from tests.runbooks.walking import events, is_healthy
from tests.thoroughness import WHOLE

BROKEN = "process.exit(3);\n"


def operate(ledgers: Ledgers, sandbox: Sandbox, store: Literal["folder", "s3"] = "folder") -> Ledger:
    """A small service whose application runs, with one verified set of it."""
    ledger = ledgers.make("postgresql", store)
    ledger.operate(sandbox)
    (ledger.application / "logs").mkdir()
    (ledger.application / "logs" / "app.log").write_text("a line\n")
    ledger.must_back_up()
    return ledger


@pytest.fixture
def operated(ledgers: Ledgers, sandbox: Sandbox) -> Ledger:
    return operate(ledgers, sandbox)


def restore(ledger: Ledger, **parameters: Any) -> State[Any]:
    return cast("State[Any]", restore_application(ledger.name, **parameters, return_state=True))


def files(ledger: Ledger) -> dict[str, str]:
    """Return every file and folder with its mode and content, read without the flows' code."""
    found = {}
    for place, folders, names in os.walk(ledger.application):
        for path in (Path(place, name) for name in (*folders, *names)):
            mode = stat.filemode(path.lstat().st_mode)
            content = (
                str(path.readlink()) if path.is_symlink() else path.read_text() if path.is_file() else ""
            )
            found[str(path.relative_to(ledger.application))] = f"{mode} {content}"
    return found


def spoil(ledger: Ledger) -> dict[str, str]:
    """Change, delete and add, as a bad deployment does; return what is there then."""
    application = ledger.application
    (application / "src" / "größe.js").unlink(missing_ok=True)
    (application / "stray.js").write_text("added")
    (application / "server.js").chmod(0o600)
    with (application / "server.js").open("a") as file:
        file.write("// changed by hand\n")
    return files(ledger)


def leftovers(ledger: Ledger) -> list[str]:
    beside = [path.name for path in ledger.folder.iterdir() if path.name.startswith("application.")]
    return [*beside, *list_open_journals(ledger.profile)]


# --- It works ---


def test_from_s3_the_files_are_the_sets_again_and_the_application_serves(
    ledgers: Ledgers, sandbox: Sandbox
) -> None:
    ledger = operate(ledgers, sandbox, "s3")
    saved = files(ledger)
    spoil(ledger)
    with (ledger.application / "logs" / "app.log").open("a") as file:
        file.write("a second line\n")

    state = restore(ledger)

    (set_id,) = ledger.sets()
    proof = "healthy, and its probe user logged in."
    assert completed(state) == f"ledger: the application is that of the set {set_id}, and {proof}"
    # What the backup leaves out is as it was a moment ago.
    log = saved["logs/app.log"] + "a second line\n"
    assert files(ledger) == saved | {"logs/app.log": log}
    assert is_healthy(ledger)
    assert leftovers(ledger) == []
    assert events(ledger) == ["began", "finished"]
    shown = artifacts_of(state)
    assert "1 file of them changed after the set was made" not in shown["restore-application-plan-ledger"]
    assert "2 files of them changed after" in shown["restore-application-plan-ledger"]
    assert "proven" in shown["restore-application-done-ledger"]


def test_an_application_that_does_not_start_any_more_is_brought_back(operated: Ledger) -> None:
    saved = files(operated)
    (operated.application / "server.js").write_text(BROKEN)
    stop_serving(operated)
    completed(restore(operated))
    assert files(operated) == saved
    assert is_healthy(operated)


def stop_serving(ledger: Ledger) -> None:
    """Let the application read its files again, as a restart at night does."""
    stop_application.fn(ledger.profile)
    start_application.fn(ledger.profile)
    wait_until(lambda: not is_healthy(ledger))


def test_the_present_env_file_is_kept_unless_the_sets_is_wanted(operated: Ledger) -> None:
    env = operated.application / ".env"
    old = env.read_text()
    env.write_text(f"{old}ROTATED=since\n")
    completed(restore(operated))
    assert env.read_text() == f"{old}ROTATED=since\n"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    completed(restore(operated, keep_env=False))
    assert env.read_text() == old


def test_dependencies_are_installed_into_the_restored_files_before_they_serve(operated: Ledger) -> None:
    operated.change(application={"install_command": ["mkdir", "-p", "node_modules/fresh"]})
    completed(restore(operated))
    assert [path.name for path in (operated.application / "node_modules").iterdir()] == ["fresh"]


def test_what_the_application_writes_while_dependencies_are_installed_is_kept(operated: Ledger) -> None:
    uploads = operated.application / "uploads"
    uploads.mkdir()
    (uploads / "state.json").write_text("before")
    operated.change(application={"exclude_from_backup": ["node_modules", "uploads", "*.log"]})
    operated.must_back_up()
    # What a busy application does meanwhile: one upload, and one file that it writes anew and renames.
    writes = f"cd {uploads} && echo made > upload && echo after > state.new && mv state.new state.json"
    operated.change(application={"install_command": ["sh", "-c", writes]})
    completed(restore(operated))
    assert {path.name: path.read_text() for path in uploads.iterdir()} == {
        "state.json": "after\n",
        "upload": "made\n",
    }


def test_files_that_are_gone_altogether_come_back(operated: Ledger) -> None:
    saved = {name: content for name, content in files(operated).items() if "node_modules" not in name}
    operated.application.rename(operated.folder / "lost")
    completed(restore(operated))
    assert files(operated) == {name: found for name, found in saved.items() if name != "logs/app.log"}
    assert leftovers(operated) == []


def test_a_symbolic_link_stays_and_its_target_is_restored(operated: Ledger) -> None:
    saved = files(operated)
    operated.application.rename(operated.folder / "release")
    operated.application.symlink_to("release")
    (operated.folder / "release" / "stray.js").write_text("added")
    completed(restore(operated))
    assert operated.application.is_symlink()
    assert not (operated.folder / "release" / "stray.js").exists()
    assert {name for name in saved if "src" in name} <= set(files(operated))
    assert {path.name for path in operated.folder.iterdir() if path.name.startswith("release")} == {"release"}


def test_a_dry_run_shows_the_plan_and_changes_nothing(operated: Ledger) -> None:
    spoilt, listing = spoil(operated), operated.listing()
    state = restore(operated, dry_run=True)
    assert "nothing was done" in completed(state)
    assert "Unpack" in artifacts_of(state)["restore-application-plan-ledger"]
    assert files(operated) == spoilt
    assert operated.listing() == listing
    assert leftovers(operated) == []


# --- It is refused before anything is touched ---


def test_a_damaged_archive_is_refused_before_anything_is_touched(operated: Ledger) -> None:
    spoilt = spoil(operated)
    archive = operated.root / operated.repository.object_key(operated.sets()[0], ARCHIVE_KEY)
    whole = archive.read_bytes()
    damages: list[Callable[[Path], None]] = [flip, cut, empty, Path.unlink]
    for damage in damages:
        archive.write_bytes(whole)
        damage(archive)
        said = failed(restore(operated))
        assert "application/application.tar.gz" in said
        assert said.endswith("Restore another one. Nothing was changed.")
    assert files(operated) == spoilt
    assert is_healthy(operated)
    assert leftovers(operated) == []
    assert not (operated.folder / "state" / "ledger" / "trail.jsonl").exists()


def test_a_set_that_is_not_there_or_another_services_is_refused(operated: Ledger) -> None:
    spoilt = spoil(operated)
    assert "has no set 'nonsense'" in failed(restore(operated, wanted_set="nonsense"))
    manifest = operated.root / operated.repository.object_key(operated.sets()[0], "manifest.json")
    manifest.write_text(manifest.read_text().replace('"service": "ledger"', '"service": "other"'))
    failed(restore(operated, wanted_set="latest"))
    assert files(operated) == spoilt


def test_a_disk_without_room_is_refused(operated: Ledger, small_disk: Path) -> None:
    (operated.application / "large").write_bytes(os.urandom(60_000))
    operated.must_back_up()
    home = small_disk / "application"
    home.mkdir()
    operated.change(application={"directory": str(home)})
    said = failed(restore(operated))
    assert "are free there" in said
    assert said.endswith("Nothing was changed.")
    assert [path.name for path in small_disk.iterdir()] == ["application"]


def test_a_mount_point_is_refused(operated: Ledger, small_disk: Path) -> None:
    operated.change(application={"directory": str(small_disk)})
    assert "is a mount point" in failed(restore(operated))


# --- It fails, and the files of before come back ---


def test_files_that_do_not_serve_give_way_to_those_of_before(operated: Ledger) -> None:
    server = operated.application / "server.js"
    good = server.read_text()
    server.write_text(BROKEN)
    broken_set = operated.must_back_up()
    server.write_text(good)
    spoilt = spoil(operated)

    said = failed(restore(operated, wanted_set=broken_set))

    assert "does not start, its process manager has given it up" in said
    assert said.endswith("The files of before are back and the application is healthy.")
    assert files(operated) == spoilt
    assert is_healthy(operated)
    assert leftovers(operated) == []
    assert events(operated) == ["began", "failed"]


def test_a_login_that_is_refused_brings_the_files_of_before_back(operated: Ledger) -> None:
    spoilt = spoil(operated)
    operated.change(application={"login": {"user": "nobody"}})
    said = failed(restore(operated))
    assert "answered 401" in said
    assert said.endswith("The files of before are back and the application is healthy.")
    assert files(operated) == spoilt
    assert leftovers(operated) == []


def test_what_was_started_while_the_plan_waited_for_an_answer_is_started_again_after_an_undo(
    operated: Ledger, children: Children
) -> None:
    spoilt = spoil(operated)
    operated.change(application={"login": {"user": "nobody"}})
    stop_application.fn(operated.profile)
    pause = "flows.restore_application:approve"
    run = children.start(operated, "restore_application", pause_when_called=pause)
    wait_until(lambda: run.is_paused, 60)
    start_application.fn(operated.profile)
    wait_until(lambda: is_healthy(operated))
    run.go_on()
    answer = run.wait()
    assert answer is not None
    assert answer["message"].endswith("The files of before are back and the application is healthy.")
    assert files(operated) == spoilt
    assert is_healthy(operated)


def test_what_users_uploaded_to_restored_files_that_gave_way_is_kept(
    operated: Ledger, children: Children
) -> None:
    spoilt = spoil(operated)
    upload = operated.application / "uploads" / "lease.pdf"
    operated.change(application={"login": {"user": "nobody"}})
    pause = "flows.application_restoring:probe_login"
    run = children.start(operated, "restore_application", pause_when_called=pause)
    wait_until(lambda: run.is_paused, 60)
    upload.parent.mkdir(exist_ok=True)
    upload.write_text("signed")
    run.go_on()
    answer = run.wait()
    assert answer is not None
    assert answer["message"].endswith(
        "The files of before are back and the application is healthy. It has 1 file that users or it made in "
        "the restored ones."
    )
    # Of a killed one as well, however late it is undone.
    upload.rename(operated.folder / "lease.pdf")
    killed = children.start(operated, "restore_application", kill_after_step="starting")
    assert killed.wait() is None
    upload.parent.mkdir(exist_ok=True)
    upload.write_text("signed")
    assert "has no set" in failed(restore(operated, wanted_set="nonsense"))
    assert upload.read_text() == "signed"
    shutil.rmtree(upload.parent)
    assert files(operated) == spoilt
    assert leftovers(operated) == []


def test_an_install_command_that_fails_changes_nothing(operated: Ledger) -> None:
    spoilt = spoil(operated)
    operated.change(application={"install_command": ["false"]})
    said = failed(restore(operated))
    assert "the command to install the dependencies" in said
    assert said.endswith("Nothing was changed.")
    assert files(operated) == spoilt
    assert leftovers(operated) == []


def test_cancelled_in_the_middle_the_files_of_before_come_back_before_the_run_ends(
    operated: Ledger, children: Children
) -> None:
    spoilt = spoil(operated)
    pause = "flows.application_restoring:probe_login"
    run = children.start(operated, "restore_application", pause_when_called=pause)
    wait_until(lambda: run.is_paused, 60)
    # As Prefect's runner does it.
    run.process.terminate()
    run.process.join(60)
    assert run.process.exitcode == -signal.SIGTERM
    assert files(operated) == spoilt
    assert is_healthy(operated)
    assert leftovers(operated) == []
    assert events(operated) == ["began", "failed"]


# --- It is killed ---

JOURNALED = (
    "began",
    "unpacking beside",
    "stopping",
    "putting the present files aside",
    "putting the restored files in place",
    "starting",
    "proven",
    "closed",
)
CALLED = (
    "tasks.application_unpacking:read_files",
    "tasks.application_keeping:_make_like",
    "flows.application_restoring:run_application_command",
    "flows.application_restoring:await_health",
    "flows.application_restoring:probe_login",
    "flows.restore_application:finish",
    "tasks.application_tree:_open_folders",
)


SOME = (
    "unpacking beside",
    "putting the present files aside",
    "putting the restored files in place",
    "proven",
    "tasks.application_keeping:_make_like",
    "flows.application_restoring:await_health",
    "tasks.application_tree:_open_folders",
)


@pytest.mark.timeout(900)
def test_killed_at_any_step_a_rerun_ends_with_exactly_the_old_or_exactly_the_new_files(
    operated: Ledger, children: Children
) -> None:
    wanted, saved = operated.sets()[0], files(operated)
    orders = [{"kill_after_step": step} for step in JOURNALED]
    orders += [{"kill_when_called": called} for called in CALLED]
    finished = [{"kill_after_step": "proven"}, *({"kill_when_called": called} for called in CALLED[-2:])]
    proven = [*finished, {"kill_after_step": "closed"}]
    for order in orders if WHOLE else [order for order in orders if {*order.values()} & {*SOME}]:
        spoilt = spoil(operated)
        killed = children.start(operated, "restore_application", **order)
        assert killed.wait() is None, order
        if order == {"kill_after_step": "putting the restored files in place"}:
            completed(restore(operated, wanted_set=wanted))
            expected = saved
        else:
            # A run that does nothing of its own: only what the killed one left is put right.
            state = restore(operated, wanted_set="nonsense")
            said = completed(state) if order in finished else failed(state)
            assert ("Nothing else was done" if order in finished else "has no set") in said
            expected = saved if order in proven else spoilt
        assert files(operated) == expected, order
        assert is_healthy(operated), order
        assert leftovers(operated) == [], order


def test_what_users_made_since_a_killed_run_was_proven_is_not_deleted_by_a_second_restore(
    operated: Ledger, children: Children
) -> None:
    saved = files(operated)
    spoil(operated)
    assert children.start(operated, "restore_application", kill_after_step="proven").wait() is None
    upload = operated.application / "lease.pdf"
    upload.write_text("signed")
    said = completed(restore(operated))
    assert "a killed restore-application is finished" in said
    assert "start it again to restore once more" in said
    assert upload.read_text() == "signed"
    upload.unlink()
    assert files(operated) == saved
    assert is_healthy(operated)
    assert leftovers(operated) == []


def test_killed_while_it_undoes_it_undoes_the_rest(operated: Ledger, children: Children) -> None:
    spoilt = spoil(operated)
    assert children.start(operated, "restore_application", kill_after_step="starting").wait() is None
    for called in ("flows.application_restoring:start_application", "tasks.application_tree:_open_folders"):
        assert children.start(operated, "restore_application", kill_when_called=called).wait() is None
    assert "killed" in failed(restore(operated, dry_run=True))
    assert "has no set" in failed(restore(operated, wanted_set="nonsense"))
    assert files(operated) == spoilt
    assert is_healthy(operated)
    assert leftovers(operated) == []
    assert events(operated) == ["began", "settled"]


def test_an_application_that_a_person_started_after_a_kill_is_stopped_before_its_files_change_back(
    operated: Ledger, children: Children
) -> None:
    spoilt = spoil(operated)
    step = "putting the restored files in place"
    assert children.start(operated, "restore_application", kill_after_step=step).wait() is None
    (restored,) = operated.folder.glob("application.restore-*")
    restored.rename(operated.application)
    start_application.fn(operated.profile)
    wait_until(lambda: is_healthy(operated))
    assert "has no set" in failed(restore(operated, wanted_set="nonsense"))
    assert files(operated) == spoilt
    (process,) = observe_application.fn(operated.profile).instances
    assert process.pid is not None
    assert psutil.Process(process.pid).cwd() == str(operated.application)
    assert is_healthy(operated)
    assert leftovers(operated) == []


# --- Two at once ---


def test_one_that_finds_another_at_work_waits_and_plans_after_it(
    operated: Ledger, children: Children
) -> None:
    saved = files(operated)
    spoil(operated)
    pause = "flows.application_restoring:stop_application"
    first = children.start(operated, "restore_application", pause_when_called=pause)
    wait_until(lambda: first.is_paused, 40)
    threading.Timer(2, first.go_on).start()
    completed(restore(operated))
    ended = first.wait()
    assert ended is not None
    assert ended["type"] == "COMPLETED", ended
    assert files(operated) == saved
    assert leftovers(operated) == []
    assert events(operated) == ["began", "finished", "began", "finished"]


def test_one_whose_plan_was_made_before_another_changed_the_files_stops(
    operated: Ledger, children: Children
) -> None:
    saved = files(operated)
    spoil(operated)
    first = children.start(
        operated, "restore_application", pause_when_called="flows.restore_application:approve"
    )
    wait_until(lambda: first.is_paused, 40)
    completed(restore(operated))
    first.go_on()
    ended = first.wait()
    assert ended is not None
    assert ended["type"] == "FAILED", ended
    assert "What the plan rests on has changed since it was shown: directory was" in ended["message"]
    assert "; files at its top was" in ended["message"]
    assert ended["message"].endswith("Nothing was changed.")
    assert files(operated) == saved
    assert is_healthy(operated)
    assert leftovers(operated) == []
    assert events(operated) == ["began", "finished", "began", "failed"]


def test_no_backup_reads_files_that_change_places(operated: Ledger, children: Children) -> None:
    spoil(operated)
    pause = "flows.application_restoring:stop_application"
    run = children.start(operated, "restore_application", pause_when_called=pause)
    wait_until(lambda: run.is_paused, 60)
    backup = hold_lease(operated.store, "ledger", "repository", purpose="nightly backup", holder="other")
    with pytest.raises(LeaseHeldError, match="restore-application"), backup:
        pass
    run.go_on()
    end = run.wait()
    assert end is not None
    assert end["type"] == "COMPLETED", end
