"""Measure audit-log-cleanup, archive included, against one bare ``deleteMany`` of the same documents.

    python -m benchmarks.cleanup [--rounds 3] [--documents 250000] [--expired 50000]

Every round deletes the same documents of the same collection on the same server, once each way, and inserts
them again in between. Meanwhile a client reads documents that stay, by their ``_id``, two hundred times a
second; the slowest hundredth of its reads is what users feel. Where one read has to wait for long, those that
were due meanwhile have waited as well, and are counted. What is compared is archiving and deleting, from the
journal's first line to its last; counting before and after, and the proof, are in the whole run.

The sandbox's server inserts a few thousand documents a second: a million of them take patience.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import yaml
from pymongo import MongoClient
from pymongo.collection import Collection
from rich.console import Console

from benchmarks.backup import Figure, compare, filled_sandbox, tabulate, watch_child
from benchmarks.reading_client import PACE_SECONDS
from deployments.sandbox.stack import Sandbox

_COLLECTION: Final = "bench_audit"
_OLD: Final = timedelta(days=700)
_YEAR: Final = timedelta(days=365)
_INSERT: Final = 10_000
_MEGABYTE: Final = 1_000_000
_ACTIONS: Final = ("CREATE", "UPDATE", "DELETE", "LOGIN", "LOGIN_FAILED", "EXPORT")
_SECOND: Final = timedelta(seconds=1)
_IDLE_SECONDS: Final = 20
_SAMPLE_SECONDS: Final = 0.5
_WORST_PERCENT: Final = 0.99
_MILLISECONDS: Final = 1000

Audit = Collection[dict[str, Any]]


@dataclass
class Reads:
    """When each read of the client began and how long it took, in seconds."""

    taken: list[tuple[float, float]] = field(default_factory=list)

    def worst(self, began: float, ended: float) -> float:
        """Return the 99th percentile of the reads that were due in between, each from when it was due."""
        waits = [
            seconds - behind * PACE_SECONDS
            for at, seconds in self.taken
            if began <= at < ended
            for behind in range(max(1, math.ceil(seconds / PACE_SECONDS)))
        ]
        return sorted(waits)[int(_WORST_PERCENT * (len(waits) - 1))]


@dataclass(frozen=True)
class Measured:
    """A way of deleting: how long it took, the slowest hundredth of the reads meanwhile, its peak memory.

    ``whole`` is all of the run, with the counts before and after and the archive read back.
    """

    seconds: float
    worst: float
    peak_bytes: int = 0
    whole: float = 0.0

    def __str__(self) -> str:
        """Say it in a line."""
        return f"{self.seconds:.1f} s, reads up to {self.worst * _MILLISECONDS:.1f} ms"


@dataclass(frozen=True)
class Bench:
    """A collection of documents with the numbers from 0, of which those below ``expired`` are old enough."""

    sandbox: Sandbox
    audit: Audit
    expired: int
    documents: int

    def fill(self, first: int, last: int) -> None:
        """Insert the documents of these numbers and have them written out, before anything is measured."""
        now = datetime.now(UTC)
        for start in range(first, last, _INSERT):
            self.audit.insert_many(
                {
                    "_id": number,
                    "timestamp": now - _OLD + number * _SECOND
                    if number < self.expired
                    else now - (self.documents - number) * _SECOND,
                    "userId": f"user{number * 7919 % 50_000}",
                    "action": _ACTIONS[number * 31 % len(_ACTIONS)],
                    "path": f"/api/invoices/{number % 9973}",
                }
                for number in range(start, min(start + _INSERT, last))
            )
        # Else its next checkpoint, of which users notice some, falls into whatever is measured first.
        self.audit.database.client.admin.command("fsync")

    @contextmanager
    def reading(self, last: int) -> Generator[Reads]:
        """Let a client read documents that stay, in the order of chance, while the block runs."""
        reads = Reads()
        asked = {"url": self.sandbox.endpoints.mongodb_url, "collection": _COLLECTION}
        command = [sys.executable, "-m", "benchmarks.reading_client"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(json.dumps({**asked, "first": self.expired, "last": last}) + "\n")
            client.stdin.flush()
            client.stdout.readline()
            try:
                yield reads
            finally:
                client.stdin.close()
                reads.taken = json.load(client.stdout)

    def idle(self) -> float:
        """Return the slowest hundredth of the reads while nothing else happens."""
        with self.reading(self.documents) as reads:
            began = time.time()
            time.sleep(_IDLE_SECONDS)
            ended = time.time()
        return reads.worst(began, ended)

    def delete_at_once(self) -> Measured:
        """Delete as the runbook says."""
        with self.reading(self.documents) as reads:
            began = time.time()
            deleted = self.audit.delete_many({"timestamp": {"$lt": datetime.now(UTC) - _YEAR}}).deleted_count
            ended = time.time()
        if deleted != self.expired:
            raise SystemExit(f"deleteMany deleted {deleted} of {self.expired} documents.")
        return Measured(ended - began, reads.worst(began, ended))

    def clean(self, last: int) -> Measured:
        """Run audit-log-cleanup in a process of its own, watching its memory; Prefect is the sandbox's."""
        environment = {
            **os.environ,
            **self.sandbox.client_environment(),
            **self.sandbox.worker_environment(),
            "PREFECT_LOGGING_LEVEL": "WARNING",
        }
        with self.reading(last) as reads:
            said, peak, _ = watch_child(
                ["benchmarks.measured_cleanup", "invoice"], environment, _SAMPLE_SECONDS
            )
        run = json.loads(said)
        if left := self.audit.count_documents({"timestamp": {"$lt": datetime.now(UTC) - _YEAR}}):
            raise SystemExit(f"The cleanup left {left} documents.")
        worst = reads.worst(run["from"], run["until"])
        return Measured(run["until"] - run["from"], worst, peak, run["ended"] - run["began"])


