"""Does one thing with a service's folder in a process of its own, which the test kills. Not a test.

``ACT`` names the function below, ``PROFILE`` is the service as JSON, ``TELL`` the test's end of a pipe.
"""

import os
import signal
import time
from itertools import count
from typing import Any, NoReturn

from prefect.logging import disable_run_logger

from tasks.journal import Journal, open_journal
from tasks.records.service import ServiceProfile
from tasks.service_lock import hold_service

PATIENCE_SECONDS = 60


def die(*_: Any) -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def write_without_end(profile: ServiceProfile, tell: Any) -> None:
    """Write lines, and tell the number of each that is said to be on the disk."""
    journal = open_journal(profile, "restore-database")
    for number in count(1):
        journal.write("step", number=number, filler="x" * 5_000)
        tell.send(number)


def die_before_the_move(profile: ServiceProfile, tell: Any) -> None:
    """Close a journal, and die when its last line is written and it is to be moved."""
    journal = open_journal(profile, "restore-database")
    journal.write("began")
    Journal._archive = die  # type: ignore[method-assign, assignment]
    journal.close("all is done")


def hold(profile: ServiceProfile, tell: Any) -> None:
    """Hold the service, tell so, and keep it."""
    with disable_run_logger(), hold_service(profile, purpose="restore-database", holder="clever-otter"):
        tell.send(os.getpid())
        time.sleep(PATIENCE_SECONDS)


globals()[globals()["ACT"]](ServiceProfile.model_validate_json(globals()["PROFILE"]), globals()["TELL"])
