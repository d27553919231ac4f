"""Does one thing with a service's folder in a process of its own, which the test kills. Not a test.

``ACT`` names the function below, ``PROFILE`` is the service as JSON, ``TELL`` the test's end of a pipe.
"""

import os
import signal
import sys
import time
from itertools import count
from types import FrameType
from typing import Any, NoReturn

from prefect.logging import disable_run_logger

from tasks import environment_writing
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


def die_at_each_line(profile: ServiceProfile, tell: Any) -> None:
    """Write the env file in processes that die at the writer's first line, at its second, and so on.

    Tell after each what is left in the folder; the last is of the one that came to its end.
    """
    before = profile.env_path.read_bytes()
    for number in count(1):
        profile.env_path.write_bytes(before)
        process = os.fork()
        if process == 0:
            _trace(environment_writing.__file__, number)
            environment_writing.write_variables(profile, {"SECRET": "new"}, {"SECRET": "old"})
            os._exit(0)
        _, status = os.waitpid(process, 0)
        tell.send({path.name: path.read_bytes() for path in profile.env_path.parent.iterdir()})
        if not os.WIFSIGNALED(status):
            return


def _trace(file: str, number: int) -> None:
    """Die before the so-many-th line of a module is run; what compares in a loop touches nothing."""
    lines = count(1)

    def watch(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != file or frame.f_code.co_name == "<genexpr>":
            return None
        if event == "line" and next(lines) == number:
            die()
        return watch

    sys.settrace(watch)


globals()[globals()["ACT"]](ServiceProfile.model_validate_json(globals()["PROFILE"]), globals()["TELL"])
