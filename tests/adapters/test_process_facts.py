"""What the kernel says of processes."""

import subprocess

from tasks.process_facts import environment_of
from tests.adapters.test_observing_processes import on_one_core


def test_a_program_that_has_only_just_started_has_the_environment_that_it_was_given() -> None:
    """The kernel shows none while it puts the program in its place, which one core leaves to be seen."""
    given = {"AWS_SECRET_ACCESS_KEY": "an-old-secret"}
    for _ in range(20):
        with on_one_core(), subprocess.Popen(["sleep", "60"], env=given) as process:
            try:
                assert environment_of(process.pid) == given
            finally:
                process.kill()


def test_one_that_was_started_without_any_has_none_and_neither_has_one_that_is_gone() -> None:
    with subprocess.Popen(["sleep", "60"], env={}) as process:
        try:
            assert environment_of(process.pid) == {}
        finally:
            process.kill()
    assert environment_of(process.pid) == {}
