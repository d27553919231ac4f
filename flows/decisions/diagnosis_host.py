"""Causes in the host: disk, memory, CPU. Pressure that nobody feels is worth a note, and no cause."""

from flows.decisions.diagnosis_reading import (
    Finding,
    Rule,
    find_first_line,
    find_hungry,
    gives_no_answer,
    known,
    list_instances,
    proves,
    say_complaints,
    say_health,
    say_hunger,
    say_signatures,
    suffers,
)
from tasks.records.evidence import DiskFacts, Evidence
from tasks.records.figures import say_bytes
from tasks.records.process import ProcessInstance
from tasks.records.service import ServiceProfile

_MIB = 1 << 20
# Whatever part of the disk the profile allows: with less nothing can be written any more.
_NOTHING_LEFT_BYTES = 1 * _MIB
_NOTHING_LEFT_FILES = 0.0005
_BUSY_PERCENT = 90.0
_STALLED_PERCENT = 50.0
_WAITING_PERCENT = 20.0
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]", "::1")


def read_disk(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Is a disk full, by its bytes or by its number of files?"""
    host = known(evidence.host)
    least = profile.outage.least_free_disk
    full = [disk for disk in host.disks if _is_full(disk, least)] if host is not None else []
    if not full:
        return None
    worst = min(full, key=lambda disk: (disk.free_bytes / max(disk.total_bytes, 1), disk.path))
    logged = say_signatures(evidence, profile, "disk full")
    stopped, noticed = any(_takes_nothing(disk) for disk in full), proves(evidence, "disk full")
    database = known(evidence.database)
    is_here = database is not None and any(f" at {host}" in database.where for host in _LOCAL_HOSTS)
    return Finding(
        f"The disk of {worst.path} is full: {_say_free(worst)}.",
        (*(f"{disk.path}: {_say_free(disk)} of {say_bytes(disk.total_bytes)}." for disk in full), *logged),
        certainty="proven" if stopped or noticed else "likely",
        since=find_first_line(evidence, "disk full"),
        hurts=stopped or noticed,
        # A full disk takes a database down only if it is the database's: its log must say so.
        explains=("database down", "database refuses") if is_here and noticed else (),
    )


def read_host_memory(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Is the host's memory exhausted?"""
    host = known(evidence.host)
    if host is None:
        return None
    free = host.memory_available_bytes
    if free >= profile.outage.least_free_memory * host.memory_bytes:
        return None
    return Finding(
        f"The host's memory is exhausted: {say_bytes(free)} of {say_bytes(host.memory_bytes)} are free.",
        (
            f"{say_bytes(free)} of {say_bytes(host.memory_bytes)} are free.",
            *((say_complaints(host.busiest),) if host.busiest else ()),
            say_health(evidence),
        ),
        certainty="likely",
    )


def read_process_memory(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Does the application take more memory than it may, or did its heap end?"""
    limit = profile.outage.memory_limit_mib
    over = [
        instance
        for instance in list_instances(evidence)
        if limit is not None and (instance.memory_bytes or 0) > limit * _MIB
    ]
    logged = say_signatures(evidence, profile, "out of memory")
    if not over and not logged:
        return None
    said = tuple(
        f"Process {instance.name} has {say_bytes(instance.memory_bytes or 0)}, "
        f"and {say_bytes((limit or 0) * _MIB)} is its limit."
        for instance in over
    )
    name = profile.application.process_name
    what = "ran out of memory" if logged else "takes more memory than it may"
    return Finding(
        f"{name} {what}: it likely leaks.",
        (*logged, *said),
        certainty="proven" if proves(evidence, "out of memory") else "likely",
        since=find_first_line(evidence, "out of memory"),
        hurts=bool(over),
    )


def read_cpu(evidence: Evidence, profile: ServiceProfile) -> Finding | None:
    """Are all of the host's cores busy, or is the one that the application answers on?"""
    host = known(evidence.host)
    busiest = (say_complaints(host.busiest),) if host is not None and host.busiest else ()
    hungry = find_hungry(evidence)
    if hungry:
        # Who gets a core and never answers hangs; who answers late has too much to compute.
        silent = all(answer.failure for answer in evidence.health.answers)
        return None if silent else _find_overload(hungry, busiest, evidence, profile)
    if host is None or host.cpu_percent < _BUSY_PERCENT:
        return None
    # Who refuses, or says at once what is wrong, does not lack a core.
    if suffers(evidence, profile) and not gives_no_answer(evidence, profile):
        return None
    waiting = host.waiting_percent
    if waiting is not None and waiting < _WAITING_PERCENT:
        return None
    stall = (f"For {waiting:.0f} % of the last ten seconds somebody waited for a core.",) if waiting else ()
    return Finding(
        f"The CPU is saturated: {host.cpu_percent:.0f} % of {host.cores} cores are taken.",
        (*stall, *busiest, say_health(evidence)),
        # That all cores are taken is seen; that the service suffers from it, and nothing else, never is.
        certainty="possible" if waiting is not None and waiting < _STALLED_PERCENT else "likely",
    )


def _find_overload(
    hungry: tuple[ProcessInstance, ...],
    busiest: tuple[str, ...],
    evidence: Evidence,
    profile: ServiceProfile,
) -> Finding:
    name = profile.application.process_name
    return Finding(
        f"{name} itself keeps its core busy, and answers late.",
        (*(say_hunger(instance) for instance in hungry), say_health(evidence), *busiest),
        certainty="likely",
        advice=f"Look in the log at what {name} is asked; if it is not more than usual, restart it.",
    )


def _is_full(disk: DiskFacts, least: float) -> bool:
    few_files = disk.free_files is not None and disk.free_files < least
    return _takes_nothing(disk) or few_files or disk.free_bytes < least * disk.total_bytes


def _takes_nothing(disk: DiskFacts) -> bool:
    no_file = disk.free_files is not None and disk.free_files < _NOTHING_LEFT_FILES
    return no_file or disk.free_bytes < min(_NOTHING_LEFT_BYTES, disk.total_bytes / 100)


def _say_free(disk: DiskFacts) -> str:
    said = f"{say_bytes(disk.free_bytes)} free"
    return said if disk.free_files is None else f"{said}, and {disk.free_files * 100:.1f} % of its files"


_SUFFERS = ("crash loop", "process errored", "hanging", "answers with errors", "login broken")

RULES: tuple[Rule, ...] = (
    Rule(
        "disk full",
        "I33",
        "host",
        read_disk,
        proof="less of a disk is free than the profile allows, in bytes or files; for certain if nothing "
        "can be written or the log says so",
        advice="Free some: old logs and archives first; then look at what grew, and restart what gave up.",
        explains=(*_SUFFERS, "process stopped", "not listening"),
    ),
    Rule(
        "host memory exhausted",
        "P21",
        "host",
        read_host_memory,
        proof="less of the host's memory is free than the profile allows, and the service suffers",
        advice="End or move what takes the memory, as listed; then restart what was killed.",
        explains=(*_SUFFERS, "process stopped", "not listening"),
    ),
    Rule(
        "memory leak",
        "P21",
        "host",
        read_process_memory,
        proof="the log says that the heap is out of memory, or a process takes more than "
        "`outage.memory_limit_mib`",
        advice="Restart it for now; collect-metrics shows since when it grows, and so which change began it.",
        remedy="restart",
        explains=(*_SUFFERS, "process stopped"),
    ),
    Rule(
        "cpu saturated",
        "I33",
        # Whatever else is found explains an outage better.
        "process",
        read_cpu,
        proof="all cores are taken and others wait, or the application takes its core and answers late, and "
        "the service suffers",
        advice="End or move what takes the CPU, as listed.",
        explains=("hanging", "answers with errors", "login broken", "starting", "not listening"),
    ),
)
