"""Damage that really is on the disk is found, and said of the relation that it is in."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from deployments.sandbox.endpoints import Endpoints
from deployments.sandbox.stack import Sandbox
from tasks.errors import ConfigurationError, UnreachableError
from tasks.postgresql_integrity import examine_database
from tasks.records.service import ServiceProfile

PAGE = 8192
CONTENT = """
CREATE TABLE "Odd accounts" (id int PRIMARY KEY, owner text, note text);
ALTER TABLE "Odd accounts" ALTER note SET STORAGE EXTERNAL;
INSERT INTO "Odd accounts" SELECT n, 'owner ' || n, repeat('n', 5000) FROM generate_series(1, 400) n;
CREATE INDEX by_owner ON "Odd accounts" (owner);
CREATE TABLE sound (id int PRIMARY KEY);
INSERT INTO sound SELECT generate_series(1, 1000);
CREATE INDEX sound_hash ON sound USING hash (id);
CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM sound;
"""


@dataclass(frozen=True)
class Patient:
    """A database of the test's own, whose files may be overwritten."""

    admin: str
    data: Path
    name: str
    profile: ServiceProfile
    client_directory: Path

    def connect(self, name: str | None = None) -> psycopg.Connection:
        return psycopg.connect(self.admin, dbname=name or self.name, autocommit=True)

    def examine(self) -> tuple[str, ...]:
        return examine_database.fn(self.profile.database.admin_url, self.name, self.client_directory)

    def harm(self, relation: str) -> None:
        """Overwrite a relation on the disk.

        The server goes on with the pages that it has in memory, so that a copy of the files becomes the
        patient instead: of that it has read nothing yet.
        """
        healthy = f"{self.name}_healthy"
        with self.connect() as connection:
            connection.execute("CHECKPOINT")
            row = connection.execute("SELECT pg_relation_filepath(%s::regclass)", (relation,)).fetchone()
        assert row is not None
        with (self.data / row[0]).open("r+b") as file:
            file.seek(PAGE + 6000)
            file.write(b"\xde\xad\xbe\xef" * 100)
        with self.connect("postgres") as connection:
            old, new = sql.Identifier(healthy), sql.Identifier(self.name)
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(new, old))
            copied = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(new, old)
            connection.execute(copied)

    def remove(self) -> None:
        with self.connect("postgres") as connection:
            for name in (self.name, f"{self.name}_healthy"):
                query = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
                connection.execute(query.format(sql.Identifier(name)))


@pytest.fixture
def patient(sandbox: Sandbox, endpoints: Endpoints, propertypulse: ServiceProfile) -> Iterator[Patient]:
    made = Patient(
        endpoints.postgresql_admin_url,
        sandbox.state / "postgresql",
        f"test_{uuid.uuid4().hex[:8]}",
        propertypulse,
        endpoints.pg_bin,
    )
    with made.connect("postgres") as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(made.name)))
    with made.connect() as connection:
        connection.execute(CONTENT.encode())
    yield made
    made.remove()


def test_a_sound_database_is_sound_and_keeps_no_trace_of_the_examination(patient: Patient) -> None:
    traces = "SELECT nspname FROM pg_namespace UNION ALL SELECT extname FROM pg_extension ORDER BY 1"
    with patient.connect() as connection:
        before = connection.execute(traces).fetchall()
        assert patient.examine() == ()
        assert connection.execute(traces).fetchall() == before


def test_an_amcheck_that_is_there_is_used_and_left(patient: Patient) -> None:
    with patient.connect() as connection:
        connection.execute('CREATE SCHEMA "our tools"')
        connection.execute('CREATE EXTENSION amcheck SCHEMA "our tools"')
        assert patient.examine() == ()
        assert connection.execute("SELECT FROM pg_extension WHERE extname = 'amcheck'").rowcount == 1


def test_a_table_that_was_overwritten_is_named_and_cannot_be_read(patient: Patient) -> None:
    patient.harm('"Odd accounts"')
    table, *others = patient.examine()
    assert table.startswith('The table "Odd accounts" is damaged: ')
    assert any("cannot be read in full" in other for other in others)
    assert not any("sound" in other for other in others)


def test_an_index_that_was_overwritten_is_named_though_all_rows_can_be_read(patient: Patient) -> None:
    patient.harm("by_owner")
    (index,) = patient.examine()
    assert index.startswith("The index by_owner is damaged: ")


def test_values_that_are_kept_outside_of_their_rows_are_examined(patient: Patient) -> None:
    with patient.connect() as connection:
        query = "SELECT reltoastrelid::regclass::text FROM pg_class WHERE relname = 'Odd accounts'"
        (toast,) = connection.execute(query).fetchone() or ("",)
    patient.harm(toast)
    assert any(sentence.startswith(f"The table {toast} is damaged") for sentence in patient.examine())


def test_an_index_without_all_rows_is_found_though_every_page_of_it_is_sound(patient: Patient) -> None:
    with patient.connect() as connection:
        flag = "UPDATE pg_index SET indisready = {} WHERE indexrelid = 'by_owner'::regclass"
        connection.execute(flag.format("false").encode())
        connection.execute("INSERT INTO \"Odd accounts\" VALUES (1000, 'not in the index')")
        connection.execute(flag.format("true").encode())
    (index,) = patient.examine()
    assert "The index by_owner is damaged: heap tuple" in index


def test_limits_that_are_meant_for_the_application_do_not_end_it(patient: Patient) -> None:
    with patient.connect() as connection:
        name = sql.Identifier(patient.name)
        for setting in ("statement_timeout = 1", "default_transaction_read_only = on"):
            connection.execute(sql.SQL("ALTER DATABASE {} SET ").format(name) + sql.SQL(setting))
    assert patient.examine() == ()


def test_a_database_that_does_not_exist_is_not_called_damaged(patient: Patient) -> None:
    patient.remove()
    with pytest.raises(ConfigurationError, match="has no such database"):
        patient.examine()


def test_a_server_that_is_away_is_not_called_damaged(
    patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOBODY", "postgresql://postgres:x@127.0.0.1:1/postgres")
    with pytest.raises(UnreachableError):
        examine_database.fn("env:NOBODY", patient.name, patient.client_directory)