def main() -> None:
    """Start a sandbox, fill it, measure, and print the figures beside their limits."""
    parser = argparse.ArgumentParser(description="Measure audit-log-cleanup against a bare deleteMany.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--documents", type=int, default=250_000, help="of about 130 bytes")
    parser.add_argument("--expired", type=int, default=50_000, help="how many of them are deleted")
    options = parser.parse_args()
    console = Console(highlight=False)
    with filled_sandbox() as sandbox:
        set_rule(sandbox)
        with MongoClient[dict[str, Any]](sandbox.mongodb.admin_url) as client:
            bench = Bench(sandbox, client["invoice"][_COLLECTION], options.expired, options.documents)
            figures = measure(console, bench, options.rounds)
    console.print(tabulate("audit-log-cleanup, measured", figures))


def measure(console: Console, bench: Bench, rounds: int) -> list[Figure]:
    """Compare with a bare ``deleteMany``, with an idle server, and with ourselves at a tenth of the data."""
    tenth = bench.expired + (bench.documents - bench.expired) // 10
    bench.audit.create_index("timestamp")
    bench.fill(0, bench.expired // 10)
    bench.fill(bench.expired, tenth)
    small = bench.clean(tenth)
    began = time.monotonic()
    bench.fill(tenth, bench.documents)
    console.print(f"{bench.documents - tenth:,} documents inserted in {time.monotonic() - began:.0f} s")
    bare, ours, idle = [], [], []
    for number in range(1, rounds + 1):
        bench.fill(0, bench.expired)
        idle.append(bench.idle())
        bare.append(bench.delete_at_once())
        bench.fill(0, bench.expired)
        ours.append(bench.clean(bench.documents))
        console.print(
            f"Round {number}: deleteMany {bare[-1]}; cleanup {ours[-1]}, the whole run "
            f"{ours[-1].whole:.1f} s, {ours[-1].peak_bytes / _MEGABYTE:.0f} MB; "
            f"idle: reads up to {idle[-1] * _MILLISECONDS:.1f} ms"
        )
    return judge(small, bare, ours, idle)


def judge(
    small: Measured, bare: Sequence[Measured], ours: Sequence[Measured], idle: Sequence[float]
) -> list[Figure]:
    """Return the figures beside their limits, each from the medians of the rounds."""
    reference = statistics.median(run.seconds for run in bare)
    seconds = [run.seconds for run in ours]
    worst, blocked = (statistics.median(run.worst for run in runs) for runs in (ours, bare))
    calm = statistics.median(idle)
    peak = statistics.median(run.peak_bytes for run in ours)
    return [
        compare(
            "archive and delete, to deleteMany",
            seconds,
            reference,
            2.5,
            f"{reference:.1f} s; the whole run {statistics.median(run.whole for run in ours):.1f} s",
        ),
        Figure("slowest reads (p99), to deleteMany's", worst / blocked, 1.0, _say(worst, blocked)),
        Figure("slowest reads (p99), to an idle server's", worst / calm, 3.0, _say(worst, calm)),
        Figure(
            "memory, to that of a tenth of the data",
            peak / small.peak_bytes,
            1.15,
            f"{peak / _MEGABYTE:.0f} MB; {small.peak_bytes / _MEGABYTE:.0f} MB there",
        ),
    ]


def _say(ours: float, reference: float) -> str:
    return f"{ours * _MILLISECONDS:.1f} ms; reference: {reference * _MILLISECONDS:.1f} ms"


def set_rule(sandbox: Sandbox) -> None:
    """Let the service's profile have one cleanup rule, that of the benchmark."""
    file = sandbox.state / "services" / "invoice.yaml"
    profile = yaml.safe_load(file.read_text(encoding="utf-8"))
    rule = {"name": "bench", "source": _COLLECTION, "time_field": "timestamp", "older_than": "P365D"}
    profile["cleanup"] = {"rules": [rule]}
    file.write_text(yaml.safe_dump(profile), encoding="utf-8")


if __name__ == "__main__":
    main()
