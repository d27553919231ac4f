"""PM2's list of an application's instances, asked of its daemon, or of its command where that cannot be.

The command starts a Node.js for each look: a tenth of a second and more of a processor that the application
may be short of, to the daemon's two thousandths. It may also start a daemon, among the worker's processes.
"""

import json
import os
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from tasks.errors import UnreachableError
from tasks.host_program import Finished, find_program, run_program
from tasks.own_processes import is_pm2_up
from tasks.records.application import Application

HOME_VARIABLE = "PM2_HOME"
_QUIET = {"PM2_DISABLE_VERSION_CHECK": "true", "PM2_DISCRETE_MODE": "true", "NO_COLOR": "1"}
_REMEDY = "install PM2 on the worker's host, or name it in application.process_manager_program"
_SOCKET = "rpc.sock"
# What PM2's own command sends for `jlist`, by its modules pm2-axon-rpc and pm2-axon: a byte of the framing's
# version and of how many parts follow, each with its length before it; the last is the request's name.
_FRAMING_VERSION = 1
_LENGTH = struct.Struct(">I")
_JSON, _TEXT = b"j:", b"s:"
_ORDER = {"type": "call", "method": "getMonitorData", "args": [{}]}


def find_pm2_home() -> Path:
    """Return the folder of the PM2 that the command ``pm2`` means, as far as the environment says it."""
    return Path(os.environ.get(HOME_VARIABLE) or Path.home() / ".pm2")


def run_pm2(application: Application, verb: str, *arguments: str, seconds: float) -> Finished:
    """Given an application under PM2, run PM2's command and return how it ended.

    Raise ``UnreachableError`` if no PM2 runs or it takes longer, ``ConfigurationError`` if it is missing.
    """
    program = _find_program(application)
    if not is_pm2_up():
        raise UnreachableError(
            "No PM2 runs on this host: start it, with systemctl start pm2-USER or, as its user, with pm2 "
            "resurrect."
        )
    finished = run_program([program, verb, *arguments], seconds=seconds, extra=_QUIET)
    if finished.returncode is None:
        raise _silent(f"pm2 {verb}", seconds)
    return finished


def list_entries(application: Application, seconds: float) -> list[dict[str, Any]]:
    """Given an application under PM2, return PM2's entry of each instance, none where PM2 does not know it.

    They hold the application's secrets. Raise what ``run_pm2`` raises, and ``UnreachableError`` if there is
    no reading what PM2 lists.
    """
    _find_program(application)
    # A command that has a home of its own is asked itself.
    if entries := _named(_ask_daemon(find_pm2_home() / _SOCKET, seconds), application.process_name):
        return entries
    finished = run_pm2(application, "jlist", seconds=seconds)
    # It may have said other things before.
    for line in reversed(finished.output.splitlines()):
        if line.startswith("["):
            # What cannot be read may hold the application's secrets: it is not repeated.
            with suppress(ValueError, AttributeError):
                return _named(json.loads(line), application.process_name)
    raise cannot_be_read(finished.returncode)


def cannot_be_read(returncode: int | None = None) -> UnreachableError:
    """Return the error of a list that is none of PM2's."""
    ended = "" if returncode is None else f" (exit code {returncode})"
    return UnreachableError(f"pm2 jlist gave no list{ended}: see PM2's own log, pm2.log in its home.")


def _find_program(application: Application) -> str:
    return find_program("pm2", application.process_manager_program, _REMEDY)


def _silent(what: str, seconds: float) -> UnreachableError:
    return UnreachableError(
        f"{what} did not finish within {seconds:.3g} s: see PM2's own log, pm2.log in its home."
    )


def _named(listed: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [entry for entry in listed if entry.get("name") == name]


def _ask_daemon(at: Path, seconds: float) -> list[dict[str, Any]]:
    """Return all that the daemon lists, nothing if there is none there or it answers otherwise than PM2 7."""
    parts = [_JSON + json.dumps(_ORDER).encode(), _TEXT + b"0"]
    order = bytes([_FRAMING_VERSION << 4 | len(parts)])
    order += b"".join(_LENGTH.pack(len(part)) + part for part in parts)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(seconds)
            connection.connect(str(at))
            connection.sendall(order)
            with connection.makefile("rb") as answer:
                (listed,) = json.loads(_read_first_part(answer))["args"]
                return [dict(entry) for entry in listed]
    except TimeoutError:
        raise _silent("PM2's daemon", seconds) from None
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _read_first_part(answer: BinaryIO) -> bytes:
    """Return the result of an answer; raise ``ValueError`` if it is none."""
    header = answer.read(1 + _LENGTH.size)
    if len(header) <= _LENGTH.size:
        raise ValueError
    part = answer.read(*_LENGTH.unpack_from(header, 1))
    if not part.startswith(_JSON):
        raise ValueError
    return part.removeprefix(_JSON)
