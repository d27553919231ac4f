"""Save every part of a set side by side, showing the progress, and write down what was saved."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ThreadPoolTaskRunner

from tasks.application_files import save_application
from tasks.artifacts import Progress
from tasks.backup_sets import abandon_set, locate_set
from tasks.database_source import DatabaseSource
from tasks.records.backup import ApplicationContent, Manifest
from tasks.records.plans import BackupOrder
from tasks.records.service import ServiceProfile
from tasks.streams import quick_thread_switches


def save_set(
    profile: ServiceProfile, source: DatabaseSource, order: BackupOrder, set_id: str, started: datetime
) -> Manifest:
    """Given a held database, save it and the application; return the manifest to publish.

    Every part is a task of its own, so that a retry repeats only what failed; ``backup.width`` of them run
    side by side. The first part that fails for good ends it: nothing is published, and what was saved goes.
    """
    try:
        saved = _save_parts(profile, source, order, set_id)
        mongodb, postgresql = source.conclude(
            [content for content in saved if not isinstance(content, ApplicationContent)]
        )
    except Exception:
        abandon_set(profile, set_id)
        raise
    (application,) = (content for content in saved if isinstance(content, ApplicationContent))
    return Manifest(
        set_id=set_id,
        service=profile.name,
        kind=order.kind,
        reason=order.reason,
        started_at=started,
        finished_at=datetime.now(UTC),
        consistency=source.consistency,
        mongodb=mongodb,
        postgresql=postgresql,
        application=application,
        software={
            "operations-runbooks": version("operations-runbooks"),
            "prefect": version("prefect"),
            "python": platform.python_version(),
        },
    )


def _save_parts(
    profile: ServiceProfile, source: DatabaseSource, order: BackupOrder, set_id: str
) -> list[Any]:
    location = locate_set(profile, set_id)
    with quick_thread_switches(), ThreadPoolTaskRunner[Any](max_workers=profile.backup.width) as runner:
        futures: list[PrefectFuture[Any]] = source.submit(runner, location)
        parameters = {"application": profile.application, "location": location}
        futures.append(runner.submit(save_application, parameters))
        progress = Progress(f"{order.kind}-backup", profile.name)
        progress.start(f"Saving {len(futures)} parts of {profile.name} into set {set_id}")
        return _await_all(futures, progress)


def _await_all(futures: list[PrefectFuture[Any]], progress: Progress) -> list[Any]:
    results = []
    for future in as_completed(futures):
        results.append(future.result())
        progress.update(len(results) / len(futures))
    return results
