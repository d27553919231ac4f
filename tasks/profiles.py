"""Load service profiles. A wrong one is refused with the file, the line, the field and what was expected."""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.schedules import CronSchedule

from tasks.errors import AccessDeniedError, ConfigurationError
from tasks.records.service import ServiceProfile
from tasks.yaml_sections import read_section

SERVICES_VARIABLE = "RUNBOOK_SERVICES"
_PROJECT = Path(__file__).parent.parent
_DEFAULT_FOLDER = _PROJECT / "deployments" / "services"


def services_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of the profiles: ``RUNBOOK_SERVICES``, or ``deployments/services``."""
    return Path(environment.get(SERVICES_VARIABLE) or _DEFAULT_FOLDER)


def list_services(folder: Path) -> tuple[str, ...]:
    """Given the folder of the profiles, return the services' names in order, none if there is no folder.

    Raise ``AccessDeniedError`` if it may not be read: those in there are not to be taken for none.
    """
    try:
        return tuple(sorted(path.stem for path in folder.iterdir() if path.suffix == ".yaml"))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise AccessDeniedError(
            f"The folder of the profiles, {folder}, cannot be read ({error.strerror}): run this as the "
            "worker's user."
        ) from None


def list_misnamed(folder: Path) -> tuple[str, ...]:
    """Return the files in the folder of the profiles that look like profiles and are not read: ``.yml``."""
    return tuple(sorted(path.name for path in folder.glob("*.yml")))


def read_profile(path: Path) -> ServiceProfile:
    """Given a profile's file, return the profile; raise ``ConfigurationError`` saying where it is wrong."""
    profile = read_section(path, ServiceProfile, "profile")
    if profile.name != path.stem:
        raise ConfigurationError(
            f"The profile {path} calls its service '{profile.name}': file and service have one name."
        )
    try:
        CronSchedule(cron=profile.backup.schedule, timezone=profile.time_zone)
    except ValueError:
        raise ConfigurationError(
            f"The profile {path} has '{profile.backup.schedule}' as backup.schedule, which is no cron "
            "expression: write one like '0 2 * * *'."
        ) from None
    for name in profile.approval.required_for:
        if name not in _list_runbooks():
            alike = get_close_matches(name, _list_runbooks(), n=1)
            hint = f" Did you mean {alike[0]}?" if alike else ""
            raise ConfigurationError(
                f"The profile {path} lets '{name}' wait for approval, which is no runbook: correct "
                f"approval.required_for.{hint}"
            )
    return profile


@cache
def _list_runbooks() -> tuple[str, ...]:
    """Return the names of the runbooks: each has a file of its name, which nothing here may import."""
    return tuple(sorted(path.stem.replace("_", "-") for path in (_PROJECT / "flows").glob("[a-z]*.py")))


@task(cache_policy=NO_CACHE, persist_result=False)
def load_service(name: str) -> ServiceProfile:
    """Given a service's name, return its profile; raise ``ConfigurationError`` if unknown or malformed."""
    folder = services_folder()
    path = folder / f"{name}.yaml"
    if name not in list_services(folder):
        if f"{name}.yml" in list_misnamed(folder):
            raise ConfigurationError(
                f"The profile {folder / name}.yml is not read: rename it to {name}.yaml."
            )
        known = ", ".join(list_services(folder)) or "none"
        raise ConfigurationError(f"There is no service '{name}' in {folder}; known services: {known}.")
    return read_profile(path)
