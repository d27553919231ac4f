"""Prove that every process of the application runs with the secrets of its env file, without telling one."""

import hmac
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import httpx
import psutil

from tasks.environment_file import read_variables
from tasks.errors import ConfigurationError, UnreachableError
from tasks.http_exchange import exchange
from tasks.process_facts import environment_of
from tasks.process_manager import manager_of
from tasks.records.observation import Record
from tasks.records.service import ServiceProfile

_NONCE_BYTES: Final = 32
_ANSWER_SECONDS: Final = 3.0
_POLL_SECONDS: Final = 0.1
# A process that is being replaced answers for a while beside the new one.
_LONGEST_SECONDS = 15.0


class FingerprintProof(Record):
    """The processes that were seen to run with the env file's values of these variables."""

    processes: tuple[int, ...]
    variables: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """Say so."""
        count, names = len(self.processes), ", ".join(self.variables)
        who = "Its process" if count == 1 else f"All {count} processes of it"
        return f"{who} proved by fingerprint to run with {names} as the env file has it."


def prove_fingerprints(profile: ServiceProfile, variables: Sequence[str]) -> FingerprintProof | None:
    """Given a service, ask until every process that its process manager lists has proven to run with these.

    None if the profile names no URL for it. Raise ``UnreachableError`` naming the process that runs with
    another value, tells none or does not answer; ``ConfigurationError`` if that URL tells no fingerprints.
    """
    url = profile.application.fingerprints_url
    if url is None:
        return None
    present = read_variables(profile)
    wanted = {name: present[name] for name in variables if name in present}
    deadline = time.monotonic() + _LONGEST_SECONDS
    problems: dict[int, str | None] = {}
    # A Windows service's process is of another host, where nobody lists it: it is the one that answers.
    is_elsewhere = profile.application.process_manager == "windows"
    while True:
        listed, silence = manager_of(profile).list_pids(), None
        # Each connection reaches any of them: ask more often than there are.
        for _ in range(2 * len(listed) or int(is_elsewhere)):
            told = _ask(profile, url)
            if isinstance(told, str):
                silence = told
                break
            process, problem = _judge(told, wanted)
            listed = [process] if is_elsewhere else listed
            problems[_find_listed(process, listed)] = problem
        judged = {pid: problems.get(pid, silence or "has not answered") for pid in listed}
        are_all = is_elsewhere or sorted(manager_of(profile).list_pids()) == sorted(listed)
        if listed and not any(judged.values()) and are_all:
            return FingerprintProof(processes=tuple(sorted(listed)), variables=tuple(wanted))
        if time.monotonic() > deadline:
            raise UnreachableError(_say_unproven(profile, url, judged))
        time.sleep(_POLL_SECONDS)


def refuse_old_environment(
    profile: ServiceProfile, pending: Mapping[str, str | None], previous: Mapping[str, str | None]
) -> None:
    """Given what was promoted, raise ``UnreachableError`` if a process was started with an old value.

    PM2 gives a process the environment that it was once given itself, and what a process was started with
    wins over an env file.
    """
    changed = {name: value for name, value in previous.items() if value and value != pending.get(name)}
    for pid in manager_of(profile).list_pids():
        environment = environment_of(pid)
        for name, value in changed.items():
            if environment.get(name) == value:
                process = profile.application.process_name
                raise UnreachableError(
                    f"{profile.name}: process {pid} of {process} was started with the old {name} in its "
                    "environment, over which the env file has no say: take it out of the ecosystem file, the "
                    f"unit or the shell that it comes from, restart it (pm2 restart {process} --update-env), "
                    "and start this again."
                )


def _ask(profile: ServiceProfile, url: str) -> dict[str, Any] | str:
    """Return what a process told, with the nonce that it was asked for, or the end of a sentence."""
    nonce = secrets.token_hex(_NONCE_BYTES)
    found = exchange(str(httpx.URL(url).copy_merge_params({"nonce": nonce})), _ANSWER_SECONDS)
    if found.problem is not None:
        return f"has not answered ({found.problem})"
    if found.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
        return f"has not answered ({url} answered {found.status_code})"
    told = found.read_json()
    match told:
        case {"process": int(), "fingerprints": dict()} if found.status_code == httpx.codes.OK:
            return {**told, "nonce": nonce}
    raise ConfigurationError(
        f"{profile.name}: {url} answered {found.status_code} and told no fingerprints: correct "
        "application.fingerprints_url in the profile, or leave it out."
    )


def _judge(told: Mapping[str, Any], wanted: Mapping[str, str]) -> tuple[int, str | None]:
    """Return which process told it, and the end of a sentence if it does not run with what is wanted."""
    for name, value in wanted.items():
        fingerprint = told["fingerprints"].get(name)
        if fingerprint is None:
            return told["process"], f"runs without {name}, or does not tell it"
        expected = hmac.digest(value.encode(), told["nonce"].encode(), "sha256").hex()
        if not hmac.compare_digest(expected, str(fingerprint)):
            return told["process"], f"runs with another {name} than the env file has"
    return told["process"], None


def _find_listed(process: int, listed: Iterable[int]) -> int:
    """Return the listed process that one is a child of, as where npm was started; itself if it is none."""
    if process in listed:
        return process
    with suppress(psutil.Error):
        for parent in psutil.Process(process).parents():
            if parent.pid in listed:
                return parent.pid
    return process


def _say_unproven(profile: ServiceProfile, url: str, judged: Mapping[int, str | None]) -> str:
    wrong = [f"process {pid} {problem}" for pid, problem in judged.items() if problem]
    said = "; ".join(wrong) or "no process of it runs, or others did a moment later"
    return (
        f"{profile.name}: not every process of {profile.application.process_name} was seen to run with the "
        f"env file's secrets: {said}; see its log, and whether {url} reaches it."
    )
