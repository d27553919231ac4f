"""Save every part of a set side by side, showing the progress, and write down what was saved."""

import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Literal

from prefect.futures import PrefectFuture, as_completed
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import BaseModel, ConfigDict

from tasks.application_files import save_application
from tasks.artifacts import Progress
from tasks.backup_sets import locate_set
from tasks.database_source import DatabaseSource
from tasks.records.backup import ApplicationContent, Consistency, Manifest
from tasks.records.service import ServiceProfile


class SetDraft(BaseModel):
    """What is known of a set before it is saved."""

    model_config = ConfigDict(frozen=True)

    set_id: str
    service: str
    kind: Literal["nightly", "emergency"]
    reason: str
    started_at: datetime
    consistency: Consistency


def save_set(profile: ServiceProfile, source: DatabaseSource, draft: SetDraft) -> Manifest:
    """Given a held database and a draft, save database and application; return the manifest to publish.

    Every part is a task of its own, so that a retry repeats only what failed; ``backup.width`` of them run
    side by side. The first part that fails for good ends it, and nothing is published.
    """
    location = locate_set(profile, draft.set_id)
    with ThreadPoolTaskRunner[Any](max_workers=profile.backup.width) as runner:
        futures: list[PrefectFuture[Any]] = source.submit(runner, location)
        parameters = {"application": profile.application, "location": location}
        futures.append(runner.submit(save_application, parameters))
        saved = _await_all(futures, f"{draft.kind}-backup", draft)
    mongodb, postgresql = source.conclude(
        [content for content in saved if not isinstance(content, ApplicationContent)]
    )
    (application,) = (content for content in saved if isinstance(content, ApplicationContent))
    return Manifest(
        **draft.model_dump(),
        finished_at=datetime.now(UTC),
        mongodb=mongodb,
        postgresql=postgresql,
        application=application,
        software={
            "operations-runbooks": version("operations-runbooks"),
            "prefect": version("prefect"),
            "python": platform.python_version(),
        },
    )


def _await_all(futures: list[PrefectFuture[Any]], runbook: str, draft: SetDraft) -> list[Any]:
    progress = Progress(runbook, draft.service)
    progress.start(f"Saving {len(futures)} parts of {draft.service} into set {draft.set_id}")
    results = []
    for future in as_completed(futures):
        results.append(future.result())
        progress.update(len(results) / len(futures))
    return results
