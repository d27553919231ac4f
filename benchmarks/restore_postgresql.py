"""Measure the restore of a PostgreSQL set from S3 against ``pg_restore -j2`` from a local file.

Run as a module, it is one restore in a process of its own: ``PROFILE SET``, two files; it prints the seconds.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import psycopg
from psycopg import sql
from pydantic import BaseModel
from rich.console import Console

from benchmarks.backup import Figure, compare, point_at_database, watch_child
from deployments.sandbox.stack import Sandbox
from tasks.environment_file import read_variable
from tasks.postgresql import parse_url
from tasks.postgresql_beside import restore_beside
from tasks.postgresql_dump import save_database
from tasks.postgresql_snapshot import hold_snapshot
from tasks.profiles import read_profile
from tasks.records.backup import PostgresqlContent
from tasks.set_folder import SetLocation

T = TypeVar("T")
_BESIDE: Final = "bench_beside"
_REFERENCE: Final = "bench_reference"
_MEGABYTE: Final = 1_000_000


class SavedSet(BaseModel):
    """What the process that restores is told."""

    content: PostgresqlContent
    location: SetLocation


@dataclass(frozen=True)
class Restore:
    """One restore: its seconds, the peak memory of its processes, and what they wrote to disk themselves."""

    seconds: float
    peak_bytes: int
    written_bytes: int

    def __str__(self) -> str:
        """Say the restore in a few words."""
        return f"{self.seconds:.1f} s, {self.peak_bytes / _MEGABYTE:.0f} MB"


def measure_postgresql(console: Console, sandbox: Sandbox, rows: int, rounds: int) -> list[Figure]:
    """Compare with pg_restore, and with ourselves at a tenth of the data."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        saved, _ = _save(sandbox, "bench_restore_small", rows // 10, folder)
        small = _restore(sandbox, saved)
        saved, dump = _save(sandbox, "bench_restore_large", rows, folder)
        references, restores = [], []
        for number in range(1, rounds + 1):
            references.append(_pg_restore(sandbox, dump))
            restores.append(_restore(sandbox, saved))
            console.print(
                f"PostgreSQL restore, round {number}: pg_restore {references[-1]:.1f} s, {restores[-1]}"
            )
        reference = statistics.median(references)
        size = f"pg_restore -j2, {dump.stat().st_size / _MEGABYTE:,.0f} MB in {reference:.1f} s"
    peak = max(restore.peak_bytes for restore in restores)
    typical = statistics.median(restore.peak_bytes for restore in restores)
    return [
        compare("PostgreSQL restore", [restore.seconds for restore in restores], reference, 1.1, size),
        Figure(
            "PostgreSQL restore: peak memory, MB", peak / _MEGABYTE, 300, "all processes of the restore, PSS"
        ),
        Figure(
            "PostgreSQL restore: memory to that of a tenth of the data",
            typical / small.peak_bytes,
            1.15,
            f"{small.peak_bytes / _MEGABYTE:,.0f} MB there",
        ),
        Figure(
            "PostgreSQL restore: scratch disk, MB",
            max(restore.written_bytes for restore in restores) / _MEGABYTE,
            2,
            "the dump's table of contents",
        ),
    ]


def _save(sandbox: Sandbox, database: str, rows: int, folder: Path) -> tuple[Path, Path]:
    """Make a database, save it as a set and by pg_dump; return what tells of the set, and the dump."""
    url = point_at_database(sandbox, database, rows)
    owner = parse_url(sandbox.postgresql.owner_url(), database)
    with psycopg.connect(**owner.parameters.values) as connection:  # type: ignore[arg-type]
        connection.execute("ALTER TABLE payments ADD PRIMARY KEY (id)")
    profile = read_profile(sandbox.state / "services" / "propertypulse.yaml")
    location = SetLocation(destination=profile.backup.destination, folder=f"{profile.name}/sets/{database}")
    with hold_snapshot(parse_url(url)) as snapshot:
        content = save_database.fn(snapshot, sandbox.endpoints.pg_bin, location)
    saved, dump = folder / f"{database}.json", folder / f"{database}.dump"
    saved.write_text(SavedSet(content=content, location=location).model_dump_json(), encoding="utf-8")
    command = [str(sandbox.endpoints.pg_bin / "pg_dump"), "-Fc", "-Z0", f"--file={dump}", url]
    subprocess.run(command, check=True)
    return saved, dump


def _restore(sandbox: Sandbox, saved: Path) -> Restore:
    def measured() -> Restore:
        profile = sandbox.state / "services" / "propertypulse.yaml"
        environment = {**os.environ, **sandbox.worker_environment()}
        said, peak, written = watch_child(
            ["benchmarks.restore_postgresql", str(profile), str(saved)], environment
        )
        return Restore(float(said), peak, written)

    return _in_room_for(sandbox, _BESIDE, measured)


def _pg_restore(sandbox: Sandbox, dump: Path) -> float:
    """Do what an operator with the file at hand would do; seconds, with the making of the database."""

    def measured() -> float:
        began = time.monotonic()
        admin = parse_url(sandbox.postgresql.admin_url)
        with psycopg.connect(sandbox.postgresql.admin_url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(_REFERENCE))
            )
        command = [str(sandbox.endpoints.pg_bin / "pg_restore"), "-j2", f"--dbname={_REFERENCE}", str(dump)]
        subprocess.run(command, env={**os.environ, **admin.environment()}, check=True)
        return time.monotonic() - began

    return _in_room_for(sandbox, _REFERENCE, measured)


def _in_room_for(sandbox: Sandbox, database: str, measured: Callable[[], T]) -> T:
    """Measure with the server at rest, and drop the database that came of it."""
    with psycopg.connect(sandbox.postgresql.admin_url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
        try:
            return measured()
        finally:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(database)))


def main(profile_file: Path, saved_file: Path) -> None:
    """Restore the saved set as the runbook does, and print the seconds."""
    profile = read_profile(profile_file)
    saved = SavedSet.model_validate_json(saved_file.read_text(encoding="utf-8"))
    application = parse_url(read_variable(profile, profile.database.url_variable))
    began = time.monotonic()
    restore_beside.fn(
        profile.database.admin_url,
        application.database,
        _BESIDE,
        application.user,
        saved.content,
        profile.database.client_directory,
        saved.location,
    )
    sys.stdout.write(f"{time.monotonic() - began}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
