"""The remedies of a service, kept on its host: what counts against the budget, also after a kill.

``<state_directory>/<service>/remedies.jsonl``: a line before each remedy is begun, and another when it has
ended. Who writes holds the service's lock.
"""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import ValidationError

from tasks.errors import ConfigurationError
from tasks.host_folder import append_line, host_folder, whole_lines
from tasks.records.remediation import PastRemedy
from tasks.records.service import ServiceProfile


@task(cache_policy=NO_CACHE, persist_result=False)
def read_remedies(profile: ServiceProfile) -> tuple[PastRemedy, ...]:
    """Given a service, return its remedies, oldest line first, each with how it ended as far as is known.

    Raise ``ConfigurationError`` if a line is none: without the past there is no budget to keep to.
    """
    path = _path(profile)
    found: dict[object, PastRemedy] = {}
    try:
        for line in whole_lines(path.read_bytes()).split(b"\n")[:-1]:
            remedy = PastRemedy.model_validate_json(line)
            found[remedy.at, remedy.run, remedy.remedy] = remedy
    except FileNotFoundError:
        return ()
    except ValidationError:
        raise ConfigurationError(
            f"{path} is no list of remedies of ours: somebody or another version wrote it. See what it says, "
            "and move the file away."
        ) from None
    return tuple(found.values())


@task(cache_policy=NO_CACHE, persist_result=False)
def record_remedy(profile: ServiceProfile, remedy: PastRemedy) -> None:
    """Given a remedy that is about to be begun, or has ended, write that down; it is on the disk after this.

    Raise ``StoreFullError`` if there is no room.
    """
    append_line(_path(profile), remedy.model_dump_json().encode())


def _path(profile: ServiceProfile) -> Path:
    return host_folder(profile) / "remedies.jsonl"
