"""Run a command, and kill it and all in its process group when whoever asked for it is gone.

A program of its own, run by ``host_program``: nothing in a process can act after that process was killed.
Standard input is a pipe that the asker holds open and never writes to. Standard library only, and of it what
Python has loaded already: signal, subprocess and threading take longer than all the rest.
"""

import _thread
import os
import sys

_CANNOT_START = 127
# POSIX gives the first its number; Linux, macOS and the BSDs agree on the others.
_SIGKILL, _SIGPIPE, _SIGXFSZ = 9, 13, 25


def main() -> int:
    """Run the command of our arguments and return its exit code, as a shell would."""
    _thread.start_new_thread(_outlive_nobody, ())
    command = sys.argv[1:]
    try:
        child = os.posix_spawnp(
            command[0],
            command,
            os.environ,
            file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
            # Python ignores these for itself, and a child would inherit that.
            setsigdef=[_SIGPIPE, _SIGXFSZ],
        )
    except OSError as error:
        print(f"{command[0]} cannot be started: {error.strerror}", flush=True)  # noqa: T201
        return _CANNOT_START
    returncode = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return returncode if returncode >= 0 else 128 - returncode


def _outlive_nobody() -> None:
    os.read(0, 1)
    os.killpg(0, _SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
