"""The audit trail: whatever is done to it by hand is noticed; a store that is away takes nothing from it."""

import logging
import shutil
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks import trail as trail_module
from tasks.errors import UnreachableError
from tasks.object_store_directory import DirectoryStore
from tasks.records.service import Destination, ServiceProfile
from tasks.records.trail import CheckedTrail, TrailLine
from tasks.run_context import Run
from tasks.trail import BEGINNING, check_trail, record_event
from tests.adapters.conftest import make_store

RUN = Run(
    name="clever-otter",
    due=None,
    started=datetime(2026, 11, 21, tzinfo=UTC),
    started_by="ada at the shell",
    deployed=False,
)


@pytest.fixture(autouse=True)
def run_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a run there is no run's log: its sentences go to an ordinary one."""
    monkeypatch.setattr("tasks.trail.get_run_logger", lambda: logging.getLogger("a run"))


def path_of(service: ServiceProfile) -> Path:
    return service.state_directory / service.name / "trail.jsonl"


def store_of(service: ServiceProfile) -> DirectoryStore:
    return DirectoryStore(Path(service.backup.destination.url.removeprefix("file://")))


def check(service: ServiceProfile) -> CheckedTrail:
    return check_trail.fn(service)


def record(service: ServiceProfile, runs: int = 2) -> None:
    for number in range(1, runs + 1):
        plan = f"{number:064x}"
        record_event(service, RUN, "restore-database", "began", plan=plan, outcome="set ünï is restored")
        record_event(service, RUN, "restore-database", "finished", plan=plan)


@pytest.fixture
def trail(service: ServiceProfile) -> ServiceProfile:
    """A service whose trail has four lines."""
    record(service)
    return service


def test_a_trail_says_who_did_what_by_which_plan_and_nothing_is_wrong_with_it(trail: ServiceProfile) -> None:
    found = check(trail)
    assert found.findings == ()
    assert [line.number for line in found.lines] == [1, 2, 3, 4]
    assert [line.event for line in found.lines] == ["began", "finished", "began", "finished"]
    first = found.lines[0]
    assert (first.run, first.started_by, first.plan) == ("clever-otter", "ada at the shell", f"{1:064x}")
    assert (first.service, first.runbook, first.outcome) == (
        "invoice",
        "restore-database",
        "set ünï is restored",
    )
    assert stat.S_IMODE(path_of(trail).stat().st_mode) == 0o600
    assert len(list(store_of(trail).list_keys("invoice/trail/"))) == 4


def test_a_service_nobody_has_changed_yet_has_an_empty_trail(service: ServiceProfile) -> None:
    assert check(service) == CheckedTrail(lines=(), findings=())


def alter_a_line(lines: list[bytes]) -> None:
    lines[1] = lines[1].replace(b"ada at the shell", b"eve at the shell")


def remove_a_line(lines: list[bytes]) -> None:
    del lines[1]


def remove_the_first_line(lines: list[bytes]) -> None:
    del lines[0]


def cut_the_end(lines: list[bytes]) -> None:
    del lines[3]


def cut_everything(lines: list[bytes]) -> None:
    lines.clear()


def insert_a_line(lines: list[bytes]) -> None:
    lines.insert(2, lines[1])


def swap_two_lines(lines: list[bytes]) -> None:
    lines[1], lines[2] = lines[2], lines[1]


def say_the_same_in_other_bytes(lines: list[bytes]) -> None:
    lines[1] = lines[1].replace(b'"number":2', b'"number": 2')


@pytest.mark.parametrize(
    ("tamper", "finding"),
    [
        (alter_a_line, "was altered"),
        (remove_a_line, "does not follow the one before"),
        (remove_the_first_line, "does not follow the one before"),
        (cut_the_end, "0000000004.json is in the store and not on this host"),
        (cut_everything, "0000000001.json is in the store and not on this host"),
        (insert_a_line, "does not follow the one before"),
        (swap_two_lines, "does not follow the one before"),
        (say_the_same_in_other_bytes, "Line 2 is no line of the trail: it was altered."),
    ],
)
def test_what_is_done_to_the_file_by_hand_is_noticed(
    trail: ServiceProfile, tamper: Callable[[list[bytes]], None], finding: str
) -> None:
    path = path_of(trail)
    lines = path.read_bytes().splitlines()
    tamper(lines)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    findings = check(trail).findings
    assert any(finding in sentence for sentence in findings), findings

    # What is recorded afterwards hides nothing.
    record(trail, runs=3)
    assert check(trail).findings


