"""`make doctor`: check every service profile against the living systems, a line for each thing wrong."""

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from deployments.doctor_contacts import examine_contacts
from deployments.doctor_data import examine_cleanup, examine_indexes
from deployments.doctor_users import examine_users
from flows.decisions.backup_freshness import judge_freshness
from tasks.backup_sets import open_repository
from tasks.credentials import resolve
from tasks.environment_file import read_variable, read_variables
from tasks.errors import AlreadyExistsError, RunbookError
from tasks.host_errors import naming_file
from tasks.host_folder import host_folder
from tasks.http_probe import probe_health, probe_login
from tasks.mongodb import connect as connect_mongodb
from tasks.opening_stores import open_store
from tasks.postgresql import connect as connect_postgresql
from tasks.postgresql import parse_url
from tasks.postgresql_dump import client_version
from tasks.process_manager import observe_application
from tasks.profiles import list_misnamed, list_services, read_profile, services_folder
from tasks.records.service import ServiceProfile

Problems = Iterator[str]


def main() -> int:
    """Check every profile; the exit code is 1 when anything is wrong."""
    folder = services_folder()
    console = Console(highlight=False)
    try:
        services, misnamed = list_services(folder), list_misnamed(folder)
    except RunbookError as error:
        _show(console, str(error))
        return 1
    for name in misnamed:
        _show(console, ("wrong", "red"), f"  {name} is not read: rename it to {Path(name).stem}.yaml.")
    if not services:
        _show(console, f"There is no profile in {folder}: write one, see docs/how-to/add-a-service.md.")
        return 1
    problems = [problem for name in services for problem in _report(console, folder, name)]
    return 1 if problems or misnamed else 0


def _report(console: Console, folder: Path, name: str) -> list[str]:
    problems = list(examine(folder / f"{name}.yaml"))
    for problem in problems:
        _show(console, ("wrong", "red"), f"  {name}: {problem}")
    if not problems:
        _show(console, ("well", "green"), f"   {name}: everything answers as the profile says.")
    return problems


def _show(console: Console, *parts: str | tuple[str, str]) -> None:
    """Print a line to the letter: what stands in brackets is a problem's, and no markup."""
    console.print(Text.assemble(*parts), soft_wrap=True)


def examine(path: Path) -> Problems:
    """Yield a sentence for everything that is wrong with a profile's service, and what to do about it."""
    try:
        profile = read_profile(path)
    except RunbookError as error:
        yield str(error)
        return
    checks: tuple[Callable[[ServiceProfile], Problems], ...] = (
        _examine_files,
        _examine_application,
        _examine_process,
        _examine_login,
        _examine_state_directory,
        _examine_database,
        _examine_administrator,
        examine_indexes,
        examine_cleanup,
        examine_users,
        _examine_store,
        _examine_backups,
        examine_contacts,
    )
    for check in checks:
        try:
            yield from check(profile)
        except RunbookError as error:
            yield str(error)


def _examine_files(profile: ServiceProfile) -> Problems:
    application = profile.application
    with naming_file(application.directory):
        if not application.directory.is_dir():
            yield f"{application.directory} does not exist: correct application.directory."
            return
        for log_file in application.log_files:
            if not (application.directory / log_file).exists():
                yield f"there is no {log_file} in {application.directory}: correct application.log_files."


def _examine_application(profile: ServiceProfile) -> Problems:
    application = profile.application
    health = probe_health.fn(application.health_url)
    if health.problem is not None:
        yield f"{health.url} is not healthy, {health.problem}: see the log of {application.process_name}."
    variables = read_variables(profile)
    for name in application.required_variables:
        if not variables.get(name):
            yield f"{name} is not set in {profile.env_path}: set it, the application does not start without."


def _examine_process(profile: ServiceProfile) -> Problems:
    status = observe_application.fn(profile)
    if not status.running:
        yield f"{status.detail}: see the log of {profile.application.process_name}."


def _examine_login(profile: ServiceProfile) -> Problems:
    problem = probe_login.fn(profile)
    if problem is not None:
        yield f"{problem.removesuffix('.')}: compare application.login with the probe user."


def _examine_state_directory(profile: ServiceProfile) -> Problems:
    host_folder(profile)
    return iter(())


def _examine_database(profile: ServiceProfile) -> Problems:
    url = read_variable(profile, profile.database.url_variable)
    if profile.database.kind == "mongodb":
        with connect_mongodb(url):
            return
    address = parse_url(url)
    with connect_postgresql(address) as connection:
        server = connection.info.server_version // 10_000
    client = client_version(profile.database.client_directory)
    if int(client.partition(".")[0]) < server:
        yield f"pg_dump {client} is older than the server ({server}): install the server's client programs."


def _examine_administrator(profile: ServiceProfile) -> Problems:
    url = resolve(profile.database.admin_url)
    if profile.database.kind == "mongodb":
        with connect_mongodb(url) as client:
            client.list_database_names()
        return
    with connect_postgresql(parse_url(url)) as connection:
        may_create = connection.execute(
            "SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
    if may_create != (True,):
        yield "the administrator of database.admin_url may not create databases: a restore drill needs to."


def _examine_store(profile: ServiceProfile) -> Problems:
    store = open_store(profile.backup.destination)
    # Some stores make a missing bucket on the first write; listing tells that the name is wrong.
    next(iter(store.list_keys(f"{profile.name}/")), None)
    probe = f"{profile.name}/doctor.probe"
    store.write(probe, b"can this be written?")
    try:
        if store.read(probe) != b"can this be written?":
            yield f"{store.address} does not give back what was written: look at the store."
        store.write_if_absent(probe, b"and this, which is there already?")
    except AlreadyExistsError:
        return
    else:
        yield (
            f"{store.address} does not heed If-None-Match, without which two hosts are not kept apart: use a "
            "store that does."
        )
    finally:
        store.delete(probe)


def _examine_backups(profile: ServiceProfile) -> Problems:
    now = datetime.now(UTC)
    yield from judge_freshness(open_repository(profile).state(now), profile.backup.drill_every, now)


if __name__ == "__main__":
    sys.exit(main())
