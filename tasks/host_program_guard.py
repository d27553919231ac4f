"""Run a command, and kill it and all in its process group when whoever asked for it is gone.

A program of its own, run by ``host_program``: nothing in a process can act after that process was killed.
Standard input is a pipe that the asker holds open and never writes to. Standard library only.
"""

import os
import signal
import subprocess
import sys
import threading

_CANNOT_START = 127


def main() -> int:
    """Run the command of our arguments and return its exit code, as a shell would."""
    threading.Thread(target=_outlive_nobody, daemon=True).start()
    try:
        returncode = subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, check=False).returncode
    except OSError as error:
        print(f"{sys.argv[1]} cannot be started: {error.strerror}", flush=True)  # noqa: T201
        return _CANNOT_START
    return returncode if returncode >= 0 else 128 - returncode


def _outlive_nobody() -> None:
    os.read(0, 1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
