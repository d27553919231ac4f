"""PostgreSQL: addresses, connections, client programs, and the one table from libpq's errors to ours."""

import getpass
import os
import re
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit, urlunsplit

import psycopg
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from tasks.errors import (
    AccessDeniedError,
    ConfigurationError,
    RunbookError,
    SourceError,
    StoreFullError,
    UnreachableError,
)

_CONNECT_SECONDS = 10
# The database that a server has for its administrators.
_MAINTENANCE = "postgres"
# Ours whatever the URL says: the application's name there is not ours.
_OURS = {"application_name": "runbooks"}
# The one that holds a snapshot idles while pg_dump works: what is silent for minutes, networks drop.
_UNLESS_SAID = {"keepalives_idle": "60"}
_MALFORMED = (
    "The PostgreSQL URL is malformed: expected postgresql://user:password@host:port/database, with the "
    "special characters of user and password percent-escaped."
)
# Hosts and ports, several separated by commas; a host may be the folder of a socket.
_PLACE = re.compile(r"[^@|]*\|[0-9,]*")
# What Prisma reads from its URL and libpq refuses.
# https://www.prisma.io/docs/orm/overview/databases/postgresql#arguments
_PRISMA_PARAMETERS = {
    "schema",
    "connection_limit",
    "pool_timeout",
    "pgbouncer",
    "socket_timeout",
    "statement_cache_size",
    "sslaccept",
    "sslidentity",
    "sslpassword",
}

LOCKED = (
    "kept us waiting for a lock until the lock timeout: see in pg_stat_activity which session holds it, and "
    "end that one"
)
# https://www.postgresql.org/docs/current/errcodes-appendix.html
BY_STATE: dict[str, tuple[type[RunbookError], str]] = {
    "28P01": (AccessDeniedError, "refuses the password: compare the URL with the server's"),
    "28000": (AccessDeniedError, "refuses the user: see its pg_hba.conf"),
    "42501": (AccessDeniedError, "does not allow this user what it needs"),
    "3D000": (ConfigurationError, "has no such database: correct the URL"),
    "53300": (UnreachableError, "has no connection left: see max_connections"),
    "53100": (StoreFullError, "has no disk space left"),
    "55P03": (SourceError, LOCKED),
    "57P01": (UnreachableError, "is shutting down"),
    "57P03": (UnreachableError, "is starting up"),
}
CONNECTION_LOST = re.compile(
    r"connection to server|server closed the connection|the connection is (?:closed|lost)"
    r"|could not (?:connect|translate host|receive data|send data)"
    r"|the database system is|terminating connection|no connection to the server|SSL SYSCALL",
)
_NO_DATABASE = re.compile(r'database ".*" does not exist')
# The second is PgBouncer's, of a password that it checks by SCRAM.
_REFUSED = re.compile(r"password authentication failed|SASL authentication failed")
# What it says for a while to everybody when the server had refused its own login.
_POOLER_REFUSED = re.compile(r"server login has been failing(?!.*connect failed)")


@dataclass(frozen=True)
class Address:
    """Where a database is and who asks. ``parameters`` are libpq's; the password is kept out of ``repr``."""

    host: str
    port: str
    database: str
    user: str
    parameters: "Parameters"

    def __str__(self) -> str:
        """Name the database as a person would, without user and password."""
        return f"PostgreSQL database {self.database} at {self.host}:{self.port}"

    def with_options(self, options: str) -> "Address":
        """Return the same address with more of the server's settings, such as ``-c name=value``."""
        values = self.parameters.values
        together = f"{values.get('options', '')} {options}".strip()
        return replace(self, parameters=Parameters({**values, "options": together}))

    def environment(self) -> dict[str, str]:
        """Return the environment of a client program, so that nothing stands on its command line."""
        names = {
            option.keyword.decode(): option.envvar.decode()
            for option in pq.Conninfo.get_defaults()
            if option.envvar
        }
        given = {names[key]: value for key, value in self.parameters.values.items() if key in names}
        fixed = {
            "PGTZ": "UTC",
            "PGCONNECT_TIMEOUT": str(_CONNECT_SECONDS),
            "PGAPPNAME": "runbooks",
            "LC_ALL": "C.UTF-8",
        }
        return {"PATH": os.environ.get("PATH", os.defpath), **fixed, **given}


