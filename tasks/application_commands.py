"""Run the commands that a profile names: to install what its application needs, to migrate its data."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from tasks.environment_file import read_variables
from tasks.errors import ConfigurationError
from tasks.host_program import run_program
from tasks.records.service import ServiceProfile

_SECONDS = 900.0
_LOGGED_LINES = 20
# A shorter value is a port, a word, a number: it is no secret, and masking it would make a log unreadable.
_LEAST_SECRET = 6
_MASK = "***"


@task(task_run_name="{purpose}", cache_policy=NO_CACHE, persist_result=False)
def run_application_command(
    profile: ServiceProfile, command: tuple[str, ...], purpose: str, directory: Path | None = None
) -> None:
    """Given a command of the profile, run it in the application's directory or another; do nothing without.

    Its last lines go into the log without the env file's values. Raise ``ConfigurationError`` if it cannot be
    started, fails, or takes longer than 15 minutes.
    """
    if not command:
        return
    folder = directory or profile.application.directory
    secrets = _secrets(profile, folder)
    finished = run_program(command, seconds=_SECONDS, directory=folder)
    lines = _masked(finished.output, secrets).splitlines()[-_LOGGED_LINES:]
    said = [line.rstrip() for line in lines if line.strip()]
    shown = _masked(" ".join(" ".join(command).split()), secrets)
    get_run_logger().info("To %s, %s ran in %s:\n%s", purpose, shown, folder, "\n".join(said))
    if finished.returncode == 0:
        return
    how = (
        f"did not finish within {_SECONDS / 60:.0f} minutes"
        if finished.returncode is None
        else f"failed with exit code {finished.returncode}"
    )
    last = f"its last line was: {said[-1].rstrip('.')}" if said else "it said nothing"
    raise ConfigurationError(f"{profile.name}: the command to {purpose}, {shown} in {folder}, {how}; {last}.")


def _secrets(profile: ServiceProfile, folder: Path) -> set[str]:
    """Return everything in the application's env files, here and there, that a log must not show."""
    moved = profile.application.model_copy(update={"directory": folder})
    values: set[str] = set()
    for place in (profile, profile.model_copy(update={"application": moved})):
        if place.env_path.exists():
            values.update(read_variables(place).values())
    # A program seldom repeats a whole URL or key: it shows its password, or a line of it.
    parts = {part for value in values for part in (*value.splitlines(), *_passwords(value))}
    return {secret for secret in values | parts if len(secret) >= _LEAST_SECRET}


def _passwords(value: str) -> set[str]:
    try:
        password = urlsplit(value).password or ""
    except ValueError:
        return set()
    return {password, unquote(password)}


def _masked(text: str, secrets: set[str]) -> str:
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _MASK)
    return text
