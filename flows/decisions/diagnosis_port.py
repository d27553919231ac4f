"""Causes at the application's port: somebody else has it, or it is another one."""

from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import urlsplit

from flows.decisions.diagnosis_reading import (
    FAILS_TO_START,
    Finding,
    Rule,
    find_oldest,
    known,
    say_changed,
    say_health,
    say_moment,
    say_names,
    say_signatures,
)
from tasks.records.evidence import Evidence, PortHolder
from tasks.records.service import ServiceProfile


def read_stranger(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Does another program listen where the application should?"""
    port = known(evidence.port)
    if port is None or any(holder.ours or holder.left_behind for holder in port.holders) or not port.holders:
        return None
    names = say_names(dict.fromkeys(_name_holder(holder) for holder in port.holders))
    return Finding(
        f"Port {port.port} is taken by {names}, which is not the application.",
        (
            *(_say_holder(holder, port.port, evidence, profile) for holder in port.holders),
            *say_signatures(evidence, profile, "port taken"),
        ),
        # Without the process manager nobody can tell for sure whose process it is.
        certainty="proven" if known(evidence.process) is not None else "likely",
        since=find_oldest(holder.since for holder in port.holders),
    )


def read_left_behind(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Does a process of the application, that its manager lost, keep the port?"""
    port = known(evidence.port)
    if port is None or any(holder.ours for holder in port.holders):
        return None
    left = [holder for holder in port.holders if holder.left_behind]
    if not left:
        return None
    pids = say_names(str(holder.pid) for holder in left)
    return Finding(
        f"Port {port.port} is kept by a process of the application itself ({pids}), which its process "
        "manager has lost.",
        (
            *(_say_holder(holder, port.port, evidence, profile) for holder in left),
            *say_signatures(evidence, profile, "port taken"),
        ),
        since=find_oldest(holder.since for holder in left),
        target=left[0].identity,
    )


def read_wrong_port(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Does it listen on another port than the one it is asked at, on this host itself?"""
    port, asked = known(evidence.port), urlsplit(profile.application.health_url)
    expected = asked.port or (443 if asked.scheme == "https" else 80)
    if port is None or port.port == expected or not any(holder.ours for holder in port.holders):
        return None
    # A proxy, elsewhere or here, has a port of its own: who is asked there is no application of ours.
    if not _is_here(asked.hostname) or evidence.health.answers[-1].failure != "refused":
        return None
    variable = profile.application.port_variable
    return Finding(
        f"The application listens on port {port.port}, and is asked at port {expected}.",
        (
            f"{variable} of the env file says {port.port}.",
            say_health(evidence),
            *say_changed(evidence, variable),
        ),
        certainty="likely",
    )


def _is_here(host: str | None) -> bool:
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ip_address(host or "").is_loopback
    return False


def _name_holder(holder: PortHolder) -> str:
    # Another user's process has no number for an ordinary user.
    return f"{holder.name} (process {holder.pid})" if holder.pid is not None else holder.name


def _say_holder(holder: PortHolder, port: int, evidence: Evidence, profile: ServiceProfile) -> str:
    since = f", since {say_moment(holder.since, evidence, profile)}" if holder.since else ""
    who = f"Process {holder.pid}" if holder.pid is not None else "A process that hides its number"
    return f"{who} listens on port {port}{since}: {holder.command or holder.name}."


RULES: tuple[Rule, ...] = (
    Rule(
        "wrong port",
        "I14",
        "configuration",
        read_wrong_port,
        proof="nobody listens on the port of a health URL of this host, and the application does on another",
        advice="Correct the port in the env file, or in the profile and the proxy, then restart.",
        explains=("answers with errors", "hanging", "not listening", "port taken"),
    ),
    Rule(
        "port taken",
        "I14",
        "port",
        read_stranger,
        proof="the kernel says which process listens on the port, and it is not the application's",
        advice="Stop that program or give it another port, then restart the application.",
        explains=(*FAILS_TO_START, "hanging"),
    ),
    Rule(
        "port kept by its own old process",
        "I14",
        "port",
        read_left_behind,
        proof="the process that listens is the application's program, and its manager does not know it",
        advice="End that process, then restart the application.",
        remedy="free-port",
        explains=(*FAILS_TO_START, "hanging"),
    ),
)
