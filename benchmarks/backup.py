"""Measure the nightly backup against the runbooks' own commands: ratios in one run, medians of rounds.

    python -m benchmarks.backup [--rounds 5] [--rows 4500000] [--documents 1000000]

Every round measures the reference and the flow one after the other on the same servers, so that a slow or
busy machine slows both. PostgreSQL: ``pg_dump > file.sql`` and an upload of the file by boto3's transfer
manager, the runbook's P17. MongoDB: reading the same collections with ``find_raw_batches`` and throwing them
away, the server's limit, and ``mongodump --gzip`` where it is on PATH.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import boto3
import psutil
import psycopg
import yaml
from pymongo import MongoClient
from rich.console import Console
from rich.table import Table

from deployments.sandbox.ports import Ports
from deployments.sandbox.profiles import write_profiles
from deployments.sandbox.stack import Sandbox
from tasks.profiles import read_profile

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_PROJECT = Path(__file__).parent.parent
_SAMPLE_SECONDS = 0.05
_MEGABYTE = 1_000_000
_INSERT = 10_000
_ACTIONS = ("CREATE", "UPDATE", "DELETE", "LOGIN", "LOGIN_FAILED", "EXPORT")


# Payments as an application writes them: ids that do not repeat, words that do, money, moments and JSON.
_PAYMENTS = """
CREATE TABLE payments AS
SELECT n AS id, 'pi_' || substr(md5(n::text), 1, 24) AS provider_intent_id,
       'Lease payment for unit ' || n % 500 || ' of property ' || n % 9999 AS description,
       (n * 7919 % 500000 / 100.0)::numeric(10, 2) AS amount,
       timestamptz '2024-01-01 00:00Z' + n * interval '7 seconds' AS created_at,
       jsonb_build_object('method', (array['card', 'ach', 'cash'])[1 + n % 3], 'attempt', n % 4,
                          'email', 'tenant' || n % 50000 || '@example.com') AS metadata,
       (array['PAID', 'PENDING', 'FAILED'])[1 + n % 3] AS status
FROM generate_series(1, {rows}::bigint) AS n
"""


@dataclass(frozen=True)
class Run:
    """One backup: seconds until published and until verified, peak memory and disk writes of the run."""

    published: float
    verified: float
    peak_bytes: int
    written_bytes: int

    def __str__(self) -> str:
        """Say the run in a line."""
        return (
            f"published after {self.published:.1f} s, verified after {self.verified:.1f} s, "
            f"{self.peak_bytes / _MEGABYTE:.0f} MB"
        )


@dataclass(frozen=True)
class Figure:
    """A figure, what it may be at most, and how it came about."""

    name: str
    value: float
    limit: float
    detail: str


def main() -> None:
    """Start a sandbox, fill it, measure, and print the figures beside their limits."""
    options = read_options("Measure the nightly backup against the runbooks' commands.", documents=1_000_000)
    console = Console(highlight=False)
    with filled_sandbox() as sandbox:
        demo = run_flow(sandbox, "invoice")
        figures = [
            Figure("demo: the whole run of invoice, seconds", demo.verified, 10, "orchestration included")
        ]
        figures += measure_postgresql(console, sandbox, options.rows, options.rounds)
        figures += measure_mongodb(console, sandbox, options.documents, options.rounds)
    console.print(tabulate("The nightly backup, measured", figures))


def read_options(description: str, documents: int) -> argparse.Namespace:
    """Return ``rounds``, ``rows`` and ``documents`` of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=4_500_000, help="PostgreSQL: about a gigabyte")
    parser.add_argument("--documents", type=int, default=documents, help="MongoDB: a million are 400 MB")
    return parser.parse_args()


@contextlib.contextmanager
def filled_sandbox() -> Generator[Sandbox]:
    """Start a sandbox of the benchmark's own, with the demo's data and profiles, and remove it afterwards."""
    end_in_order()
    with (
        tempfile.TemporaryDirectory(prefix="bench") as folder,
        Sandbox(Path(folder) / "s", Ports.free()) as sandbox,
    ):
        sandbox.up()
        write_profiles(sandbox.state, sandbox.endpoints)
        yield sandbox


