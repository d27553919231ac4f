"""The profile's install and migrate commands, on the sandbox's applications; and commands that misbehave."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from pymongo import MongoClient
from pymongo.collection import Collection

from deployments.sandbox.endpoints import Endpoints
from tasks import application_commands
from tasks.application_commands import run_application_command
from tasks.errors import ConfigurationError
from tasks.records.service import ServiceProfile

LATE = "20990101000000_late"


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What would stand in the run's log; there is no run."""
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(application_commands, "get_run_logger", lambda: logging.getLogger("run"))
    return caplog


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "application"
    made.mkdir()
    return made


@pytest.fixture
def profile(invoice: ServiceProfile, folder: Path) -> ServiceProfile:
    (folder / ".env").write_text(
        "DATABASE_URL=postgres://app:p%40ss-word@db/app\n"
        'PRIVATE_KEY="first-line-of-key\\nsecond-line-of-key"\n'
        "PORT=5000\nTOKEN=very-secret-token\n"
    )
    application = invoice.application.model_copy(update={"directory": folder})
    return invoice.model_copy(update={"application": application})


def python(source: str) -> tuple[str, ...]:
    return (sys.executable, "-c", source)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(what: Callable[[], Any], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "what was waited for did not come about"
        time.sleep(0.02)


def test_the_invoice_migrations_put_a_dropped_index_back(
    invoice: ServiceProfile, endpoints: Endpoints, log: pytest.LogCaptureFixture
) -> None:
    name = "entityType_1_entityId_1_timestamp_-1"
    client: MongoClient[dict[str, Any]]
    with MongoClient(endpoints.mongodb_admin_url) as client:
        audit: Collection[dict[str, Any]] = client["invoice"]["auditLogs"]
        before = audit.index_information()
        if name in before:
            audit.drop_index(name)
        run_application_command.fn(invoice, invoice.application.migrate_command, "migrate the database")
        assert name in audit.index_information()
        if name not in before:
            audit.drop_index(name)
    assert "To migrate the database, " in log.text
    assert "4 indexes are in place" in log.text


@pytest.fixture
def late_migration(propertypulse: ServiceProfile, endpoints: Endpoints) -> Iterator[Path]:
    """A migration that came with a newer application than the database is of; removed with its traces."""
    script = propertypulse.application.directory / "prisma" / "migrations" / LATE / "migration.sql"
    script.parent.mkdir()
    script.write_text("CREATE TABLE late (id integer);")
    yield script
    script.unlink()
    script.parent.rmdir()
    with psycopg.connect(endpoints.postgresql_url) as connection:
        connection.execute("DROP TABLE IF EXISTS late")
        connection.execute("DELETE FROM _prisma_migrations WHERE migration_name = %s", [LATE])


def test_a_pending_migration_is_applied_once_and_a_broken_one_leaves_nothing(
    propertypulse: ServiceProfile,
    endpoints: Endpoints,
    late_migration: Path,
    log: pytest.LogCaptureFixture,
) -> None:
    def migrate() -> None:
        log.clear()
        run_application_command.fn(propertypulse, propertypulse.application.migrate_command, "migrate")

    def look(query: str) -> list[Any]:
        with psycopg.connect(endpoints.postgresql_url) as connection:
            return connection.execute(query.encode()).fetchall()

    correct = late_migration.read_text()
    late_migration.write_text(f"{correct} SELECT nonsense;")
    with pytest.raises(
        ConfigurationError, match=f'Migration {LATE} failed: column "nonsense" does not exist'
    ):
        migrate()
    assert look("SELECT to_regclass('late')") == [(None,)]
    late_migration.write_text(correct)
    migrate()
    assert f"Applied migration {LATE}\n3 migrations found, 1 applied" in log.text
    migrate()
    assert "3 migrations found, 0 applied" in log.text
    recorded = f"SELECT count(*) FROM _prisma_migrations WHERE migration_name = '{LATE}'"
    assert look(recorded) == [(1,)]


def test_the_install_command_puts_the_packages_where_the_application_finds_them(
    invoice: ServiceProfile, folder: Path
) -> None:
    run_application_command.fn(invoice, invoice.application.install_command, "install", directory=folder)
    assert (folder / "node_modules" / "mongodb" / "package.json").exists()


def test_no_command_does_nothing(profile: ServiceProfile, log: pytest.LogCaptureFixture) -> None:
    run_application_command.fn(profile, (), "migrate the database")
    assert log.text == ""


def test_no_value_of_the_env_file_is_seen_in_the_log_or_the_error(
    profile: ServiceProfile, folder: Path, log: pytest.LogCaptureFixture
) -> None:
    source = f"""
import sys
print(open({str(folder / ".env")!r}).read(), flush=True)
print("second-line-of-key p@ss-word on port 5000", file=sys.stderr)
print("refused: very-secret-token.")
sys.exit(3)
"""
    with pytest.raises(ConfigurationError) as raised:
        run_application_command.fn(profile, python(source), "migrate the database")
    # The command itself, which the sentence names, holds two of them.
    for secret in (
        "p%40ss-word",
        "first-line-of-key",
        "very-secret-token",
        "p@ss-word",
        "second-line-of-key",
    ):
        assert secret not in log.text
        assert secret not in str(raised.value)
    assert "*** *** on port 5000" in log.text
    assert str(raised.value).endswith("failed with exit code 3; its last line was: refused: ***.")


def test_a_command_in_a_folder_beside_is_masked_with_the_env_file_of_both(
    profile: ServiceProfile, tmp_path: Path, log: pytest.LogCaptureFixture
) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / ".env").write_text("TOKEN=another-token\n")
    command = python("import os; print(os.getcwd(), open('.env').read(), 'very-secret-token')")
    run_application_command.fn(profile, command, "install", directory=beside)
    assert f"{beside} TOKEN=***" in log.text
    assert "secret" not in log.text


