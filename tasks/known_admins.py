"""Who administered at earlier looks, kept on the service's host: who is new is seen by that.

``<state_directory>/<service>/history/admins.jsonl``, private, a line each time that it was otherwise than
before. Nothing depends on it but the comparison: a line that nobody can read is left out.
"""

from prefect import task
from prefect.cache_policies import NO_CACHE
from pydantic import ValidationError

from tasks.host_folder import append_line, host_folder, whole_lines
from tasks.records.accounts import AdminsThen
from tasks.records.service import ServiceProfile

_FOLDER, _NAME = "history", "admins.jsonl"


@task(cache_policy=NO_CACHE, persist_result=False)
def read_known_admins(profile: ServiceProfile) -> tuple[AdminsThen, ...]:
    """Given a service, return who administered at each earlier look at which it had changed, oldest first."""
    try:
        content = (host_folder(profile) / _FOLDER / _NAME).read_bytes()
    except FileNotFoundError:
        return ()
    return tuple(found for line in whole_lines(content).splitlines() if (found := _parse(line)) is not None)


@task(cache_policy=NO_CACHE, persist_result=False)
def keep_known_admins(profile: ServiceProfile, now: AdminsThen, before: AdminsThen | None) -> None:
    """Given who administers, keep it where it differs; raise ``StoreFullError`` if there is no room."""
    if before is not None and before.admins == now.admins:
        return
    folder = host_folder(profile) / _FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    append_line(folder / _NAME, now.model_dump_json().encode())


def _parse(line: bytes) -> AdminsThen | None:
    try:
        return AdminsThen.model_validate_json(line)
    except ValidationError:
        return None
