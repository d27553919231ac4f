"""Run a program of this host: no shell, no input, a time limit, and nothing of it left afterwards."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tasks import host_program_guard
from tasks.errors import ConfigurationError

_OUTPUT_BYTES = 8 << 20
# The worker's own secrets are in its environment as well: a package's install script is to see none of them.
_HANDED_ON = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|TMPDIR|PM2_HOME|npm_config_\w+"
    r"|(https?|no|all)_proxy|NODE_EXTRA_CA_CERTS|SSL_CERT_(FILE|DIR)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Finished:
    """How a program ended; ``returncode`` is None if it did not in time. The output is both streams'."""

    returncode: int | None
    output: str


def find_program(program: str, explicit: Path | None, remedy: str) -> str:
    """Given a program's name, or where it is, return its path; raise ``ConfigurationError`` if missing."""
    found = shutil.which(explicit or program)
    if found is None:
        missing = f"{explicit} is no program" if explicit else f"{program} is not on the worker's PATH"
        raise ConfigurationError(f"{missing}: {remedy}.")
    return found


def run_program(
    command: Sequence[str],
    *,
    seconds: float,
    directory: Path = Path("/"),
    extra: Mapping[str, str] | None = None,
) -> Finished:
    """Given a command, run it and return how it ended; raise ``ConfigurationError`` if there is no directory.

    It gets a session of its own and of our environment what names places only, besides ``extra``. Whatever
    it started and left in its process group is killed at the end, also when we are killed ourselves.
    """
    environment = {name: value for name, value in os.environ.items() if _HANDED_ON.fullmatch(name)}
    guarded = [sys.executable, "-I", "-S", host_program_guard.__file__, *command]
    # A file and not a pipe: a child that it leaves behind would keep a pipe open.
    with tempfile.TemporaryFile() as output, _lifeline() as lifeline:
        try:
            process = subprocess.Popen(
                guarded,
                stdin=lifeline,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=directory,
                env={**environment, **(extra or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise ConfigurationError(
                f"{command[0]} cannot be started in {directory}: {error.strerror}."
            ) from None
        returncode: int | None = None
        try:
            with suppress(subprocess.TimeoutExpired):
                returncode = process.wait(seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(max(0, output.seek(0, os.SEEK_END) - _OUTPUT_BYTES))
        return Finished(returncode, output.read().decode(errors="replace"))


@contextmanager
def _lifeline() -> Generator[int]:
    """Yield the end of a pipe that reads nothing as long as this process lives and the block runs."""
    read_end, write_end = os.pipe()
    try:
        yield read_end
    finally:
        os.close(read_end)
        os.close(write_end)
