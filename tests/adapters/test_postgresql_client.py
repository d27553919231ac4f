"""Client programs of every temper: talkative, stubborn, with workers of their own."""

import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tasks.errors import AccessDeniedError, SourceError
from tasks.postgresql_client import running


def program(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def test_one_that_complains_at_length_is_not_held_up_and_its_last_words_count() -> None:
    script = "import sys; sys.stderr.write('x' * 3_000_000 + '\\nERROR:  permission denied\\n'); sys.exit(1)"
    with running(program(script)) as talkative, pytest.raises(AccessDeniedError):
        list(talkative.read())


def test_its_complaints_are_on_no_disk() -> None:
    script = "import os; print(os.readlink('/proc/self/fd/2'))"
    with running(program(script)) as talkative:
        assert b"".join(talkative.read()).startswith(b"pipe:")


def test_one_that_says_nothing_is_judged_by_its_code() -> None:
    with running(program("import sys; sys.exit(7)")) as silent, pytest.raises(SourceError, match="code 7"):
        list(silent.read())


def test_workers_of_its_own_go_with_it_when_the_block_is_left(tmp_path: Path) -> None:
    script = """
import os, signal, sys
if os.fork() == 0:
    with open(sys.argv[1], "w") as file:
        file.write(str(os.getpid()))
signal.pause()
"""
    told = tmp_path / "pid"
    with running([*program(script), str(told)]):
        while not (told.exists() and told.read_text()):
            pass
        worker = psutil.Process(int(told.read_text()))
    with suppress(psutil.NoSuchProcess):
        # It was sent away; the kernel may take a moment to say so.
        deadline = time.monotonic() + 10
        while worker.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "it outlived the block"
