"""Measure restores from the S3 store against the tools that restore by hand: ratios, medians of rounds.

    python -m benchmarks.restore [--rounds 5] [--rows 4500000] [--documents 300000]

Every round measures the reference and ours one after the other on the same servers, so that a slow or busy
machine slows both. PostgreSQL: ``pg_restore -j2`` from a local file. MongoDB: ``insert_many`` of the same raw
documents from memory, and ``mongorestore`` where it is on PATH.
"""

import argparse
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.backup import tabulate
from benchmarks.restore_mongodb import measure_mongodb
from benchmarks.restore_postgresql import measure_postgresql
from deployments.sandbox.ports import Ports
from deployments.sandbox.profiles import write_profiles
from deployments.sandbox.stack import Sandbox


def main() -> None:
    """Start a sandbox, fill it, measure, and print the figures beside their limits."""
    parser = argparse.ArgumentParser(description="Measure restores against the tools that restore by hand.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=4_500_000, help="PostgreSQL: about a gigabyte")
    parser.add_argument("--documents", type=int, default=300_000, help="MongoDB: 300,000 are about 120 MB")
    options = parser.parse_args()
    console = Console(highlight=False)
    with (
        tempfile.TemporaryDirectory(prefix="bench") as folder,
        Sandbox(Path(folder) / "s", Ports.free()) as sandbox,
    ):
        write_profiles(sandbox.state, sandbox.endpoints)
        figures = measure_postgresql(console, sandbox, options.rows, options.rounds)
        figures += measure_mongodb(console, sandbox, options.documents, options.rounds)
    console.print(tabulate("Restores, measured", figures))


if __name__ == "__main__":
    main()
