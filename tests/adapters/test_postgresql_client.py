"""Client programs of every temper: talkative, stubborn, with workers of their own."""

import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import sql

from deployments.sandbox.endpoints import Endpoints
from tasks.errors import AccessDeniedError, RunbookError, SourceError, UnreachableError
from tasks.postgresql import parse_url
from tasks.postgresql_client import running

OTHER_COLLATION = (
    'WARNING:  database "books" has a collation version mismatch',
    (
        "DETAIL:  The database was created using collation version 2.31, but the operating system provides "
        "version 2.36."
    ),
    (
        "HINT:  Rebuild all objects in this database that use the default collation and run ALTER DATABASE "
        "books REFRESH COLLATION VERSION, or build PostgreSQL with the right library version."
    ),
)


def program(script: str) -> list[str]:
    return [sys.executable, "-c", script]


def test_one_that_complains_at_length_is_not_held_up_and_its_last_words_count() -> None:
    script = "import sys; sys.stderr.write('x' * 3_000_000 + '\\nERROR:  permission denied\\n'); sys.exit(1)"
    with running(program(script)) as talkative, pytest.raises(AccessDeniedError):
        list(talkative.read())


def test_its_complaints_are_on_no_disk() -> None:
    script = "import os; print(os.readlink('/proc/self/fd/2'))"
    with running(program(script)) as talkative:
        assert b"".join(talkative.read()).startswith(b"pipe:")


def test_one_that_says_nothing_is_judged_by_its_code() -> None:
    with running(program("import sys; sys.exit(7)")) as silent, pytest.raises(SourceError, match="code 7"):
        list(silent.read())


@pytest.mark.parametrize(
    ("before", "reason", "after", "kind"),
    [
        (
            OTHER_COLLATION,
            "pg_dump: error: query failed: ERROR:  permission denied for table books",
            ("pg_dump: detail: Query was: LOCK TABLE public.books IN ACCESS SHARE MODE",),
            AccessDeniedError,
        ),
        (
            OTHER_COLLATION,
            'pg_restore: error: could not execute query: ERROR:  relation "books" already exists',
            (
                "Command was: CREATE TABLE public.books (",
                "    id integer NOT NULL",
                ");",
                "",
                'pg_restore: error: could not execute query: ERROR:  relation "shelves" already exists',
                "Command was: CREATE TABLE public.shelves (",
                "    id integer NOT NULL",
                ");",
                "",
                "pg_restore: warning: errors ignored on restore: 2",
            ),
            SourceError,
        ),
        (
            (),
            (
                'pg_restore: error: COPY failed for table "books": ERROR:  duplicate key value violates '
                'unique constraint "books_pkey"'
            ),
            ("DETAIL:  Key (id)=(1) already exists.", "CONTEXT:  COPY books, line 1"),
            SourceError,
        ),
        (
            (),
            (
                'pg_dump: error: connection to server at "db", port 5432 failed: FATAL:  the database system '
                "is shutting down"
            ),
            (),
            UnreachableError,
        ),
        (OTHER_COLLATION, "pg_dump: error: no matching tables were found", (), SourceError),
        (
            ("LOG:  redo starts at 0/1523A28",),
            "PANIC:  could not locate a valid checkpoint record at 0/1523A28",
            (),
            SourceError,
        ),
        # Where no line is marked as an error, the last word counts.
        (
            OTHER_COLLATION,
            "pg_dump: unrecognized option '--filter'",
            ('pg_dump: hint: Try "pg_dump --help" for more information.',),
            SourceError,
        ),
        (
            (
                "pg_dump: warning: there are circular foreign-key constraints on this table:",
                "pg_dump: detail: books",
                "pg_dump: reading schemas",
            ),
            "pg_dump: [archiver] could not write to output file: Input/output error",
            (),
            SourceError,
        ),
        ((), OTHER_COLLATION[0], OTHER_COLLATION[1:], SourceError),
    ],
)
def test_the_reason_is_its_first_error_and_no_warning_before_it(
    before: tuple[str, ...], reason: str, after: tuple[str, ...], kind: type[RunbookError]
) -> None:
    said = "\n".join([*before, reason, *after, ""])
    with (
        running(program(f"import sys; sys.stderr.write({said!r}); sys.exit(1)")) as failing,
        pytest.raises(kind) as raised,
    ):
        list(failing.read())
    assert str(raised.value).endswith(f": {reason}.")


@pytest.fixture
def warning_url(endpoints: Endpoints) -> Iterator[str]:
    """Who may read nothing of a database of whose collation the server warns."""
    admin, name = endpoints.postgresql_admin_url, f"warns_{uuid.uuid4().hex[:8]}"
    at = admin.rpartition("@")[2].rpartition("/")[0]
    words = sql.Identifier(name)
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'narrow'").format(words))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(words))
        with psycopg.connect(f"{admin.rpartition('/')[0]}/{name}", autocommit=True) as made:
            made.execute("CREATE TABLE books (id int)")
        connection.execute("UPDATE pg_database SET datcollversion = '1' WHERE datname = %s", [name])
        yield f"postgresql://{name}:narrow@{at}/{name}"
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(words))
        connection.execute(sql.SQL("DROP ROLE {}").format(words))


def test_a_warning_of_the_server_is_not_why_pg_dump_failed(endpoints: Endpoints, warning_url: str) -> None:
    pg_dump, address = str(endpoints.pg_bin / "pg_dump"), parse_url(warning_url)
    said = subprocess.run([pg_dump], env=address.environment(), capture_output=True, text=True, check=False)
    assert said.stderr.startswith("WARNING:  database")
    with running([pg_dump], address) as failing, pytest.raises(AccessDeniedError) as raised:
        list(failing.read())
    assert "WARNING" not in str(raised.value)
    assert "query failed: ERROR:  permission denied for table books." in str(raised.value)


def test_workers_of_its_own_go_with_it_when_the_block_is_left(tmp_path: Path) -> None:
    script = """
import os, signal, sys
if os.fork() == 0:
    with open(sys.argv[1], "w") as file:
        file.write(str(os.getpid()))
signal.pause()
"""
    told = tmp_path / "pid"
    with running([*program(script), str(told)]):
        while not (told.exists() and told.read_text()):
            pass
        worker = psutil.Process(int(told.read_text()))
    with suppress(psutil.NoSuchProcess):
        # It was sent away; the kernel may take a moment to say so.
        deadline = time.monotonic() + 10
        while worker.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline, "it outlived the block"