def test_the_command_sees_nothing_of_the_workers_secrets_and_no_input(
    profile: ServiceProfile, monkeypatch: pytest.MonkeyPatch, log: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:password")
    monkeypatch.setenv("BACKUP_SECRET_ACCESS_KEY", "key")
    source = "import os, sys; print(sorted(os.environ), repr(sys.stdin.read()), os.getsid(0) == os.getppid())"
    run_application_command.fn(profile, python(source), "look")
    assert "PATH" in log.text
    assert "'' True" in log.text
    assert "PREFECT" not in log.text
    assert "BACKUP" not in log.text


@pytest.mark.parametrize("command", [("./no-such-program", "now"), ("no-such-program", "now")])
def test_a_program_that_is_not_there_is_named(profile: ServiceProfile, command: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match=rf"{command[0]} now in .* No such file or directory\."):
        run_application_command.fn(profile, command, "install")


def test_a_directory_that_is_not_there_is_named(profile: ServiceProfile, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"true cannot be started in .*absent: No such file"):
        run_application_command.fn(profile, ("true",), "install", directory=tmp_path / "absent")


def test_a_command_that_does_not_end_is_ended_with_all_that_it_started(
    profile: ServiceProfile, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application_commands, "_SECONDS", 1.0)
    command = ("sh", "-c", "trap '' TERM; sleep 600 & echo $! > child; echo begun; wait")
    with pytest.raises(
        ConfigurationError, match=r"did not finish within 0 minutes; its last line was: begun\."
    ):
        run_application_command.fn(profile, command, "migrate")
    wait_until(lambda: is_gone(int((folder / "child").read_text())))


def test_what_a_command_leaves_in_the_background_is_not_waited_for_and_ended(
    profile: ServiceProfile, folder: Path
) -> None:
    began = time.monotonic()
    run_application_command.fn(profile, ("sh", "-c", "sleep 600 & echo $! > child"), "migrate")
    assert time.monotonic() - began < 10
    wait_until(lambda: is_gone(int((folder / "child").read_text())))


def test_a_command_does_not_outlive_the_worker_that_is_killed(folder: Path) -> None:
    command = ("sh", "-c", "echo $$ > child; sleep 600")
    source = (
        "from pathlib import Path; from tasks.host_program import run_program; "
        f"run_program({command!r}, seconds=600, directory=Path({str(folder)!r}))"
    )
    worker = subprocess.Popen(python(source), cwd=Path.cwd(), env=os.environ)
    wait_until(lambda: (folder / "child").exists() and (folder / "child").read_text())
    child = int((folder / "child").read_text())
    assert not is_gone(child)
    worker.kill()
    worker.wait()
    wait_until(lambda: is_gone(child))
