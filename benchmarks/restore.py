"""Measure restores from the S3 store against the tools that restore by hand: ratios, medians of rounds.

    python -m benchmarks.restore [--rounds 5] [--rows 4500000] [--documents 200000]

Every round measures the reference and ours one after the other on the same servers, so that a slow or busy
machine slows both. PostgreSQL: ``pg_restore -j2`` from a local file. MongoDB: ``insert_many`` of the same raw
documents from memory, and ``mongorestore`` where it is on PATH.
"""

from rich.console import Console

from benchmarks.backup import filled_sandbox, read_options, tabulate
from benchmarks.restore_mongodb import measure_mongodb
from benchmarks.restore_postgresql import measure_postgresql


def main() -> None:
    """Start a sandbox, fill it, measure, and print the figures beside their limits."""
    options = read_options("Measure restores against the tools that restore by hand.", documents=200_000)
    console = Console(highlight=False)
    with filled_sandbox() as sandbox:
        figures = measure_postgresql(console, sandbox, options.rows, options.rounds)
        figures += measure_mongodb(console, sandbox, options.documents, options.rounds)
    console.print(tabulate("Restores, measured", figures))


if __name__ == "__main__":
    main()
