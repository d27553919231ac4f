"""Undo what was broken in the sandbox, by the journal of the faults."""

import contextlib
import shutil
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import sql
from pymongo import MongoClient

from deployments.sandbox import mongodb
from deployments.sandbox.breakage import Breakage, require_running
from deployments.sandbox.fault_journal import FaultJournal
from deployments.sandbox.stack import Sandbox
from deployments.sandbox.tls import LIFETIME

AWAY = "_away"


def mend(sandbox: Sandbox) -> list[str]:
    """Undo every fault, the newest first, and return their names when both applications are well again.

    Raises:
        SandboxError: something does not run that no fault took away, or an application is not well after a
            while, though everything was undone.
    """
    journal = FaultJournal(sandbox.state)
    require_running(sandbox, journal)
    entries = journal.read()
    harmed = {entry["service"]: Breakage(sandbox, entry["service"], journal) for entry in entries}
    acts = [
        (undo, harmed[entry["service"]]) for entry in reversed(entries) for undo in reversed(entry["undo"])
    ]
    # Servers first: whatever else was done, it may take them to undo it. Passwords last: env files have them.
    order = {"start": 0, "password": 2}
    for (verb, *words), breakage in sorted(acts, key=lambda act: order.get(act[0][0], 1)):
        if verb != "restart":
            UNDO[verb](breakage, *words)
    for service, breakage in harmed.items():
        undone = [undo for entry in entries if entry["service"] == service for undo in entry["undo"]]
        if ["restart"] in undone:
            sandbox.pm2.delete(breakage.application)
            sandbox.pm2.start_one(breakage.application)
    sandbox.wait_for_applications()
    mended = journal.names()
    journal.clear()
    return mended


def restore(_: Breakage, copy: str, file: str) -> None:
    """Put a file back as it was."""
    if Path(copy).exists():
        shutil.copy2(copy, file)


def change_mode(_: Breakage, file: str, mode: int) -> None:
    """Give a file its mode back."""
    Path(file).chmod(mode)


def kill(broken: Breakage, name: str) -> None:
    """End a process that does harm."""
    broken.sandbox.supervisor.kill(name)


def go_on(broken: Breakage) -> None:
    """Let suspended processes go on."""
    for process in broken.processes():
        process.send_signal(signal.SIGCONT)


def start_part(broken: Breakage, name: str) -> None:
    """Start a part of the sandbox that was taken away."""
    (part,) = [part for part in broken.sandbox.parts if part.name == name]
    part.start()


def run_sql(broken: Breakage, statement: str) -> None:
    """Run a statement as PostgreSQL's administrator; it must be one that may be run twice."""
    with psycopg.connect(broken.sandbox.postgresql.admin_url, autocommit=True) as connection:
        connection.execute(statement.encode())


def bring_database_back(broken: Breakage, name: str) -> None:
    """Give a PostgreSQL database its name back."""
    with psycopg.connect(broken.sandbox.postgresql.admin_url, autocommit=True) as connection:
        away = connection.execute("SELECT FROM pg_database WHERE datname = %s", [name + AWAY])
        if away.rowcount:
            connection.execute(f'ALTER DATABASE "{name}{AWAY}" RENAME TO "{name}"'.encode())
        connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())


def update_mongodb_user(broken: Breakage, user: str, changes: dict[str, Any]) -> None:
    """Give a MongoDB user back what was changed of it."""
    client: MongoClient[dict[str, Any]]
    with MongoClient(broken.sandbox.mongodb.admin_url) as client:
        client[mongodb.DATABASE].command("updateUser", user, **changes)


def accept_password(broken: Breakage) -> None:
    """Let the database accept the password that the application has, which may have been rotated since."""
    variable = "MONGODB_URI" if broken.is_invoice else "DATABASE_URL"
    set_password(broken, unquote(urlsplit(broken.setting(variable)).password or ""))


def set_password(broken: Breakage, password: str) -> None:
    """Give the application's user in its database this password."""
    if broken.is_invoice:
        update_mongodb_user(broken, mongodb.APPLICATION, {"pwd": password})
        return
    change = sql.SQL("ALTER ROLE {} PASSWORD {}")
    with psycopg.connect(broken.sandbox.postgresql.admin_url, autocommit=True) as connection:
        connection.execute(
            change.format(sql.Identifier(broken.sandbox.postgresql.role), sql.Literal(password))
        )


def conduct(broken: Breakage, vendor: str, changes: dict[str, Any]) -> None:
    """Let a vendor behave again."""
    broken.sandbox.vendors.conduct(vendor, **changes)


def renew_certificate(broken: Breakage) -> None:
    """Give the application a certificate that holds, and let the front read it."""
    front = broken.sandbox.tls_front
    front.issue(broken.application, datetime.now(UTC) + LIFETIME)
    front.kill()
    front.start()


def unmount(_: Breakage, folder: str) -> None:
    """Take a small disk away."""
    with contextlib.suppress(subprocess.CalledProcessError):
        while Path(folder).is_mount():
            subprocess.run([shutil.which("umount") or "", "-l", folder], check=True)


UNDO: dict[str, Callable[..., None]] = {
    "restore": restore,
    "mode": change_mode,
    "kill": kill,
    "continue": go_on,
    "start": start_part,
    "sql": run_sql,
    "database": bring_database_back,
    "mongodb-user": update_mongodb_user,
    "password": accept_password,
    "conduct": conduct,
    "certificate": renew_certificate,
    "unmount": unmount,
}