class Parameters:
    """libpq's connection parameters; never printed."""

    def __init__(self, values: dict[str, str]) -> None:
        """Keep the values."""
        self.values = values

    def __repr__(self) -> str:
        """Say nothing."""
        return "<connection parameters>"


def parse_url(url: str, database: str | None = None) -> Address:
    """Given a URL as libpq or Prisma writes it, return the address, of another database if one is named.

    Raise ``ConfigurationError`` if it is malformed.
    """
    try:
        parts = urlsplit(url)
        # Left as they are written: libpq, unlike forms, takes a plus sign for a plus sign.
        query = [pair for pair in parts.query.split("&") if _parameter(pair) not in _PRISMA_PARAMETERS]
        found = conninfo_to_dict(urlunsplit(parts._replace(query="&".join(query))))
    except (ValueError, psycopg.Error):
        # libpq's message may quote a piece of the URL, and with it of the password.
        raise ConfigurationError(_MALFORMED) from None
    values = {key: str(value) for key, value in found.items() if value is not None}
    if parts.path.count("@") or not _PLACE.fullmatch(f"{values.get('host', '')}|{values.get('port', '')}"):
        # An unescaped character in the password: what is taken for a place is a piece of it.
        raise ConfigurationError(_MALFORMED)
    if database is not None:
        values["dbname"] = database
    if not values.get("dbname"):
        raise ConfigurationError("The PostgreSQL URL names no database: write it after the host, /database.")
    return Address(
        host=values.get("host", "localhost"),
        port=values.get("port", "5432"),
        database=values["dbname"],
        # libpq's own default: the name of the operating system's user.
        user=values.get("user") or getpass.getuser(),
        parameters=Parameters(values),
    )


def _parameter(pair: str) -> str:
    return unquote(pair.partition("=")[0])


@contextmanager
def connect(address: Address, *, autocommit: bool = True) -> Generator[psycopg.Connection]:
    """Open a connection; libpq's errors leave as ours."""
    with translated(str(address)), dial(address, _CONNECT_SECONDS, autocommit=autocommit) as connection:
        yield connection


def dial(address: Address, seconds: int, *, autocommit: bool) -> psycopg.Connection:
    """Open a connection within so many seconds, at least two, for each of its hosts; errors are psycopg's."""
    given = {**_UNLESS_SAID, **address.parameters.values, **_OURS, "connect_timeout": str(seconds)}
    return psycopg.connect(**given, autocommit=autocommit)  # type: ignore[arg-type]


@contextmanager
def connect_away_from(admin_url: str, databases: Collection[str]) -> Generator[psycopg.Connection]:
    """Open an administrator's connection to a database that is none of these: they are made or renamed."""
    address = parse_url(admin_url)
    if address.database in databases:
        address = parse_url(admin_url, _MAINTENANCE)
    with connect(address) as connection:
        yield connection


@contextmanager
def translated(where: str) -> Generator[None]:
    """Raise libpq's errors as ours, naming the server."""
    try:
        yield
    except psycopg.Error as error:
        raise _judge(where, error) from None


def is_password_refused(error: psycopg.Error) -> bool:
    """Did the server, or a pooler before it, compare the password and refuse a new connection for it?"""
    return error.sqlstate is None and _REFUSED.search(str(error)) is not None


def _judge(where: str, error: psycopg.Error) -> RunbookError:
    message = str(error).strip().partition("\n")[0]
    if error.sqlstate in BY_STATE:
        kind, what = BY_STATE[error.sqlstate]
        return kind(f"{where} {what}.")
    if is_password_refused(error):
        kind, what = BY_STATE["28P01"]
        return kind(f"{where} {what}.")
    if _POOLER_REFUSED.search(str(error)):
        return AccessDeniedError(
            f"{where} refuses the login of the pooler before it: compare the pooler's list of passwords with "
            "the server's."
        )
    if error.sqlstate is None and _NO_DATABASE.search(str(error)):
        kind, what = BY_STATE["3D000"]
        return kind(f"{where} {what}.")
    if isinstance(error, psycopg.OperationalError) and CONNECTION_LOST.search(str(error)):
        return UnreachableError(
            f"{where} does not answer ({message}): check that it runs and that the network lets us through."
        )
    return SourceError(f"{where}: {message.removesuffix('.')}.")
