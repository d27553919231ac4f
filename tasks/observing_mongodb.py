"""The application's MongoDB database in an outage: which of all that can be wrong with it is."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import pymongo
from pymongo import MongoClient
from pymongo.errors import ConfigurationError as InvalidOption
from pymongo.errors import ExecutionTimeout, InvalidURI, PyMongoError
from pymongo.uri_parser import parse_uri

from tasks.credentials import resolve
from tasks.errors import ConfigurationError, RunbookError
from tasks.mongodb import Client, database_of
from tasks.mongodb_health import list_sessions, read_connections
from tasks.mongodb_refusals import CLOSED, judge_refusal
from tasks.observing_clocks import compare_clock
from tasks.reaching import Place, Reached, in_background, reach, wait_for
from tasks.records.database_health import Connections, Sessions
from tasks.records.evidence import DatabaseFacts
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile

T = TypeVar("T")

_REACH_SECONDS = 1.0
_SELECTION_SECONDS = 1.2
_READ_SECONDS = 1.0
# A read that takes longer is waiting: now is the time to look who waits for locks.
_MOMENT_SECONDS = 0.2
_ENDING_SECONDS = 0.4
_SRV = "mongodb+srv://"


@dataclass(frozen=True, slots=True)
class _View:
    """What the administrator sees; ``databases`` is None if it may not list them."""

    connections: Connections | Unknown
    sessions: Sessions | Unknown
    databases: frozenset[str] | None = None


def observe_by_mongodb(profile: ServiceProfile, url: str, seconds: float) -> DatabaseFacts:
    """Given the application's URL, return how its database is, within so many seconds."""
    deadline = time.monotonic() + seconds
    try:
        database = database_of(_without_lookup(url))
    except ConfigurationError as error:
        facts = _facts(f"the URL in {profile.database.url_variable}")
        return facts.model_copy(update={"state": "malformed url", "problem": str(error)})
    may_look = threading.Event()
    looking = in_background(partial(_look_as_administrator, profile, database, may_look, deadline))
    try:
        facts = _observe_as_application(url, database, may_look, deadline)
    finally:
        may_look.set()
    late = Unknown(why="the server did not answer the administrator in time")
    return _combine(facts, database, wait_for(looking, deadline - time.monotonic(), _View(late, late)))


def _facts(where: str) -> DatabaseFacts:
    return DatabaseFacts(kind="mongodb", where=where, state="answers", seconds=0)


def _combine(facts: DatabaseFacts, database: str, view: _View) -> DatabaseFacts:
    """Add what the administrator sees, and conclude what a server of this kind does not say by itself."""
    seen: dict[str, Any] = {
        name: getattr(view, name)
        for name in ("connections", "sessions")
        if not isinstance(getattr(view, name), Unknown) or isinstance(getattr(facts, name), Unknown)
    }
    connections = view.connections
    is_full = isinstance(connections, Connections) and connections.current >= (connections.limit or 1 << 31)
    if is_full and facts.problem is not None and facts.problem.endswith(CLOSED):
        seen["state"] = "has no connection left"
        seen["problem"] = f"{facts.where} has no connection left: its maxIncomingConnections are in use."
    if facts.is_empty and view.databases is not None and database not in view.databases:
        seen["state"] = "has no such database"
        seen["problem"] = f"{facts.where} is not there: the server has no database of that name."
    return facts.model_copy(update=seen)


def _without_lookup(url: str) -> str:
    """Return the URL so that it can be read without a name server."""
    return f"mongodb://{url.removeprefix(_SRV)}" if url.startswith(_SRV) else url


def _find_listeners(url: str) -> Reached:
    """Return which of the URL's hosts accept a connection; those of an SRV record are looked up first."""
    try:
        nodes = parse_uri(url, validate=False, connect_timeout=_REACH_SECONDS)["nodelist"]
    except (InvalidURI, InvalidOption):
        host = parse_uri(_without_lookup(url), validate=False)["nodelist"][0][0]
        return Reached((), "unknown host", f"{host} has no SRV record that can be looked up.")
    # A node without a port is a socket of this host.
    return reach([Place(host, port) for host, port in nodes if port], _REACH_SECONDS)


def _observe_as_application(
    url: str, database: str, may_look: threading.Event, deadline: float
) -> DatabaseFacts:
    hosts = ",".join(
        f"{host}:{port}" for host, port in parse_uri(_without_lookup(url), validate=False)["nodelist"]
    )
    facts = _facts(f"MongoDB database {database} at {hosts}")
    reached = _find_listeners(url)
    if reached.failure is not None:
        problem = f"{facts.where}: {reached.problem}"
        return facts.model_copy(update={"state": reached.failure, "problem": problem})
    return _judged(facts, url, deadline, lambda client: _ask(client, facts, database, may_look))


