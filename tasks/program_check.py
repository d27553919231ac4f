"""Have the application's own Node.js parse its program, without running any of it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from tasks.errors import UnreachableError
from tasks.host_program import find_program, run_program
from tasks.own_processes import find_node_of
from tasks.records.observation import Complaint
from tasks.records.service import ServiceProfile

_SCRIPT: Final = Path(__file__).with_suffix(".js")
_SECONDS: Final = 4.0
_OPTIONS: Final = ("--no-warnings", "--experimental-vm-modules")
_SUFFIXES: Final = {".js", ".cjs", ".mjs"}
_REMEDY: Final = "put it there: without it nobody can tell whether the application's program can run"
# What Node.js quotes is a piece of the program: a long one may be a secret that lost its quotation marks.
_LONG_QUOTE = re.compile(r"(['\"`])[^'\"`]{20,}\1")


@dataclass(frozen=True)
class Checked:
    """What the entry file and all that it requires by a fixed path look like to Node.js."""

    files: tuple[str, ...] = ()
    """Those that were read, below the application's directory."""
    refused: tuple[str, ...] = ()
    """Those that are there and could not be read."""
    syntax_errors: tuple[Complaint, ...] = ()
    missing: tuple[Complaint, ...] = ()


def check_program(profile: ServiceProfile, processes: Sequence[psutil.Process], node: str | None) -> Checked:
    """Given the application's processes, and the Node.js that it ran on last, return how its program is.

    Raise ``ConfigurationError`` if there is no Node.js, ``UnreachableError`` if it does not manage to look.
    """
    application = profile.application
    if application.entry_file.suffix not in _SUFFIXES:
        return Checked()
    program = _find_node(profile, processes, node)
    words = [str(application.directory), str(application.entry_file)]
    finished = run_program([program, *_OPTIONS, str(_SCRIPT), *words], seconds=_SECONDS)
    try:
        said = json.loads(finished.output.strip().rpartition("\n")[2])
    except ValueError:
        # What it printed instead may be a piece of the program.
        ended = "did not finish" if finished.returncode is None else f"ended with {finished.returncode}"
        raise UnreachableError(
            f"{profile.name}: {program} {ended} while it parsed {application.entry_file}: try node --check."
        ) from None
    return _read(said)


def _find_node(profile: ServiceProfile, processes: Sequence[psutil.Process], node: str | None) -> str:
    """Return the Node.js that runs it now, ran it last, is beside its process manager, or is on PATH."""
    manager = profile.application.process_manager_program
    beside = manager.parent / "node" if manager else None
    for candidate in (find_node_of(processes), node, beside):
        if candidate is not None and Path(candidate).is_file():
            return str(candidate)
    return find_program("node", None, _REMEDY)


def _read(said: dict[str, Any]) -> Checked:
    gone = {found["name"] for found in said["refused"] if found["code"] == "ENOENT"}
    return Checked(
        files=tuple(said["files"]),
        refused=tuple(found["name"] for found in said["refused"] if found["name"] not in gone),
        syntax_errors=tuple(_say_error(**found) for found in said["syntax"]),
        missing=(
            *(Complaint(name=name, problem="is not there, and the program begins with it") for name in gone),
            *(
                Complaint(name=found["name"], problem=f"is not there, {found['wantedBy']} requires it")
                for found in said["missing"]
            ),
        ),
    )


def _say_error(name: str, message: str, line: int | None) -> Complaint:
    said = _LONG_QUOTE.sub(r"\1…\1", message.partition("\n")[0])
    return Complaint(name=f"{name}:{line}" if line else name, problem=f"cannot be parsed: {said}")
