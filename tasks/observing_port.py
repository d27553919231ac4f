"""See who listens on the application's port: its own processes, one that its manager lost, or a stranger."""

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import psutil
from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.environment_file import read_variables
from tasks.errors import AccessDeniedError, RunbookError
from tasks.log_masking import MASK, mask
from tasks.own_processes import list_started_by_pm2, runs_entry, say_name
from tasks.process_manager import observe_application
from tasks.records.evidence import PortFacts, PortHolder
from tasks.records.service import ServiceProfile

_PORT = re.compile(r"\d{1,5}", re.ASCII)
_HIGHEST_PORT = 65535
_LONGEST_COMMAND = 120
_HIDDEN = "a process of another user"
# What follows as a word of its own is a secret: --password hidden
_TELLING_OPTION = re.compile(r"--?[\w-]*(pass|pwd|secret|token|key|auth|credential)[\w-]*", re.IGNORECASE)


@dataclass(frozen=True)
class _Known:
    """The application's processes by its manager; ``pids`` is None if the manager could not be asked."""

    asked_at: float
    pids: frozenset[int] | None


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_port(profile: ServiceProfile) -> PortFacts:
    """Given a service, return who listens on its port; nobody is an answer.

    As an ordinary user, other users' processes are seen to listen, and no more. Raise ``AccessDeniedError``
    if this host does not even say that.
    """
    try:
        variables = read_variables(profile)
    except RunbookError:
        variables = {}
    port = port_of(profile, variables)
    # First the manager: what starts later is a fresh process of its, and none that it lost.
    known = _ask_manager(profile)
    pids = _list_listeners(profile, port)
    secrets = frozenset(variables.values())
    holders = [_describe(profile, pid, known, secrets) for pid in pids]
    return PortFacts(port=port, holders=tuple(holder for holder in holders if holder is not None))


def port_of(profile: ServiceProfile, variables: dict[str, str]) -> int:
    """Given an env file's variables, return the application's port; the health URL's if there is none."""
    written = variables.get(profile.application.port_variable, "")
    if _PORT.fullmatch(written) and 0 < int(written) <= _HIGHEST_PORT:
        return int(written)
    url = urlsplit(profile.application.health_url)
    return url.port or (443 if url.scheme == "https" else 80)


def _ask_manager(profile: ServiceProfile) -> _Known:
    asked_at = datetime.now(UTC).timestamp()
    if profile.application.process_manager == "pm2":
        return _Known(asked_at, list_started_by_pm2(profile))
    try:
        instances = observe_application.fn(profile).instances
    except RunbookError:
        return _Known(asked_at, None)
    return _Known(asked_at, frozenset(found.pid for found in instances if found.pid))


def _list_listeners(profile: ServiceProfile, port: int) -> list[int | None]:
    try:
        found = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        raise AccessDeniedError(
            f"{profile.name}: this host does not tell the worker's user who listens on port {port}: ask "
            "as root."
        ) from None
    return list(
        dict.fromkeys(
            entry.pid
            for entry in found
            if entry.status == psutil.CONN_LISTEN and entry.laddr and entry.laddr.port == port
        )
    )


def _describe(
    profile: ServiceProfile, pid: int | None, known: _Known, secrets: frozenset[str]
) -> PortHolder | None:
    """Return who that is, or None if it is gone meanwhile."""
    if pid is None:
        return PortHolder(pid=None, name=_HIDDEN, command="", ours=_has_hidden(known.pids))
    try:
        process = psutil.Process(pid)
        started = process.create_time()
        name, is_own = say_name(process), runs_entry(profile, process)
        ours = _is_managed(process, known.pids or ())
        if is_own and (known.pids is None or started >= known.asked_at):
            ours = True
        return PortHolder(
            pid=pid,
            name=mask(name, secrets),
            command=_say_command(process, secrets),
            ours=ours or (known.pids is None and _has_own_child(profile, process)),
            left_behind=is_own and not ours,
            since=datetime.fromtimestamp(started, UTC),
        )
    except psutil.NoSuchProcess:
        return None


def _is_managed(process: psutil.Process, known: Collection[int]) -> bool:
    """Tell whether it is one that the manager knows, or descends from one, or one of them from it.

    The latter is PM2 itself, which listens for the processes of a cluster.
    """
    if process.pid in known or any(parent.pid in known for parent in process.parents()):
        return True
    for pid in known:
        with suppress(psutil.NoSuchProcess):
            if process in psutil.Process(pid).parents():
                return True
    return False


def _has_own_child(profile: ServiceProfile, process: psutil.Process) -> bool:
    return any(runs_entry(profile, child) for child in process.children(recursive=True))


def _has_hidden(known: Collection[int] | None) -> bool:
    """Tell whether a process that the manager knows is another user's: then it is the one that hides."""
    if known is None:
        # Nobody is accused without a look at the application's own.
        return True
    for pid in known:
        with suppress(psutil.Error):
            if psutil.Process(pid).uids().effective != psutil.Process().uids().effective:
                return True
    return False


def _say_command(process: psutil.Process, secrets: frozenset[str]) -> str:
    try:
        words = process.cmdline()
    except psutil.AccessDenied:
        return ""
    # A process that gives itself a title fills what is left of the line with blanks.
    said = mask(" ".join(_hide_options(words)), secrets).rstrip()
    return said if len(said) <= _LONGEST_COMMAND else f"{said[: _LONGEST_COMMAND - 1]}…"


def _hide_options(words: Sequence[str]) -> list[str]:
    before = ["", *words]
    return [
        MASK if _TELLING_OPTION.fullmatch(first) else word for first, word in zip(before, words, strict=False)
    ]
