"""Whether a restart is complete, and which words of a log are worth repeating."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from flows.decisions.restart_judgement import find_unfinished, say_last_words
from tasks.records.process import ProcessInstance, ProcessStatus

T = datetime(2026, 11, 22, 3, tzinfo=UTC)


def status(*processes: tuple[int, datetime], running: bool = True) -> ProcessStatus:
    instances = tuple(
        ProcessInstance(name=str(number), state="online", pid=pid, since=since)
        for number, (pid, since) in enumerate(processes)
    )
    return ProcessStatus(running=running, stopped=False, detail="PM2 says so", instances=instances)


def test_new_processes_are_a_restart_even_with_an_id_that_was_there_before() -> None:
    before, after = status((1, T), (2, T)), status((1, T + timedelta(seconds=9)), (3, T))
    assert find_unfinished(before, after, log_says_started=False) is None
    assert find_unfinished(status(), after, log_says_started=False) is None


def test_an_old_process_is_named_unless_the_log_says_that_it_started_anew() -> None:
    before, after = status((1, T), (2, T)), status((7, T), (2, T))
    said = find_unfinished(before, after, log_says_started=False)
    assert said == "process 2, which runs since 2026-11-22 03:00:00 UTC, is still the old one"
    assert find_unfinished(before, after, log_says_started=True) is None


@given(st.booleans())
def test_what_does_not_all_run_is_never_a_restart(log_says_started: bool) -> None:
    after = status((3, T), running=False)
    assert find_unfinished(status((1, T)), after, log_says_started=log_says_started) == (
        "not all of it runs: PM2 says so"
    )


def test_last_words_leave_out_stacks_and_what_is_empty() -> None:
    lines = (
        "Error: Cannot find module 'x'",
        "    at node:internal/main/run_main_module:33:47 {",
        "  code: 'MODULE_NOT_FOUND',",
        "",
        "      ^",
        "Node.js v24.19.0",
    )
    assert say_last_words(lines) == (
        "Its last words: Error: Cannot find module 'x' / code: 'MODULE_NOT_FOUND'."
    )
    assert say_last_words(()) == ""


@given(st.lists(st.text(max_size=400), max_size=40))
def test_last_words_are_one_line_of_bounded_length(lines: list[str]) -> None:
    said = say_last_words(lines)
    assert len(said) < 600
    assert "\n" not in said