def end_in_order() -> None:
    """Let SIGTERM end this benchmark as Ctrl-C does: its servers and what it measures end with it."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def measure_postgresql(console: Console, sandbox: Sandbox, rows: int, rounds: int) -> list[Figure]:
    """Compare with the runbook's P17, and with ourselves at a tenth of the data."""
    point_at_database(sandbox, "bench_small", rows // 10)
    small = run_flow(sandbox, "propertypulse")
    url = point_at_database(sandbox, "bench_large", rows)
    references, runs, plain_bytes, stored_bytes = [], [], 0, 0
    for number in range(1, rounds + 1):
        seconds, plain_bytes = dump_and_upload(sandbox, url)
        references.append(seconds)
        runs.append(run_flow(sandbox, "propertypulse"))
        console.print(f"PostgreSQL round {number}: pg_dump and upload {seconds:.1f} s, {runs[-1]}")
        stored_bytes = newest_manifest(sandbox, "propertypulse")["postgresql"]["dump"]["bytes"]
    reference = statistics.median(references)
    size = f"{plain_bytes / _MEGABYTE:,.0f} MB of plain SQL in {reference:.1f} s"
    return [
        compare("PostgreSQL: until published", [run.published for run in runs], reference, 0.7, size),
        compare("PostgreSQL: until verified", [run.verified for run in runs], reference, 2.0, size),
        Figure(
            "PostgreSQL: stored bytes to plain SQL",
            stored_bytes / plain_bytes,
            0.30,
            f"{stored_bytes / _MEGABYTE:,.0f} MB stored",
        ),
        *judge_memory("PostgreSQL", small, runs),
    ]


def measure_mongodb(console: Console, sandbox: Sandbox, documents: int, rounds: int) -> list[Figure]:
    """Compare with reading the same collections and throwing them away, and with ourselves at a tenth."""
    fill_mongodb(sandbox, documents // 10)
    small = run_flow(sandbox, "invoice")
    fill_mongodb(sandbox, documents)
    references, dumps, runs, size = [], [], [], 0
    for number in range(1, rounds + 1):
        seconds, size = read_everything(sandbox)
        references.append(seconds)
        runs.append(run_flow(sandbox, "invoice"))
        console.print(f"MongoDB round {number}: reading {seconds:.1f} s, {runs[-1]}")
        if shutil.which("mongodump"):
            dumps.append(mongodump(sandbox))
    reference = statistics.median(references)
    read = f"{size / _MEGABYTE:,.0f} MB read in {reference:.1f} s"
    published = [run.published for run in runs]
    figures = [compare("MongoDB: until published", published, reference, 1.15, read)]
    if dumps:
        dumped = statistics.median(dumps)
        figures.append(compare("MongoDB: to mongodump --gzip", published, dumped, 0.9, f"{dumped:.1f} s"))
    return [*figures, *judge_memory("MongoDB", small, runs)]


def compare(name: str, seconds: Sequence[float], reference: float, limit: float, detail: str) -> Figure:
    """Return the ratio of the medians."""
    ours = statistics.median(seconds)
    return Figure(f"{name}, ratio", ours / reference, limit, f"{ours:.1f} s; reference: {detail}")


def judge_memory(what: str, small: Run, runs: Sequence[Run]) -> list[Figure]:
    """Return the peak in MB, and its growth from a tenth of the data."""
    peak = max(run.peak_bytes for run in runs)
    typical = statistics.median(run.peak_bytes for run in runs)
    written = max(run.written_bytes for run in runs)
    return [
        Figure(f"{what}: peak memory, MB", peak / _MEGABYTE, 300, "all processes of the run, PSS"),
        Figure(
            f"{what}: memory to that of a tenth of the data",
            typical / small.peak_bytes,
            1.15,
            f"{small.peak_bytes / _MEGABYTE:,.0f} MB there",
        ),
        Figure(f"{what}: scratch disk, MB", written / _MEGABYTE, 0, "written by all processes of the run"),
    ]


def run_flow(sandbox: Sandbox, service: str) -> Run:
    """Run the nightly backup in a process of its own, watching its memory; Prefect is the sandbox's."""
    environment = {**os.environ, **sandbox.client_environment(), **sandbox.worker_environment()}
    said, peak, written = watch_child(
        ["benchmarks.measured_flow", service], {**environment, "PREFECT_LOGGING_LEVEL": "WARNING"}
    )
    return Run(**json.loads(said), peak_bytes=peak, written_bytes=written)


def watch_child(
    arguments: Sequence[str], environment: Mapping[str, str], every: float = _SAMPLE_SECONDS
) -> tuple[str, int, int]:
    """Run a module of ours in a process of its own: what it says, its peak memory (PSS), its disk writes.

    To be looked at takes a process some milliseconds: every so many seconds.
    """
    command = [sys.executable, "-m", *arguments]
    with subprocess.Popen(
        command, cwd=_PROJECT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        peak = 0
        written: dict[int, int] = {}
        try:
            while process.poll() is None:
                memory, disk = observe(process.pid)
                peak, written = max(peak, memory), written | disk
                time.sleep(every)
        finally:
            process.kill()
        said = process.stdout.read() if process.stdout else ""
    if process.returncode != 0:
        raise SystemExit(f"The measured {arguments[0]} failed: {said}")
    return said, peak, sum(written.values())


def observe(pid: int) -> tuple[int, dict[int, int]]:
    """Return the memory (PSS) of a process and its children now, and what each has written to disk."""
    memory, written = 0, {}
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):
                memory += process.memory_full_info().pss
                written[process.pid] = process.io_counters().write_bytes
    except psutil.NoSuchProcess:
        return memory, written
    return memory, written


def point_at_database(sandbox: Sandbox, name: str, rows: int) -> str:
    """Make a database of so many payments and let the service's profile lead to it; return its URL."""
    with psycopg.connect(sandbox.postgresql.admin_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER {sandbox.postgresql.role}".encode())
    owner = urlunsplit(urlsplit(sandbox.postgresql.owner_url())._replace(path=f"/{name}"))
    with psycopg.connect(owner, autocommit=True) as connection:
        connection.execute(_PAYMENTS.replace("{rows}", str(rows)).encode())
        connection.execute("CREATE INDEX ON payments (created_at)")
        connection.execute("VACUUM ANALYZE payments")
    bench = urlunsplit(urlsplit(sandbox.endpoints.postgresql_url)._replace(path=f"/{name}"))
    env_file = sandbox.state / f"{name}.env"
    env_file.write_text(f"DATABASE_URL='{bench}'\n", encoding="utf-8")
    profile = sandbox.state / "services" / "propertypulse.yaml"
    document = yaml.safe_load(profile.read_text(encoding="utf-8"))
    document["application"]["env_file"] = str(env_file)
    # The sets of another database were of another size.
    document["backup"]["destination"]["url"] = f"s3://{sandbox.endpoints.s3_bucket}/{name}"
    profile.write_text(yaml.safe_dump(document), encoding="utf-8")
    return bench


def fill_mongodb(sandbox: Sandbox, documents: int) -> None:
    """Fill one plain collection up to so many audit-like documents of about 420 bytes.

    What is there stays: dropping takes the sandbox's server a millisecond a document.
    """
    with MongoClient[dict[str, object]](sandbox.mongodb.admin_url) as client:
        collection = client["invoice"]["bench"]
        start = datetime(2025, 1, 1, tzinfo=UTC)
        for first in range(collection.estimated_document_count(), documents, _INSERT):
            collection.insert_many(
                {
                    "number": number,
                    "timestamp": start + timedelta(seconds=number),
                    "userEmail": f"user{number * 7919 % 50_000}@example.com",
                    "action": _ACTIONS[number * 31 % len(_ACTIONS)],
                    "details": {
                        "hash": hashlib.sha512(str(number).encode()).hexdigest(),
                        "items": list(range(number % 20)),
                    },
                }
                for number in range(first, min(first + _INSERT, documents))
            )


def read_everything(sandbox: Sandbox) -> tuple[float, int]:
    """Read every collection with ``find_raw_batches`` and throw it away: seconds and bytes."""
    with MongoClient[dict[str, object]](sandbox.endpoints.mongodb_url) as client:
        database = client.get_default_database()
        names = database.list_collection_names(filter={"type": "collection"})
        began = time.monotonic()
        size = sum(len(batch) for name in names for batch in database[name].find_raw_batches())
        return time.monotonic() - began, size


def dump_and_upload(sandbox: Sandbox, url: str) -> tuple[float, int]:
    """Do what runbook P17 says: ``pg_dump > file.sql``, then upload the file; seconds and bytes of SQL."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        file = Path(folder) / "emergency_backup.sql"
        began = time.monotonic()
        with file.open("wb") as output:
            subprocess.run([sandbox.endpoints.pg_bin / "pg_dump", url], stdout=output, check=True)
        store_client(sandbox).upload_file(str(file), sandbox.endpoints.s3_bucket, "emergency.sql")
        return time.monotonic() - began, file.stat().st_size


def store_client(sandbox: Sandbox) -> "S3Client":
    """Return a client of the store as boto3 makes it when nothing is said."""
    return boto3.client(
        "s3",
        endpoint_url=sandbox.endpoints.s3_endpoint,
        region_name=sandbox.endpoints.s3_region,
        aws_access_key_id=sandbox.endpoints.s3_access_key_id,
        aws_secret_access_key=sandbox.endpoints.s3_secret_access_key,
    )


def mongodump(sandbox: Sandbox) -> float:
    """Dump with the official tool to a local folder; seconds."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        began = time.monotonic()
        command = ["mongodump", "--quiet", "--gzip", f"--out={folder}", sandbox.endpoints.mongodb_url]
        subprocess.run(command, check=True)
        return time.monotonic() - began


def newest_manifest(sandbox: Sandbox, service: str) -> dict[str, Any]:
    """Return the newest manifest of a service, as it lies in the store."""
    profile = read_profile(sandbox.state / "services" / f"{service}.yaml")
    prefix = profile.backup.destination.url.rpartition("/")[2]
    client = store_client(sandbox)
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=sandbox.endpoints.s3_bucket, Prefix=f"{prefix}/{service}/sets/"
    )
    keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
    newest = max(key for key in keys if key.endswith("/manifest.json"))
    body = client.get_object(Bucket=sandbox.endpoints.s3_bucket, Key=newest)["Body"].read()
    manifest: dict[str, Any] = json.loads(body)
    return manifest


def tabulate(title: str, figures: Sequence[Figure]) -> Table:
    """Return the figures as a table; a star marks one that misses its limit."""
    table = Table(title=title)
    for heading in ("figure", "value", "limit", ""):
        table.add_column(heading, justify="right" if heading in {"value", "limit"} else "left")
    for figure in figures:
        missed = " *" if figure.value > figure.limit else ""
        table.add_row(figure.name, f"{figure.value:.2f}{missed}", f"{figure.limit:g}", figure.detail)
    return table


if __name__ == "__main__":
    main()
