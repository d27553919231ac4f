"""Runbook row I3: whether a start is whole, step by step, in the order of the start-up sequence."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from flows.decisions.diagnosis_reading import known, list_instances, say_complaints, say_health, say_names
from tasks.records.checks import Checked, CheckedLine, LineVerdict
from tasks.records.diagnosis import Diagnosis
from tasks.records.evidence import Evidence
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile

# Logs and process managers write times in their own steps.
_TOLERANCE: Final = timedelta(seconds=2)
_LOGS_ARE_KEPT: Final = timedelta(days=1)
_NOT_ROUTES: Final = {404, 405, 501}
_SERVER_ERROR: Final = 500
# The log may have been cut off since; that the start is whole is seen without it.
_OF_THE_LOG: Final = {"Firebase's line", "start-up line"}

Seen = tuple[LineVerdict, str]


def find_start(evidence: Evidence) -> datetime | None:
    """Given what was seen, return when the youngest process of the application was started."""
    return max((one.since for one in list_instances(evidence) if one.since is not None), default=None)


def find_early_start(evidence: Evidence) -> datetime | None:
    """Given what was seen, return from when on the log must be read for the start; None if it was."""
    started, logs = find_start(evidence), known(evidence.logs)
    if started is None or logs is None or logs.since <= started - _TOLERANCE:
        return None
    return started - _TOLERANCE


def judge_startup(evidence: Evidence, diagnosis: Diagnosis, profile: ServiceProfile) -> Checked:
    """Given what was seen after a start, return which of its steps are done; the first that is not counts."""
    lines = [_read(name, read, evidence, profile) for name, read in _STEPS.items()]
    missing = [line for line in lines if line.verdict == "WRONG"]
    blind = [line for line in lines if line.verdict == "not known" and line.name not in _OF_THE_LOG]
    first = next(iter((*missing, *blind)), None)
    done = sum(line.verdict == "ok" for line in lines)
    headline = f"{profile.name} has started: {done} of {len(lines)} steps are seen to be done."
    if first is not None:
        state = "is missing" if missing else "cannot be seen"
        headline = f"{profile.name}'s start is not whole: the step '{first.name}' {state}. {first.seen}"
    return Checked(
        service=profile.name,
        good=first is None,
        headline=headline,
        lines=tuple(lines),
        to_do=() if first is None else tuple(dict.fromkeys(cause.advice for cause in diagnosis.causes)),
        notes=() if first is None else tuple(cause.title for cause in diagnosis.causes),
    )


def _read(
    name: str,
    read: Callable[[Evidence, ServiceProfile], Seen],
    evidence: Evidence,
    profile: ServiceProfile,
) -> CheckedLine:
    verdict, seen = read(evidence, profile)
    return CheckedLine(name=name, row="I3", verdict=verdict, seen=seen)


def _blind(part: Unknown) -> Seen:
    return "not known", f"{part.why.removesuffix('.')}."


def _read_environment(evidence: Evidence, _profile: ServiceProfile) -> Seen:
    found = evidence.environment
    if isinstance(found, Unknown):
        return _blind(found)
    if found.problem is not None:
        return "WRONG", found.problem
    if found.missing:
        return "WRONG", f"{say_names(found.missing)} {'are' if found.missing[1:] else 'is'} not set."
    if found.malformed:
        return "WRONG", say_complaints(found.malformed)
    return "ok", f"{found.path} is complete."


def _read_process(evidence: Evidence, _profile: ServiceProfile) -> Seen:
    found = evidence.process
    if isinstance(found, Unknown):
        return _blind(found)
    return "ok" if found.running else "WRONG", f"{found.detail.removesuffix('.')}."


def _read_port(evidence: Evidence, profile: ServiceProfile) -> Seen:
    found = evidence.port
    if isinstance(found, Unknown):
        return _blind(found)
    strangers = [holder for holder in found.holders if not holder.ours]
    if strangers:
        who = say_names(f"{holder.name} ({holder.pid})" for holder in strangers)
        return (
            "WRONG",
            f"On port {found.port} listens {who}, which is not {profile.application.process_name}.",
        )
    if not found.holders:
        return "WRONG", f"Nobody listens on port {found.port}."
    return "ok", f"{profile.application.process_name} listens on port {found.port}."


def _read_database(evidence: Evidence, _profile: ServiceProfile) -> Seen:
    found = evidence.database
    if isinstance(found, Unknown):
        return _blind(found)
    if found.state == "answers":
        return "ok", f"{found.where} answered in {found.seconds:.2f} s."
    return "WRONG", found.problem or f"{found.where} {found.state}."


def _read_line_of_firebase(evidence: Evidence, profile: ServiceProfile) -> Seen:
    if profile.firebase is None:
        return "-", "The service has no Firebase."
    logs = evidence.logs
    if isinstance(logs, Unknown):
        return _blind(logs)
    if logs.firebase_started is None:
        return "not known", "The log that there is does not reach back to the start."
    said = f'"{profile.firebase.started_line}"'
    if logs.firebase_started:
        return "ok", f"The log says {said}."
    found = known(evidence.firebase)
    why = f" {found.problem}" if found is not None and found.problem else ""
    return "WRONG", f"The log does not say {said}.{why}"


def _read_routes(evidence: Evidence, profile: ServiceProfile) -> Seen:
    login, found = profile.application.login, evidence.authentication
    if login is None:
        return "-", "The profile names no login to try."
    if isinstance(found, Unknown):
        return _blind(found)
    status = found.login_status
    if status is None:
        return "WRONG", found.login_problem or f"{login.url} does not answer."
    if status in _NOT_ROUTES or status >= _SERVER_ERROR:
        return "WRONG", f"{login.url} answered {status}: the route is not there, or fails."
    return "ok", f"{login.url} answered {status}."


def _read_started_line(evidence: Evidence, profile: ServiceProfile) -> Seen:
    logs, started = evidence.logs, find_start(evidence)
    if isinstance(logs, Unknown):
        return _blind(logs)
    if started is None:
        return "not known", "When the process was started is not known."
    said = f'"{profile.application.started_line}"'
    if logs.started_at is not None and logs.started_at >= started - _TOLERANCE:
        return "ok", f"The log says {said} after the process was started."
    if not logs.sources:
        return "not known", "There is no log."
    if evidence.at - started > _LOGS_ARE_KEPT:
        return "not known", "It was started long ago, and the log may have been cut off since."
    return "WRONG", f"The log does not say {said} since the process was started."


def _read_health(evidence: Evidence, _profile: ServiceProfile) -> Seen:
    return "ok" if evidence.health.problem is None else "WRONG", say_health(evidence)


_STEPS: Final[dict[str, Callable[[Evidence, ServiceProfile], Seen]]] = {
    "env file": _read_environment,
    "process": _read_process,
    "port": _read_port,
    "database": _read_database,
    "Firebase's line": _read_line_of_firebase,
    "routes": _read_routes,
    "start-up line": _read_started_line,
    "health": _read_health,
}
