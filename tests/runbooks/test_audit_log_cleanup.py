"""audit-log-cleanup: what is old is in the archives exactly once and gone, and nothing else is touched."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import psycopg
import pytest
from bson.raw_bson import RawBSONDocument
from prefect.client.schemas.objects import State

from flows.audit_log_cleanup import audit_log_cleanup
from tasks.archives import ArchiveStore, open_archives
from tasks.journal import list_open_journals
from tasks.mongodb import RAW
from tests.runbooks.conftest import (
    Kind,
    Ledger,
    Ledgers,
    MongodbDatabase,
    PostgresqlDatabase,
    artifacts_of,
    completed,
)

RULE = {"name": "audit", "source": "audit", "time_field": "at", "older_than": "P365D", "batch": 10}
NOW = datetime.now(UTC).replace(microsecond=0)
OLD, YOUNG = 60, 30


class Health:
    """A health URL of a test's own: what it answers, and how late."""

    def __init__(self) -> None:
        self.answers: list[tuple[float, str]] = []
        self.asked = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked += 1
                late, status = outer.answers.pop(0) if outer.answers else (0.0, "OK")
                time.sleep(late)
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps({"status": status}).encode())

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/health"


@pytest.fixture
def health() -> Iterator[Health]:
    served = Health()
    yield served
    served.server.shutdown()
    served.server.server_close()


class Audited:
    """A small service with an audit log, sixty entries of which are older than a year."""

    def __init__(self, ledger: Ledger, health: Health) -> None:
        self.ledger = ledger
        self.clean_by(RULE)
        ledger.change(application={"health_url": health.url})
        self.fill()

    @property
    def archives(self) -> ArchiveStore:
        return open_archives(self.ledger.profile)

    def clean_by(self, *rules: dict[str, Any], **settings: Any) -> None:
        self.ledger.change(cleanup={"rules": list(rules), **settings})

    def fill(self) -> None:
        """Make the audit log as it was at first."""
        moments = [NOW - timedelta(days=366 + n) for n in range(OLD)]
        moments += [NOW - timedelta(days=10 * n) for n in range(YOUNG)]
        database = self.ledger.database
        if isinstance(database, MongodbDatabase):
            documents = [{"_id": n, "at": at, "body": f"{n:050}"} for n, at in enumerate(moments)]
            database.database["audit"].drop()
            database.database["audit"].create_index("at")
            database.database["audit"].insert_many(documents)
        elif isinstance(database, PostgresqlDatabase):
            database.execute(
                "DROP TABLE IF EXISTS audit;"
                "CREATE TABLE audit (id integer PRIMARY KEY, at timestamptz, body text);"
                "CREATE INDEX ON audit (at)"
            )
            with psycopg.connect(database.url) as connection:
                rows = [(n, at, f"{n}\t\\é") for n, at in enumerate(moments)]
                connection.cursor().executemany("INSERT INTO audit VALUES (%s, %s, %s)", rows)

    def entries(self) -> set[bytes]:
        """Return what is there, read without the flows' code."""
        database = self.ledger.database
        if isinstance(database, MongodbDatabase):
            found = database.database.with_options(RAW)["audit"].find({})
            return {bytes(document.raw) for document in found}
        with (
            psycopg.connect(database.url) as connection,
            connection.cursor().copy("COPY audit TO STDOUT") as rows,
        ):
            return {bytes(row).removesuffix(b"\n") for row in rows}

    def archived(self) -> Counter[bytes]:
        """Return how often each entry is in the archives that are published."""
        return Counter(
            entry
            for manifest in self.archives.list_archives()
            for part in manifest.parts
            for entry in self.archives.read_part(part, manifest.kind)
        )

    def old(self) -> set[bytes]:
        """Return those of the entries that are older than the rule keeps, read without the flows' code."""
        return {entry for entry in self.entries() if self.identity(entry) < OLD}

    def identity(self, entry: bytes) -> int:
        if self.ledger.kind == "mongodb":
            return int(RawBSONDocument(entry, RAW)["_id"])
        return int(entry.partition(b"\t")[0])

    def clean(self, **parameters: Any) -> State[Any]:
        return cast("State[Any]", audit_log_cleanup(self.ledger.name, **parameters, return_state=True))

    def parts_in_store(self) -> list[str]:
        return [key for key in self.ledger.listing() if "/archives/" in key and not key.endswith(".json")]


def audited(ledgers: Ledgers, health: Health, kind: Kind) -> Audited:
    return Audited(ledgers.make(kind), health)


@pytest.fixture
def log(ledgers: Ledgers, health: Health) -> Audited:
    """On MongoDB: what both databases have in common."""
    return audited(ledgers, health, "mongodb")


# --- It works ---


@pytest.mark.parametrize("kind", ["mongodb", "postgresql"])
def test_what_is_old_is_archived_and_gone_and_nothing_else_is_touched(
    ledgers: Ledgers, health: Health, kind: Kind
) -> None:
    log = audited(ledgers, health, kind)
    before, old = log.entries(), log.old()

    state = log.clean()

    (manifest,) = log.archives.list_archives("audit")
    assert completed(state).startswith("ledger: 60 entries deleted by audit, ")
    assert manifest.archive_id in completed(state)
    assert log.entries() == before - old
    assert log.archived() == Counter(old)
    assert list_open_journals(log.ledger.profile) == ()
    shown = artifacts_of(state)
    assert "about 60 entries" in shown["audit-log-cleanup-plan-ledger"]
    assert manifest.archive_id in shown["audit-log-cleanup-plan-ledger"]
    assert "| Month | Entries | Raw |" in shown["audit-log-cleanup-expired-ledger"]
    assert "data:image/svg" in shown["audit-log-cleanup-freed-ledger"]
    assert "archived" in shown["audit-log-cleanup-done-ledger"]
    assert completed(log.clean()) == "ledger: Nothing was deleted."
    assert log.archived() == Counter(old)
