"""Who goes last, and for how long."""

import os
import subprocess
import sys
from threading import Thread

import pytest

from tasks.host_priority import going_last

NICENESS = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def test_who_goes_last_does_so_with_all_that_it_starts_and_its_neighbours_do_not() -> None:
    before = niceness()
    seen: dict[str, int] = {}

    def work() -> None:
        with going_last():
            seen["itself"] = niceness()
            seen["child"] = int(subprocess.check_output([sys.executable, "-c", NICENESS]))

    worker = Thread(target=work)
    worker.start()
    worker.join()
    assert seen == {"itself": max(before, 15), "child": max(before, 15)}
    assert niceness() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may take it back")
def test_it_is_over_with_the_work_also_with_work_that_fails() -> None:
    before = niceness()
    with pytest.raises(ZeroDivisionError), going_last():
        raise ZeroDivisionError
    assert niceness() == before
