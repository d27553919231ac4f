"""A PostgreSQL server of the sandbox; used twice, for propertypulse-api and for the Prefect engine."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from deployments.sandbox import programs, unprivileged
from deployments.sandbox.errors import SandboxError
from deployments.sandbox.ports import HOST
from deployments.sandbox.supervisor import Supervisor, living
from deployments.sandbox.vault import Vault, plain_password, write_private

ADMIN = "postgres"
START_SECONDS = 40
STOP_SECONDS = 10

CONFIGURATION = """
# Written once by the sandbox.
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = {max_connections}
shared_preload_libraries = 'pg_stat_statements'
password_encryption = 'scram-sha-256'
shared_buffers = 64MB
# A throw-away system: a kill of the process loses nothing, only a power cut would.
fsync = off
# As where somebody reads changes from it: only so there are logical replication slots.
wal_level = logical
# Some hosts give containers 64 MB of /dev/shm.
dynamic_shared_memory_type = mmap
log_min_messages = warning
"""


class PostgreSQL:
    """One server instance with one application role and the database that it owns."""

    def __init__(  # noqa: PLR0913  each names a thing of its own
        self,
        supervisor: Supervisor,
        vault: Vault,
        port: int,
        *,
        name: str,
        role: str,
        database: str,
        make_password: Callable[[], str] = plain_password,
        max_connections: int = 50,
    ) -> None:
        """Take where to run and what is in it; nothing starts here.

        Args:
            supervisor: starts the process.
            vault: keeps the passwords.
            port: TCP port on 127.0.0.1.
            name: of the instance; its folder, log and secrets are called so.
            role: the application's role, which is no superuser.
            database: the database that the role owns.
            make_password: makes the password that the role gets when it is new.
            max_connections: the server's limit.
        """
        self.name = name
        self.port = port
        self.role = role
        self.database = database
        self._supervisor = supervisor
        self._vault = vault
        self._make_password = make_password
        self._max_connections = max_connections
        self._data = supervisor.state / name

    @property
    def admin_url(self) -> str:
        """Return the superuser's URL, without a database of its own."""
        return self.url(ADMIN, self._vault.once(f"{self.name}-admin-password", plain_password), "postgres")

    @property
    def application_url(self) -> str:
        """Return the URL of the application's role as it was made; a rotation changes the password."""
        return self.url(self.role, self._role_password(), self.database)

    def owner_url(self) -> str:
        """Return a URL that acts as the owner of the database whatever the owner's password is now."""
        url = self.url(ADMIN, self._vault.read(f"{self.name}-admin-password"), self.database)
        return f"{url}?options={quote(f'-c role={self.role}')}"

    def _role_password(self) -> str:
        return self._vault.once(f"{self.name}-app-password", self._make_password)

    def url(self, role: str, password: str, database: str) -> str:
        """Return the URL of a role in a database; every character of the password is escaped."""
        return f"postgresql://{role}:{quote(password, safe='')}@{HOST}:{self.port}/{database}"

    def is_running(self) -> bool:
        """Tell whether the server's process lives."""
        return self._supervisor.process(self.name) is not None

    def start(self) -> None:
        """Start the server unless it runs, and wait until it answers a query.

        Raises:
            SandboxError: it does not come up.
        """
        self._vault.write(f"{self.name}-admin-url", self.admin_url)
        if not self.is_running():
            if not self._data.exists():
                self._initialise()
            self._forget_dead_postmaster()
            postgres = programs.postgresql_bin() / "postgres"
            command = [*_as_unprivileged(self._data), postgres, "-D", self._data, "-p", str(self.port)]
            self._supervisor.spawn(self.name, command)
        self._supervisor.wait_until(self.name, self._missing, seconds=START_SECONDS)
        self._make_role_and_database()

    def stop(self) -> None:
        """Stop the server in its fast mode: open connections are closed."""
        self._supervisor.stop(self.name, signal.SIGINT, seconds=STOP_SECONDS)

    def kill(self) -> None:
        """Take the server away with SIGKILL."""
        self._supervisor.kill(self.name)

    def _forget_dead_postmaster(self) -> None:
        """Remove the pid file of a server that was killed.

        PostgreSQL would do it, but takes a zombie (where nobody reaps orphans, in a container) or a stranger
        with the same number for a living server.
        """
        pid_file = self._data / "postmaster.pid"
        try:
            process = living(int(pid_file.read_text(encoding="utf-8").partition("\n")[0]))
        except (FileNotFoundError, ValueError):
            process = None
        if process is None or not self._supervisor.owns(process):
            pid_file.unlink(missing_ok=True)

    def _initialise(self) -> None:
        """Make the data folder under another name first: an interrupted initdb leaves nothing half done."""
        unfinished = self._data.with_name(f"{self.name}.unfinished")
        if unfinished.exists():
            shutil.rmtree(unfinished)
        password_file = self._data.with_name(f"{self.name}.password")
        write_private(password_file, self._vault.read(f"{self.name}-admin-password") + "\n")
        command = [*_as_unprivileged(unfinished), programs.postgresql_bin() / "initdb", "-D", unfinished]
        command += ["-U", ADMIN, "-A", "scram-sha-256", f"--pwfile={password_file}"]
        command += ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        self._run_initdb(command)
        password_file.unlink()
        with (unfinished / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(CONFIGURATION.format(max_connections=self._max_connections))
        unfinished.rename(self._data)

    def _run_initdb(self, command: list[str | Path]) -> None:
        log = self._supervisor.log(f"{self.name}-initdb")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as file:
            finished = subprocess.run(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self._supervisor.environment(),
                cwd="/",
                check=False,
            )
        if finished.returncode != 0:
            tail = self._supervisor.log_tail(f"{self.name}-initdb")
            raise SandboxError(f"initdb of {self.name} failed. {tail}")

    def _missing(self) -> str | None:
        try:
            with psycopg.connect(self.admin_url, connect_timeout=2) as connection:
                connection.execute("SELECT 1")
        except psycopg.Error as error:
            return type(error).__name__
        return None

    def _make_role_and_database(self) -> None:
        """Make what is missing; a role that exists keeps its password, which may have been rotated."""
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            role, database = sql.Identifier(self.role), sql.Identifier(self.database)
            if connection.execute("SELECT FROM pg_roles WHERE rolname = %s", [self.role]).rowcount == 0:
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                        role, sql.Literal(self._role_password())
                    )
                )
            exists = connection.execute("SELECT FROM pg_database WHERE datname = %s", [self.database])
            if exists.rowcount == 0:
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))


def _as_unprivileged(data: Path) -> list[str | Path]:
    """Return the words that go before a command that refuses to run as root."""
    return [sys.executable, "-I", "-S", Path(unprivileged.__file__), data]
