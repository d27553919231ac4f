"""The journal and its folder: what must survive a kill, on a real disk and with processes that are killed."""

import os
import stat
from pathlib import Path

import pytest

from tasks.errors import AccessDeniedError, ConfigurationError
from tasks.host_folder import append_line, host_folder
from tasks.journal import CLOSED, list_open_journals, open_journal
from tasks.records.service import ServiceProfile
from tests.adapters.conftest import StartChild

RUNBOOK = "restore-database"


def path_of(service: ServiceProfile) -> Path:
    return service.state_directory / service.name / "journals" / f"{RUNBOOK}.jsonl"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def steps_of(service: ServiceProfile) -> list[str]:
    return [entry.step for entry in open_journal(service, RUNBOOK).entries]


def test_the_next_run_reads_what_an_earlier_one_wrote(service: ServiceProfile) -> None:
    journal = open_journal(service, RUNBOOK)
    assert not journal.entries
    journal.write("began", plan={"acts": ["swap"]})
    journal.write("swapped", old="books", new="books_new")
    journal.write("swapped", old="books_2", new="books_new_2")

    again = open_journal(service, RUNBOOK)

    assert again.entries == journal.entries
    assert [entry.step for entry in again.entries] == ["began", "swapped", "swapped"]
    newest = again.find("swapped")
    assert newest is not None
    assert newest.facts == {"old": "books_2", "new": "books_new_2"}
    assert again.has("began")
    assert not again.has("dropped")
    assert list_open_journals(service) == (RUNBOOK,)


def test_only_its_owner_reads_a_journal_whatever_the_umask(service: ServiceProfile) -> None:
    before = os.umask(0)
    try:
        journal = open_journal(service, RUNBOOK)
        journal.write("began")
        assert mode_of(path_of(service)) == 0o600
        journal.close("done")
    finally:
        os.umask(before)
    folder = host_folder(service)
    assert {mode_of(path) for path in (folder, *folder.rglob("*")) if path.is_dir()} == {0o700}
    assert {mode_of(path) for path in folder.rglob("*") if path.is_file()} == {0o600}


def test_a_line_torn_by_a_power_cut_was_never_written(service: ServiceProfile) -> None:
    journal = open_journal(service, RUNBOOK)
    journal.write("began")
    whole = path_of(service).read_bytes()
    with path_of(service).open("ab") as file:
        file.write(whole[: len(whole) // 2])

    assert steps_of(service) == ["began"]
    open_journal(service, RUNBOOK).write("went on")

    assert steps_of(service) == ["began", "went on"]
    assert path_of(service).read_bytes().startswith(whole)


def test_a_journal_of_which_only_a_torn_line_is_there_says_that_nothing_was_begun(
    service: ServiceProfile,
) -> None:
    open_journal(service, RUNBOOK)
    path_of(service).write_bytes(b'{"at":"2026-')
    assert list_open_journals(service) == ()
    assert steps_of(service) == []


def test_kill_9_of_a_writer_loses_no_line_that_it_was_told_is_written(
    service: ServiceProfile, start_child: StartChild
) -> None:
    process, hear = start_child("write_without_end", service)
    while (written := hear.recv()) < 20:
        pass
    process.kill()
    process.join()
    while hear.poll():
        try:
            written = hear.recv()
        except EOFError:
            break

    journal = open_journal(service, RUNBOOK)

    numbers = [entry.facts["number"] for entry in journal.entries]
    assert numbers == list(range(1, len(numbers) + 1))
    # One more may be on the disk of which the writer could not tell any more.
    assert len(numbers) in {written, written + 1}


def test_a_closed_journal_is_put_aside_and_the_next_run_begins_anew(service: ServiceProfile) -> None:
    for _ in range(2):
        journal = open_journal(service, RUNBOOK)
        assert journal.entries == ()
        journal.write("began")
        journal.close("done")
    assert list_open_journals(service) == ()
    assert not path_of(service).exists()
    closed = sorted((path_of(service).parent / "closed").iterdir())
    assert len(closed) == 2
    assert all(path.read_text().splitlines()[-1].count(CLOSED) for path in closed)


def test_a_run_killed_between_the_last_line_and_the_move_left_nothing_to_put_right(
    service: ServiceProfile, start_child: StartChild
) -> None:
    process, _ = start_child("die_before_the_move", service)
    process.join(60)
    assert process.exitcode == -9
    assert CLOSED in path_of(service).read_text()

    assert list_open_journals(service) == ()
    assert steps_of(service) == []
    assert len(list((path_of(service).parent / "closed").iterdir())) == 1


def test_asking_for_open_journals_moves_nothing_as_somebody_else_may_be_closing_one(
    service: ServiceProfile,
) -> None:
    journal = open_journal(service, RUNBOOK)
    journal.write("began")
    journal.write(CLOSED, outcome="the move is next")
    assert list_open_journals(service) == ()
    assert path_of(service).exists()


@pytest.mark.parametrize(
    "content",
    [
        b"hello\n",
        b'{"step": "began"}\n',
        b"\xff\xfe\n",
        b'{"at":"2026-11-21T00:00:00Z","step":"a","facts":1}\n',
    ],
)
def test_a_file_that_is_no_journal_is_refused_and_left_alone(service: ServiceProfile, content: bytes) -> None:
    open_journal(service, RUNBOOK)
    path_of(service).write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"restore-database\.jsonl is no journal of ours") as caught:
        list_open_journals(service)
    assert str(caught.value).endswith("move the file away.")
    with pytest.raises(ConfigurationError):
        open_journal(service, RUNBOOK)
    assert path_of(service).read_bytes() == content


def test_a_folder_that_others_may_read_is_refused(service: ServiceProfile) -> None:
    folder = host_folder(service)
    folder.chmod(0o750)
    with pytest.raises(ConfigurationError, match=r"is open to others: run chmod 700"):
        open_journal(service, RUNBOOK)


def test_a_folder_that_cannot_be_made_is_told_in_a_sentence(service: ServiceProfile) -> None:
    service.state_directory.write_text("a file where the folder should be")
    with pytest.raises(ConfigurationError, match=r"cannot be made .*correct state_directory"):
        open_journal(service, RUNBOOK)


def test_a_folder_of_another_user_is_refused_even_to_root(service: ServiceProfile) -> None:
    folder = host_folder(service)
    if os.geteuid() != 0:
        pytest.skip("only root may give a folder away")
    os.chown(folder, 65534, 65534)
    with pytest.raises(AccessDeniedError, match=r"belongs to the user nobody: run this as that user"):
        open_journal(service, RUNBOOK)


def test_a_line_is_appended_after_whole_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_line(path, b"one")
    append_line(path, b"two")
    assert path.read_bytes() == b"one\ntwo\n"
    path.write_bytes(b"one\ntw")
    append_line(path, b"three")
    assert path.read_bytes() == b"one\nthree\n"
