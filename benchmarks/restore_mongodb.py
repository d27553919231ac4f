"""Measure the restore of a MongoDB set from S3 against ``insert_many`` of the same documents from memory.

Run as a module, it is one restore in a process of its own: ``PROFILE SET DATABASE``; it prints the seconds.
Every round goes into databases of its own, and nobody drops them: that takes the sandbox's server a
millisecond a document.
"""

import gzip
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from bson.raw_bson import RawBSONDocument
from pydantic import BaseModel
from pymongo import MongoClient
from pymongo.collection import Collection
from rich.console import Console

from benchmarks.backup import Figure, Run, compare, fill_mongodb, judge_memory, watch_child
from deployments.sandbox.stack import Sandbox
from tasks.mongodb import RAW
from tasks.mongodb_dump import FOLDER, save_collection, split_documents
from tasks.mongodb_restore import restore_collections
from tasks.mongodb_snapshot import list_shapes, open_snapshot
from tasks.profiles import read_profile
from tasks.records.backup import MongodbContent
from tasks.set_folder import SetFolder, SetLocation
from tasks.streams import GZIP

_COLLECTION: Final = "bench"
_MEGABYTE: Final = 1_000_000
# What mongorestore sends at once; all in one call takes this server twice as long.
_INSERT: Final = 1_000


class SavedSet(BaseModel):
    """What the process that restores is told."""

    content: MongodbContent
    location: SetLocation


def measure_mongodb(console: Console, sandbox: Sandbox, documents: int, rounds: int) -> list[Figure]:
    """Compare with inserting from memory, and with ourselves at a tenth of the data."""
    with tempfile.TemporaryDirectory(prefix="bench") as name:
        folder = Path(name)
        fill_mongodb(sandbox, documents // 10)
        small = _restore(sandbox, _save(sandbox, folder / "small.json"), "bench_small")
        fill_mongodb(sandbox, documents)
        saved = _save(sandbox, folder / "large.json")
        raw = _load(saved)
        references, restores, officials = [], [], []
        for number in range(1, rounds + 1):
            references.append(_insert(sandbox, raw, f"bench_reference_{number}"))
            restores.append(_restore(sandbox, saved, f"bench_beside_{number}"))
            console.print(
                f"MongoDB restore, round {number}: insert_many {references[-1]:.1f} s, "
                f"restored after {restores[-1].published:.1f} s, {restores[-1].peak_bytes / _MEGABYTE:.0f} MB"
            )
            if shutil.which("mongorestore"):
                officials.append(_mongorestore(sandbox, saved, folder / f"official_{number}"))
    reference = statistics.median(references)
    inserted = f"insert_many, {sum(map(len, raw)) / _MEGABYTE:,.0f} MB in {reference:.1f} s"
    seconds = [restore.published for restore in restores]
    figures = [compare("MongoDB restore", seconds, reference, 1.1, inserted)]
    if officials:
        official = statistics.median(officials)
        figures.append(
            compare("MongoDB restore: to mongorestore", seconds, official, 1.1, f"{official:.1f} s")
        )
    return [*figures, *judge_memory("MongoDB restore", small, restores)]


def _save(sandbox: Sandbox, saved: Path) -> Path:
    """Save the one large collection as a set in the S3 store; return what tells of it."""
    profile = read_profile(sandbox.state / "services" / "invoice.yaml")
    location = SetLocation(destination=profile.backup.destination, folder=f"{profile.name}/sets/{saved.stem}")
    with open_snapshot(sandbox.endpoints.mongodb_url) as snapshot:
        shapes = list_shapes(snapshot.client, snapshot.database)
        collections = tuple(
            save_collection.fn(snapshot, shape, location) for shape in shapes if shape.name == _COLLECTION
        )
        content = MongodbContent(server_version=snapshot.server_version, collections=collections, seconds=0)
    saved.write_text(SavedSet(content=content, location=location).model_dump_json(), encoding="utf-8")
    return saved


def _load(saved: Path) -> list[bytes]:
    """Return all raw documents of the set."""
    told = SavedSet.model_validate_json(saved.read_text(encoding="utf-8"))
    folder = SetFolder(told.location)
    return [
        document
        for collection in told.content.collections
        if collection.data is not None
        for batch in split_documents(folder.load(collection.data.key, GZIP), collection.data.key)
        for document in batch
    ]


def _insert(sandbox: Sandbox, raw: list[bytes], database: str) -> float:
    """Insert the documents as fast as the driver does; seconds."""
    client: MongoClient[dict[str, Any]]
    with MongoClient(sandbox.mongodb.admin_url) as client:
        collection: Collection[RawBSONDocument] = client[database].get_collection(
            _COLLECTION, codec_options=RAW
        )
        documents = [RawBSONDocument(document) for document in raw]
        began = time.monotonic()
        for first in range(0, len(documents), _INSERT):
            collection.insert_many(documents[first : first + _INSERT])
        return time.monotonic() - began


def _restore(sandbox: Sandbox, saved: Path, database: str) -> Run:
    profile = sandbox.state / "services" / "invoice.yaml"
    environment = {**os.environ, **sandbox.worker_environment()}
    command = ["benchmarks.restore_mongodb", str(profile), str(saved), database]
    said, peak, written = watch_child(command, environment)
    return Run(float(said), float(said), peak, written)


def _mongorestore(sandbox: Sandbox, saved: Path, dump: Path) -> float:
    """Restore the same documents with the official tool from a local folder; seconds."""
    told = SavedSet.model_validate_json(saved.read_text(encoding="utf-8"))
    target = dump / dump.name
    target.mkdir(parents=True)
    folder = SetFolder(told.location)
    for stored in (stored for found in told.content.collections for stored in (found.metadata, found.data)):
        if stored is not None:
            name = stored.key.removeprefix(f"{FOLDER}/").rpartition("/")[2]
            with gzip.open(target / name, "wb", compresslevel=1) as file:
                file.writelines(folder.load(stored.key, GZIP))
    began = time.monotonic()
    command = ["mongorestore", "--quiet", "--gzip", f"--uri={sandbox.mongodb.admin_url}", str(dump)]
    subprocess.run(command, check=True)
    return time.monotonic() - began


def main(profile_file: Path, saved_file: Path, database: str) -> None:
    """Restore the saved set as the runbooks do, and print the seconds."""
    profile = read_profile(profile_file)
    saved = SavedSet.model_validate_json(saved_file.read_text(encoding="utf-8"))
    began = time.monotonic()
    restore_collections.fn(profile.database.admin_url, database, saved.content, saved.location)
    sys.stdout.write(f"{time.monotonic() - began}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
