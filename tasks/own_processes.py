"""Find processes that run the application's entry file, whoever started them."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import psutil

from tasks.records.service import ServiceProfile

_NODE = {"node", "nodejs", "node.exe"}
# PM2 says in the environment of what it starts what it is; the name in the process list may be cut off.
_PM2_PATH, _PM2_NAME, _PM2_CLUSTER = "pm_exec_path", "name", "pm2_env"
_PM2_TITLE = re.compile(r"PM2 v[\w.-]+: God Daemon \((?P<home>.+)\)\s*")


def find_own_processes(profile: ServiceProfile) -> list[psutil.Process]:
    """Given a service, return the processes of this host that run its entry file, as far as we see them."""
    return [process for process in psutil.process_iter() if runs_entry(profile, process)]


def runs_entry(profile: ServiceProfile, process: psutil.Process) -> bool:
    """Tell whether a process is Node.js and runs the service's entry file; one that hides does not."""
    try:
        if Path(process.exe()).name.lower() not in _NODE:
            return False
        folder, words = process.cwd(), process.cmdline()
    except (psutil.Error, OSError):
        return False
    entry = os.path.realpath(profile.application.directory / profile.application.entry_file)
    # Node.js' own process.title makes one word of all of them.
    written = [*words[1:], *(part for word in words for part in word.split()[1:])]
    return any(
        os.path.realpath(Path(folder, word)) == entry for word in {*written, *_started_by_pm2(process)}
    )


def _started_by_pm2(process: psutil.Process) -> Iterator[str]:
    try:
        path = _said_by_pm2(process, _PM2_PATH)
    except (psutil.Error, OSError):
        return
    if path:
        yield path


def _said_by_pm2(process: psutil.Process, name: str) -> str | None:
    """Return what PM2 says of a process that it started: one by one, or of a cluster's as JSON."""
    said: Any = process.environ()
    if _PM2_CLUSTER in said:
        with suppress(ValueError):
            said = json.loads(said[_PM2_CLUSTER])
    found = said.get(name) if isinstance(said, dict) else None
    return found if isinstance(found, str) else None


def find_starters(profile: ServiceProfile) -> list[psutil.Process]:
    """Given a service under PM2, return the daemons of our user: what one starts has its user and rights."""
    return list(_find_pm2(profile))


def list_started_by_pm2(profile: ServiceProfile) -> frozenset[int] | None:
    """Given a service under PM2, return the processes that PM2 started for it; None if nobody can tell.

    All that PM2 knows descends from it, and says its name: to ask PM2 takes a hundred times as long.
    """
    families = []
    for starter in find_starters(profile):
        # One that it is just starting bears its name until it is another program, or over.
        with suppress(psutil.NoSuchProcess):
            families.append(starter.children())
    try:
        named = [
            child.pid
            for child in chain.from_iterable(families)
            if _name_given_by_pm2(child) == profile.application.process_name
        ]
    except psutil.AccessDenied:
        return None
    return frozenset(named) if families else None


def _name_given_by_pm2(process: psutil.Process) -> str | None:
    try:
        return _said_by_pm2(process, _PM2_NAME)
    except psutil.NoSuchProcess:
        return None


def is_pm2_up() -> bool:
    """Tell whether anything of PM2 runs on this host.

    Where nothing does, PM2's own command would start a daemon among the worker's processes: what PM2 then
    starts, as after a reboot, would end when the worker is stopped.
    """
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if "pm2" in " ".join(process.cmdline()).lower():
                return True
    return False


def find_starters_homes(profile: ServiceProfile) -> list[Path]:
    """Given a service under PM2, return the folders of our user's daemons: their logs are in there."""
    return list(_find_pm2(profile).values())


def _find_pm2(profile: ServiceProfile) -> dict[psutil.Process, Path]:
    found = {}
    for process in psutil.process_iter() if profile.application.process_manager == "pm2" else ():
        with suppress(psutil.Error):
            title = _PM2_TITLE.fullmatch(" ".join(process.cmdline()))
            if title is not None and process.uids().effective == os.geteuid():
                found[process] = Path(title["home"])
    return found


def say_name(process: psutil.Process) -> str:
    """Say what program a process is; the name that it gives itself may be a thread's, or a title."""
    try:
        return Path(process.exe()).name or process.name()
    except psutil.AccessDenied:
        return process.name()


def find_node_of(processes: Iterable[psutil.Process]) -> str | None:
    """Given the application's processes, return the path of the Node.js that runs one of them."""
    for process in processes:
        try:
            path = process.exe()
        except (psutil.Error, OSError):
            continue
        if os.access(path, os.X_OK):
            return path
    return None
