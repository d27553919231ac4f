"""Services whose stored data is really damaged, as a bad disk or a server's own defect leaves it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import psycopg
from bson.raw_bson import RawBSONDocument
from psycopg import sql
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from deployments.sandbox.mongodb import MongoDB
from deployments.sandbox.ports import Ports
from deployments.sandbox.stack import Sandbox
from deployments.sandbox.supervisor import Supervisor
from deployments.sandbox.vault import Vault
from tests.runbooks.conftest import Ledger, MongodbDatabase

TABLE = "grown"
_PAGE = 8192
_SOUND, _BROKEN = b"\x05body\x00", b"\x66body\x00"


class Damage(Protocol):
    """Damages the table or collection ``grown`` of a service."""

    ledger: Ledger

    def harm(self) -> None:
        """Damage what is stored; the server finds it when it reads it."""
        ...

    def content(self) -> dict[str, str]:
        """Return of each collection or table a hash, or how far it can be read."""
        ...


class DamagedPostgresql:
    """A page of a table is overwritten."""

    def __init__(self, ledger: Ledger, sandbox: Sandbox) -> None:
        self.ledger, self._sandbox = ledger, sandbox

    def harm(self) -> None:
        """Overwrite a page; the server reads it when the files are a database of that name again."""
        database = self.ledger.database
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")
            row = connection.execute("SELECT pg_relation_filepath(%s::regclass)", [TABLE]).fetchone()
        assert row is not None
        with (self._sandbox.state / "postgresql" / row[0]).open("r+b") as file:
            file.seek(_PAGE + 4000)
            file.write(b"\xde\xad\xbe\xef" * 100)
        old, new = sql.Identifier(database.name), sql.Identifier(f"{database.name}_healthy")
        admin_url = self._sandbox.endpoints.postgresql_admin_url
        with psycopg.connect(admin_url, dbname="postgres", autocommit=True) as admin:
            forbid = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
            admin.execute(forbid.format(old, sql.Literal(False)))
            admin.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
                [database.name],
            )
            admin.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(old, new))
            admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(old, new))
            admin.execute(sql.SQL("DROP DATABASE {}").format(new))

    def content(self) -> dict[str, str]:
        with psycopg.connect(self.ledger.database.url, autocommit=True) as connection:
            names = connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
            ).fetchall()
            return {table: _read_table(connection, table) for (table,) in names}


def _read_table(connection: psycopg.Connection, table: str) -> str:
    read, copy = hashlib.sha256(), sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))
    try:
        with connection.cursor().copy(copy) as rows:
            for row in rows:
                read.update(bytes(row))
    except psycopg.Error as error:
        return f"{read.hexdigest()}, and then {error.sqlstate}"
    return read.hexdigest()


class DamagedMongodb:
    """A document on a server of the test's own is no BSON any more."""

    def __init__(self, ledger: Ledger, state: Path, server: MongoDB, vault: Vault) -> None:
        self.ledger, self._files, self._server = ledger, state / "mongodb", server
        ledger.database.remove()
        ledger.database = MongodbDatabase(server.admin_url, ledger.database.name)
        ledger.write_env(ledger.database.url)
        ledger.change(database={"admin_url": f"file:{vault.folder / 'mongodb-admin-url'}"})

    def harm(self) -> None:
        self._replace(_SOUND, _BROKEN)

    def mend(self) -> None:
        self._replace(_BROKEN, _SOUND)

    def _replace(self, old: bytes, new: bytes) -> None:
        """Replace bytes of one stored document, through the storage engine: its checksums stay right."""
        self._server.kill()
        connection = import_module("wiredtiger").wiredtiger_open(str(self._files), "log=(enabled=true)")
        session = connection.open_session()
        cursor, key, document = next(self._find(session, old))
        cursor.set_key(*key)
        cursor.set_value(document.replace(old, new))
        cursor.update()
        connection.close()
        self._server.start()

    def _find(self, session: Any, part: bytes) -> Iterator[tuple[Any, list[Any], bytes]]:
        catalog = session.open_cursor("metadata:")
        for table in [name for name, _ in catalog if name.startswith("table:secantus_documents")]:
            cursor = session.open_cursor(table)
            for *key, document in cursor:
                if key[:2] == [self.ledger.database.name, TABLE] and part in document:
                    yield cursor, key, document

    def content(self) -> dict[str, str]:
        raw: MongoClient[RawBSONDocument]
        with MongoClient(self.ledger.database.url, document_class=RawBSONDocument, authSource="admin") as raw:
            database = raw[self.ledger.database.name]
            found = {}
            for name in database.list_collection_names():
                try:
                    documents = sorted(bytes(document.raw) for document in database[name].find({}))
                    found[name] = hashlib.sha256(b"".join(documents)).hexdigest()
                except OperationFailure as error:
                    found[name] = f"{database[name].estimated_document_count()}, and then {error.code}"
            return found


@contextmanager
def server_to_damage(state: Path) -> Iterator[tuple[MongoDB, Vault]]:
    """A MongoDB server whose files may be written to; the sandbox's own is every test's."""
    supervisor, vault = Supervisor(state), Vault(state / "secrets")
    server = MongoDB(supervisor, vault, Ports.free().mongodb)
    try:
        server.start()
        yield server, vault
    finally:
        server.kill()
