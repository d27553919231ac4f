"""What the kernel says of an application's processes: what they compute, and what they wait for."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import psutil
import pytest

from tasks.observing_processes import observe_processes
from tasks.process_manager import start_application
from tasks.records.process import ProcessInstance
from tests.adapters.test_process_manager import Units, units, wait_until

__all__ = ["units"]

SPINS = "while True: pass"


@contextmanager
def on_one_core() -> Iterator[None]:
    """Let what is started meanwhile share one core."""
    ourselves = psutil.Process()
    allowed = ourselves.cpu_affinity()
    assert allowed
    ourselves.cpu_affinity(allowed[-1:])
    try:
        yield
    finally:
        ourselves.cpu_affinity(allowed)


@pytest.fixture
def two_others() -> Iterator[None]:
    """Two strangers that compute without an end."""
    with on_one_core():
        others = [subprocess.Popen([sys.executable, "-c", SPINS]) for _ in range(2)]
    yield
    for other in others:
        other.kill()
        other.wait()


def observe(units: Units, source: str, computed_seconds: float = 0.0) -> ProcessInstance:
    """Observe a unit once it has computed so long: the interpreter starts first, and waits for the disk."""
    profile = units.add("api", source)
    start_application.fn(profile)
    pid = units.pid("api")
    assert pid is not None
    wait_until(lambda: psutil.Process(pid).cpu_times().user >= computed_seconds)
    (instance,) = observe_processes.fn(profile).instances
    assert instance.pid == pid
    return instance


def test_a_process_that_sleeps_takes_no_core_and_waits_for_none(units: Units) -> None:
    found = observe(units, "import time; time.sleep(600)")
    while found.cpu_percent:  # The interpreter itself starts first.
        (found,) = observe_processes.fn(units.profile("api")).instances
    assert found.waiting_percent is not None
    assert found.waiting_percent < 50


def observe_spinning(units: Units) -> ProcessInstance:
    """Look again as long as it is not seen: a turn that has not come yet is not counted as waited for."""
    found = observe(units, SPINS, computed_seconds=0.2)
    deadline = time.monotonic() + 20
    while (found.cpu_percent or 0) + (found.waiting_percent or 0) <= 80 and time.monotonic() < deadline:
        (found,) = observe_processes.fn(units.profile("api")).instances
    return found


def test_what_computes_takes_a_core_or_waits_for_one(units: Units) -> None:
    found = observe_spinning(units)
    assert (found.cpu_percent or 0) + (found.waiting_percent or 0) > 80


@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="only Linux counts who waits")
@pytest.mark.usefixtures("two_others")
def test_what_shares_a_core_is_seen_to_want_more_than_it_gets(units: Units) -> None:
    with on_one_core():
        found = observe_spinning(units)
    assert found.waiting_percent is not None
    assert found.waiting_percent > 30
    assert (found.cpu_percent or 0) + found.waiting_percent > 80


def test_of_what_does_not_run_nothing_is_measured(units: Units) -> None:
    (found,) = observe_processes.fn(units.add("api")).instances
    assert (found.state, found.cpu_percent, found.waiting_percent) == ("stopped", None, None)


def test_of_what_ends_while_it_is_measured_nothing_is_said(units: Units) -> None:
    profile = units.add("api")
    start_application.fn(profile)
    pid = units.pid("api")
    assert pid is not None
    ending = Timer(0.3, psutil.Process(pid).kill)
    ending.start()
    (found,) = observe_processes.fn(profile).instances
    ending.join()
    assert (found.cpu_percent, found.waiting_percent) == (None, None)