def _judged(
    facts: DatabaseFacts, url: str, deadline: float, ask: Callable[[Client], DatabaseFacts]
) -> DatabaseFacts:
    try:
        with _client(url, deadline) as client:
            try:
                return ask(client)
            except PyMongoError as error:
                state, problem = judge_refusal(facts.where, error, client)
    except (InvalidURI, InvalidOption, OSError) as error:
        state, problem = (
            "refuses otherwise",
            f"{facts.where}: the driver does not take the URL ({type(error).__name__}).",
        )
    return facts.model_copy(update={"state": state, "problem": problem})


@contextmanager
def _client(url: str, deadline: float) -> Generator[Client]:
    """Open a client all of whose operations end by the deadline; also its end, on a server that is silent."""
    milliseconds = int(_SELECTION_SECONDS * 1000)
    with pymongo.timeout(max(0.1, deadline - time.monotonic() - _ENDING_SECONDS)):
        client: Client = MongoClient(
            url,
            serverSelectionTimeoutMS=milliseconds,
            connectTimeoutMS=milliseconds,
            socketTimeoutMS=2 * milliseconds,
            retryReads=False,
            appname="runbooks",
        )
        try:
            yield client
        finally:
            with pymongo.timeout(_ENDING_SECONDS / 2):
                client.close()


def _ask(client: Client, facts: DatabaseFacts, database: str, may_look: threading.Event) -> DatabaseFacts:
    """Ask for the time and for a document, as the application does."""
    began, started = datetime.now(UTC), time.monotonic()
    greeting = _greet(client)
    took = time.monotonic() - started
    names = client[database].list_collection_names(authorizedCollections=True)
    stored = sorted(name for name in names if not name.startswith("system."))
    facts = facts.model_copy(
        update={
            "clock": compare_clock("the database", greeting["localTime"].replace(tzinfo=UTC), began, took),
            "is_empty": not stored,
            "connections": _look(client, lambda: read_connections(client.admin.command("serverStatus"))),
            "sessions": _look(client, lambda: list_sessions(client, database, own=True)),
        }
    )
    if not greeting.get("isWritablePrimary", greeting.get("ismaster")):
        # Asked directly: a client that looks for the primary would not have come here.
        problem = f"{facts.where} has no primary at that address: reads may work, writes are refused."
        return facts.model_copy(update={"state": "has no primary", "problem": problem})
    if not stored:
        return facts
    waiting = threading.Timer(_MOMENT_SECONDS, may_look.set)
    waiting.start()
    try:
        client[database][stored[0]].find_one({}, {"_id": 1}, max_time_ms=int(_READ_SECONDS * 1000))
    except ExecutionTimeout:
        problem = (
            f"{facts.where} answers, but to read one document of {stored[0]} takes longer than a second."
        )
        return facts.model_copy(update={"state": "does not answer", "problem": problem})
    finally:
        waiting.cancel()
    return facts


def _greet(client: Client) -> dict[str, Any]:
    """Say hello, within the time that finding a server may take."""
    with pymongo.timeout(_SELECTION_SECONDS):
        return client.admin.command("hello")


def _look_as_administrator(
    profile: ServiceProfile, database: str, may_look: threading.Event, deadline: float
) -> _View:
    """Return what the user of ``database.admin_url`` sees, or why it does not."""
    try:
        url = resolve(profile.database.admin_url)
        database_of(_without_lookup(url))
    except RunbookError as error:
        unknown = Unknown(why=str(error).removesuffix("."))
        return _View(unknown, unknown)
    reached = _find_listeners(url)
    if reached.failure is not None:
        unknown = Unknown(why=reached.problem.removesuffix("."))
        return _View(unknown, unknown)
    try:
        with _client(url, deadline) as client:
            greeting = _look(client, partial(_greet, client))
            if isinstance(greeting, Unknown):
                return _View(greeting, greeting)
            connections = _look(client, lambda: read_connections(client.admin.command("serverStatus")))
            databases = _look(client, lambda: frozenset(client.list_database_names()))
            may_look.wait(max(0.0, deadline - time.monotonic() - _ENDING_SECONDS))
            sessions = _look(client, lambda: list_sessions(client, database))
    except (InvalidURI, InvalidOption, OSError):
        unknown = Unknown(why="the driver does not take the URL of database.admin_url")
        return _View(unknown, unknown)
    return _View(connections, sessions, None if isinstance(databases, Unknown) else databases)


def _look(client: Client, look: Callable[[], T]) -> T | Unknown:
    try:
        return look()
    except PyMongoError as error:
        return Unknown(why=judge_refusal("MongoDB", error, client)[1].removesuffix("."))
