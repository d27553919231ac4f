"""When what happened, by all that evidence tells of it."""

from collections.abc import Iterator
from datetime import datetime

from flows.decisions.diagnosis_reading import MANAGERS, known, list_instances, say_names
from tasks.records.diagnosis import TimelineEntry
from tasks.records.evidence import Evidence
from tasks.records.figures import say_count
from tasks.records.service import ServiceProfile

_MOST_ENTRIES = 30


def find_start(since: datetime | None, evidence: Evidence) -> datetime | None:
    """Return since when a cause is at work, unless the service was healthy after that."""
    if since is None or since > evidence.at:
        return None
    return since if evidence.last_healthy is None or since >= evidence.last_healthy else None


def make_timeline(evidence: Evidence, profile: ServiceProfile) -> tuple[TimelineEntry, ...]:
    """Return what happened up to this moment, oldest first, the last thirty entries."""
    entries = set(_list_entries(evidence, profile))
    past = sorted(
        (entry for entry in entries if entry.at <= evidence.at),
        key=lambda entry: (entry.at, entry.source, entry.what),
    )
    return tuple(past[-_MOST_ENTRIES:])


def _list_entries(evidence: Evidence, profile: ServiceProfile) -> Iterator[TimelineEntry]:
    if evidence.last_healthy is not None:
        yield TimelineEntry(at=evidence.last_healthy, what="It was healthy last.", source="health checks")
    yield from _list_starts(evidence, profile)
    yield from _list_changes(evidence)
    yield from _list_log(evidence)
    if (port := known(evidence.port)) is not None:
        for holder in port.holders:
            if holder.since is not None and not holder.ours:
                what = f"{holder.name} (process {holder.pid}), which holds the port, was started."
                yield TimelineEntry(at=holder.since, what=what, source="kernel")
    certificate = known(evidence.certificate)
    if certificate is not None and certificate.ends_at is not None:
        what = f"The certificate of {certificate.where} ended."
        yield TimelineEntry(at=certificate.ends_at, what=what, source="certificate")


def _list_starts(evidence: Evidence, profile: ServiceProfile) -> Iterator[TimelineEntry]:
    manager = MANAGERS[profile.application.process_manager]
    for instance in list_instances(evidence):
        if instance.since is not None:
            restarts = (
                f", restarted {say_count(instance.restarts, 'time')} so far" if instance.restarts else ""
            )
            what = f"Process {instance.name} was started{restarts}; it is {instance.state} now."
            yield TimelineEntry(at=instance.since, what=what, source=manager)


def _list_changes(evidence: Evidence) -> Iterator[TimelineEntry]:
    application, environment = known(evidence.application), known(evidence.environment)
    if application is not None and application.changed_at is not None:
        what = say_names(application.changed_files) or "The newest file of the program"
        yield TimelineEntry(at=application.changed_at, what=f"{what} changed.", source="files")
    if environment is not None and environment.modified_at is not None:
        what = say_names(environment.changed) or "The env file"
        yield TimelineEntry(at=environment.modified_at, what=f"{what} changed.", source="env file")


def _list_log(evidence: Evidence) -> Iterator[TimelineEntry]:
    logs = known(evidence.logs)
    if logs is None:
        return
    if logs.started_at is not None:
        yield TimelineEntry(at=logs.started_at, what="The application said that it is up.", source="log")
    for signature in logs.signatures:
        if signature.first is not None:
            what = f"First line about: {signature.name} ({say_count(signature.count, 'line')})."
            yield TimelineEntry(at=signature.first, what=what, source="log")
