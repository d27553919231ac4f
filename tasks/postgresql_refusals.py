"""Which of the states of a database a PostgreSQL server's refusal means.

libpq keeps a server's SQLSTATE to itself while it connects: there the server's own words have to do. What is
in none of them, as in another language, is told as it was said.
"""

import re
from typing import Final

import psycopg

from tasks.records.evidence import DatabaseState

_LONGEST = 200

# https://www.postgresql.org/docs/current/errcodes-appendix.html
_BY_CODE: Final[dict[str, tuple[DatabaseState, str]]] = {
    "28P01": ("refuses the password", "refuses the password of the URL: compare it with the server's"),
    "28000": ("does not allow it", "does not let this user in: see its pg_hba.conf"),
    "42501": ("does not allow it", "does not allow this user what the application does"),
    "3D000": ("has no such database", "is not there: the server has no database of that name"),
    "53300": ("has no connection left", "has no connection left: the server's max_connections are in use"),
    "57P01": ("is starting or stopping", "is shutting down"),
    "57P02": ("is starting or stopping", "ended all sessions, because one of its processes crashed"),
    "57P03": ("is starting or stopping", "is starting up or shutting down, and takes nobody yet"),
}

# The messages of src/backend/libpq/auth.c, utils/init and tcop/backend_startup.c, and of libpq itself.
_BY_WORDS: Final[tuple[tuple[str, DatabaseState, str], ...]] = (
    ("password authentication failed|SASL authentication failed", *_BY_CODE["28P01"]),
    ("no password supplied", "refuses the password", "wants a password, and the URL has none"),
    ('role ".*" does not exist', "refuses the password", "does not know the user of the URL"),
    ("no pg_hba.conf entry|pg_hba.conf rejects|authentication failed", *_BY_CODE["28000"]),
    ("is not permitted to log in", "does not allow it", "does not permit this user to log in"),
    ("permission denied for database", "does not allow it", "does not let this user connect to it"),
    ('database ".*" does not exist', *_BY_CODE["3D000"]),
    (
        "too many connections for role",
        "has no connection left",
        "has no connection left for this user: the role's own limit (CONNECTION LIMIT) is reached",
    ),
    (
        "too many connections for database",
        "has no connection left",
        "has no connection left: the database's own limit (CONNECTION LIMIT) is reached",
    ),
    ("too many clients already|connection slots are reserved", *_BY_CODE["53300"]),
    (
        "no more connections allowed",
        "has no connection left",
        "has no connection left: the pooler's limit is reached",
    ),
    ("is shutting down|due to administrator command", *_BY_CODE["57P01"]),
    ("the database system is|is not currently accepting connections", *_BY_CODE["57P03"]),
    ("crash of another server process", *_BY_CODE["57P02"]),
    ("Connection refused", "refuses connections", "refuses connections: nobody listens there"),
    (
        "No such file or directory",
        "refuses connections",
        "refuses connections: the server's socket is not there",
    ),
    (
        "could not translate host name|failed to resolve host",
        "unknown host",
        "has a host name that cannot be resolved",
    ),
    (
        "timeout expired|timed out",
        "does not answer",
        "does not answer: somebody accepts the connection and says nothing",
    ),
    (
        "server closed the connection|SSL SYSCALL error|consuming input failed|connection is closed",
        "does not answer",
        "does not answer: the connection was closed without a word",
    ),
)


def judge_refusal(where: str, error: psycopg.Error) -> tuple[DatabaseState, str]:
    """Given the database and psycopg's error, return its state and a sentence that says so."""
    if error.sqlstate in _BY_CODE:
        state, what = _BY_CODE[error.sqlstate]
        return state, f"{where} {what}."
    said = str(error)
    for words, by_words, what in _BY_WORDS:
        if re.search(words, said):
            return by_words, f"{where} {what}."
    line = said.strip().partition("\n")[0][:_LONGEST].rstrip(".")
    return "refuses otherwise", f"{where} refuses: {line}."
