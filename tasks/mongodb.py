"""MongoDB: connections, and the one table from its driver's errors to ours."""

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.errors import (
    AutoReconnect,
    ExecutionTimeout,
    InvalidURI,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
)
from pymongo.errors import (
    ConfigurationError as InvalidUri,
)
from pymongo.uri_parser import parse_uri

from tasks.errors import (
    AccessDeniedError,
    ConfigurationError,
    RunbookError,
    SourceError,
    StoreFullError,
    UnreachableError,
)

Client = MongoClient[dict[str, Any]]
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)

_MALFORMED = (
    "The MongoDB URL is malformed: expected mongodb://user:password@host:port/database, with the special "
    "characters of user and password percent-escaped."
)
_SELECTION_MILLISECONDS = 5_000
_PATIENCE = 4
_SOCKET_MILLISECONDS = 60_000
_PREFERENCES = {"readpreference", "readpreferencetags", "maxstalenessseconds"}

# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
_AUTHENTICATION_FAILED = 18
_UNAUTHORIZED = 13
_OUT_OF_DISK_SPACE = 14031
_SNAPSHOT_GONE = {239, 246, 251}
# After these words come values of a document, which may be personal data.
_VALUES = re.compile(r" dup key:|geo keys:")
_INDEX = re.compile(r"index: (\S+)")


def database_of(url: str) -> str:
    """Given a MongoDB URL, return the database it names; raise ``ConfigurationError`` if it is malformed."""
    try:
        database = parse_uri(url, validate=False)["database"]
    except (InvalidURI, InvalidUri, ValueError):
        # The driver's message may quote a piece of the URL, and with it of the password.
        raise ConfigurationError(_MALFORMED) from None
    if database and "@" in database:
        # A slash in the password: what is taken for the host and the database is a piece of it.
        raise ConfigurationError(_MALFORMED)
    if not database:
        raise ConfigurationError("The MongoDB URL names no database: write it after the host, /database.")
    return str(database).partition(".")[0]


def host_of(url: str) -> str:
    """Given a MongoDB URL, return its hosts and ports."""
    return ",".join(f"{host}:{port}" for host, port in parse_uri(url, validate=False)["nodelist"])


def address_member(url: str, member: str) -> str:
    """Given the URL of a replica set, return that of one member alone; without a member, the URL itself."""
    if not member:
        return url
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    options = [pair for pair in parts.query.split("&") if pair and not pair.startswith("directConnection=")]
    # A URL with a name of the DNS instead of hosts implies these.
    implied = ["tls=true", "authSource=admin"] if parts.scheme == "mongodb+srv" else []
    given = {pair.partition("=")[0] for pair in options}
    options += [pair for pair in implied if pair.partition("=")[0] not in given]
    query = "&".join([*options, "directConnection=true"])
    return urlunsplit(("mongodb", f"{user}{at}{member}", parts.path or "/", query, ""))


def find_member(client: Client) -> str:
    """Return the member of a replica set that a client works with; "" if it is the only one in reach."""
    if client.topology_description.topology_type_name == "Single":
        return ""
    return str(client.admin.command("hello").get("me", ""))


@contextmanager
def connect(url: str, *, patient: bool = False) -> Generator[Client]:
    """Open a client for the URL, with timeouts; the driver's errors leave as ours.

    It reads from the primary, whatever the URL prefers: what is decided and proved rests on what is there
    now, and a transaction reads nowhere else. A patient one waits for an answer as long as the connection
    lives: to index or drop a large collection takes minutes.
    """
    database_of(url)
    with translated(f"MongoDB at {host_of(url)}"), _open(url, patient=patient) as client:
        client.admin.command("ping")
        yield client


def _open(url: str, *, patient: bool) -> Client:
    try:
        return MongoClient(
            _without_preference(url),
            serverSelectionTimeoutMS=_SELECTION_MILLISECONDS,
            # The driver takes a server for gone that is silent for so long, and cancels what it was asked.
            connectTimeoutMS=_PATIENCE * _SELECTION_MILLISECONDS,
            socketTimeoutMS=None if patient else _SOCKET_MILLISECONDS,
            appname="runbooks",
        )
    except OSError as error:
        raise ConfigurationError(
            f"The MongoDB URL names a file that cannot be read, {error.filename}: see its tlsCAFile and "
            "tlsCertificateKeyFile."
        ) from None


def _without_preference(url: str) -> str:
    parts = urlsplit(url)
    options = [
        option for option in parts.query.split("&") if option.partition("=")[0].lower() not in _PREFERENCES
    ]
    return urlunsplit(parts._replace(query="&".join(options)))


@contextmanager
def translated(where: str) -> Generator[None]:
    """Raise the driver's errors as ours, naming the server."""
    try:
        yield
    except (AutoReconnect, NetworkTimeout, ExecutionTimeout, WaitQueueTimeoutError) as error:
        raise UnreachableError(
            f"{where} does not answer: check that it runs and that the network lets us through."
        ) from error
    except OperationFailure as error:
        raise _judge_failure(where, error) from error
    except PyMongoError as error:
        raise SourceError(f"{where}: {type(error).__name__}, the driver gave up.") from error


def _judge_failure(where: str, error: OperationFailure) -> RunbookError:
    details: Mapping[str, Any] = error.details or {}
    reason, code = _find_reason(details, error.code)
    if error.code == _AUTHENTICATION_FAILED:
        return AccessDeniedError(
            f"{where} refuses the user or the password of the URL: compare them with the server's."
        )
    if error.code == _UNAUTHORIZED:
        return AccessDeniedError(f"{where} does not allow this user: {reason}")
    if error.code == _OUT_OF_DISK_SPACE:
        return StoreFullError(f"{where} has no disk space left.")
    if error.code in _SNAPSHOT_GONE:
        return SourceError(
            f"{where} no longer holds the moment that was being saved ({reason}): raise "
            "transactionLifetimeLimitSeconds or minSnapshotHistoryWindowInSeconds on the server."
        )
    return SourceError(f"{where} refused: {reason} (code {code}).")


def _find_reason(details: Mapping[str, Any], code: int | None) -> tuple[str, int | None]:
    """Return what the server says without a document's values; of many inserts, what it says of the first."""
    if not details.get("writeErrors"):
        return _VALUES.split(str(details.get("errmsg", "no reason given")))[0], code
    first = details["writeErrors"][0]
    index = _INDEX.search(str(first.get("errmsg")))
    return f"a document, by its index {index[1]}" if index else "a document", first.get("code", code)