def test_another_file_with_a_sound_chain_is_noticed_by_the_copies(
    trail: ServiceProfile, tmp_path: Path
) -> None:
    forger = trail.model_copy(
        update={
            "state_directory": tmp_path / "forger",
            "backup": trail.backup.model_copy(
                update={"destination": Destination(url=make_store(tmp_path / "forgers-store").address)}
            ),
        }
    )
    record(forger)
    assert check(forger).findings == ()
    shutil.copy(path_of(forger), path_of(trail))
    findings = check(trail).findings
    assert len(findings) == 4
    assert all("differs from its copy in the store" in sentence for sentence in findings)


def test_a_copy_that_was_altered_removed_or_added_is_noticed(trail: ServiceProfile) -> None:
    store = store_of(trail)
    store.write("invoice/trail/0000000001.json", b"{}")
    store.delete("invoice/trail/0000000002.json")
    store.write("invoice/trail/0000000009.json", b"{}")
    store.write("invoice/trail/notes.txt", b"hello")
    findings = check(trail).findings
    assert [sentence.split(": ")[0] for sentence in findings] == [
        "0000000009.json is in the store and not on this host",
        "notes.txt is in the store and not on this host",
        "Line 2 is on this host and not in the store",
        "Line 1 differs from its copy in the store",
    ]


def test_a_store_that_is_away_gets_its_copies_with_a_later_line(
    service: ServiceProfile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NO_KEY", "irrelevant")
    away = Destination(
        url="s3://backups/runbooks",
        endpoint_url="http://127.0.0.1:9",
        access_key_id="env:NO_KEY",
        secret_access_key="env:NO_KEY",
    )
    outage = service.model_copy(update={"backup": service.backup.model_copy(update={"destination": away})})

    record_event(outage, RUN, "restore-database", "began")

    assert "could not be copied to the store" in caplog.text
    assert len(path_of(service).read_bytes().splitlines()) == 1
    with pytest.raises(UnreachableError):
        check(outage)
    assert "Line 1 is on this host and not in the store" in check(service).findings[0]
    record_event(service, RUN, "restore-database", "finished")
    assert check(service).findings == ()


def test_a_line_torn_by_a_power_cut_is_replaced_by_the_next(trail: ServiceProfile) -> None:
    with path_of(trail).open("ab") as file:
        file.write(b'{"number":5,"at":"2026')
    record_event(trail, RUN, "restore-database", "began")
    found = check(trail)
    assert found.findings == ()
    assert len(found.lines) == 5


# --- The chain alone, without the copies ---


def chain_of(events: int) -> bytes:
    previous, lines = BEGINNING, []
    for number in range(1, events + 1):
        line = TrailLine(
            number=number,
            at=datetime(2026, 11, 21, 1, 0, number, tzinfo=UTC),
            service="invoice",
            runbook="restore-database",
            event="began",
            run="clever-otter",
            started_by="ada at the shell",
            host="host-a",
            plan=f"{number:064x}",
            outcome="",
            previous=previous,
        ).sealed()
        previous = line.hash
        lines.append(line.model_dump_json().encode())
    return b"\n".join(lines)


CHAIN = chain_of(3)


def is_sound(content: bytes) -> bool:
    return not list(trail_module._break_in_chain(content.split(b"\n")))


def test_an_untouched_chain_is_sound() -> None:
    assert is_sound(CHAIN)


@settings(max_examples=500, deadline=None)
@given(at=st.integers(0, len(CHAIN) - 1), byte=st.integers(0, 255))
def test_any_single_byte_that_is_changed_is_noticed(at: int, byte: int) -> None:
    changed = CHAIN[:at] + bytes([byte]) + CHAIN[at + 1 :]
    assert is_sound(changed) == (changed == CHAIN)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(CHAIN)), piece=st.binary(min_size=1, max_size=3))
def test_anything_put_in_anywhere_is_noticed(at: int, piece: bytes) -> None:
    assert not is_sound(CHAIN[:at] + piece + CHAIN[at:])


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(CHAIN) - 1), length=st.integers(1, 80))
def test_anything_taken_out_of_its_middle_is_noticed(at: int, length: int) -> None:
    rest = CHAIN[at + length :]
    # A cut at the end, which leaves whole lines, is what the copies are for.
    assert not is_sound(CHAIN[:at] + rest) or (not rest and is_sound(CHAIN[:at].removesuffix(b"\n")))
