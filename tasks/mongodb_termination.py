"""The application's operations and open transactions in MongoDB, and the end of one of them."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from bson.binary import Binary
from pymongo.uri_parser import parse_uri

from tasks.credentials import resolve
from tasks.environment_file import read_variable
from tasks.errors import ConfigurationError, RunbookError
from tasks.mongodb import Client, connect, database_of, host_of
from tasks.records.service import ServiceProfile
from tasks.records.stuck_sessions import ApplicationSession, DatabaseSessions, Ending, SessionIdentity

T = TypeVar("T")
Document = Mapping[str, Any]

_GONE_SECONDS = 5.0
_POLL_SECONDS = 0.05
# Ours, and the tools that back up and restore.
_LEFT_ALONE: Final = {"runbooks", "mongodump", "mongorestore", "mongoexport"}
# What drivers and replicas leave open on purpose, and what has to take its time.
_STANDING: Final = {"hello", "ismaster", "isMaster", "createIndexes", "none"}
_READING: Final = {"query", "getmore", "find", "aggregate", "count", "distinct", "getMore"}
# What says nothing of what is asked, and much of who asks.
_ENVELOPE: Final = {"lsid", "$clusterTime", "$db", "signature", "$readPreference", "txnNumber"}


@dataclass(frozen=True, slots=True)
class User:
    """A user of MongoDB, and the database that it is of."""

    name: str
    source: str

    @property
    def digest(self) -> bytes:
        """What the server calls it in a logical session."""
        return hashlib.sha256(f"{self.name}@{self.source}".encode()).digest()

    def is_who_does(self, op: Document) -> bool:
        """Tell whether an operation or an idle session is this user's."""
        if users := op.get("effectiveUsers"):
            return {"user": self.name, "db": self.source} in [
                {"user": user.get("user"), "db": user.get("db")} for user in users
            ]
        return bytes(_look_up(op, "lsid", "uid") or b"") == self.digest


class MongodbTermination:
    """The operations of the application's user in the application's database."""

    def __init__(self, profile: ServiceProfile) -> None:
        """Given a service, read its URL; raise ``ConfigurationError`` if there is none."""
        self._profile = profile
        self._url = read_variable(profile, profile.database.url_variable)
        self._database, self._user = database_of(self._url), read_user(self._url)

    def observe(self) -> DatabaseSessions:
        """Return what the application's user does, and which of its transactions are open and idle."""
        return self._ask(self._observe)

    def terminate(self, identity: SessionIdentity) -> Ending:
        """End exactly this operation or transaction, and return when it is gone or does not go."""
        return self._ask(partial(self._end, identity))

    def _ask(self, act: Callable[[Client, Document], T]) -> T:
        """Do it as the administrator, or as the application's own user where that does not work."""
        try:
            with connect(resolve(self._profile.database.admin_url)) as client:
                return act(client, {})
        except RunbookError as refused:
            try:
                with connect(self._url) as client:
                    # A user may see and end its own without any role.
                    return act(client, {"$ownOps": True})
            except RunbookError:
                raise refused from None

    def _observe(self, client: Client, whose: Document) -> DatabaseSessions:
        return DatabaseSessions(
            at=_read_clock(client),
            where=f"MongoDB database {self._database} at {host_of(self._url)}",
            sessions=tuple(session for _, session in self._list(client, whose)),
        )

    def _list(self, client: Client, whose: Document) -> Iterator[tuple[Document, ApplicationSession]]:
        now = _read_clock(client)
        for op in client.admin.command({"currentOp": 1, **whose})["inprog"]:
            session = read_application_operation(op, self._user, self._database, now)
            if session is not None:
                yield op, session

    def _end(self, identity: SessionIdentity, client: Client, whose: Document) -> Ending:
        if (there := self._find(identity, client, whose)) is None:
            return "over"
        client.admin.command(self._say_end(identity, there))
        deadline = time.monotonic() + _GONE_SECONDS
        while self._find(identity, client, whose) is not None:
            if time.monotonic() > deadline:
                return "left"
            time.sleep(_POLL_SECONDS)
        return "gone"

    def _find(self, identity: SessionIdentity, client: Client, whose: Document) -> Document | None:
        """Return what the server says of exactly this one; no number is given twice to one client."""
        wanted = (identity.kind, identity.number, identity.client)
        for op, session in self._list(client, whose):
            found = session.identity
            if (found.kind, found.number, found.client) == wanted:
                return op
        return None

    def _say_end(self, identity: SessionIdentity, op: Document) -> dict[str, Any]:
        if identity.kind == "operation":
            return {"killOp": 1, "op": op["opid"]}
        session = {"id": op["lsid"]["id"], "uid": Binary(self._user.digest)}
        return {"killAllSessionsByPattern": [{"lsid": session}]}


def _read_clock(client: Client) -> datetime:
    found: datetime = client.admin.command("hello")["localTime"]
    return found.replace(tzinfo=UTC)


def read_user(url: str) -> User:
    """Given the application's URL, return its user; raise ``ConfigurationError`` if it names none."""
    parts = parse_uri(url, validate=False)
    if not parts["username"]:
        raise ConfigurationError(
            "The MongoDB URL of the application names no user, so its operations look like everybody's: end "
            "what is stuck by hand, with db.killOp()."
        )
    source = {name.lower(): value for name, value in parts["options"].items()}.get("authsource")
    return User(str(parts["username"]), str(source or parts["database"] or "admin"))


def read_application_operation(
    op: Document, user: User, database: str, now: datetime
) -> ApplicationSession | None:
    """Given a line of ``currentOp``, return it if it is the application's and may be ended."""
    application = str(op.get("appName") or _look_up(op, "clientMetadata", "application", "name") or "")
    namespace = str(op.get("ns") or "")
    elsewhere = namespace and namespace.partition(".")[0] not in {database, "admin"}
    if not user.is_who_does(op) or elsewhere or application in _LEFT_ALONE:
        return None
    who = ", ".join(filter(None, [user.name, application]))
    client = str(op.get("client") or op.get("client_s") or "")
    if "transaction" in op and not op.get("active"):
        return _read_transaction(op, who, client, now)
    command = op.get("command") or {}
    name = str(next(iter(command), op.get("op", "")))
    if not op.get("active") or "opid" not in op or {name, str(op.get("op"))} & _STANDING:
        return None
    seconds = float(op["microsecs_running"]) / 1e6 if "microsecs_running" in op else float(op["secs_running"])
    return ApplicationSession(
        identity=SessionIdentity(
            kind="operation", number=str(op["opid"]), since=now - timedelta(seconds=seconds), client=client
        ),
        who=who,
        state=f"{name} on {namespace}" if namespace else name,
        seconds=seconds,
        waiting_seconds=seconds if op.get("waitingForLock") else None,
        command={key: value for key, value in command.items() if key not in _ENVELOPE},
        reads_only=name in _READING,
    )


def _read_transaction(op: Document, who: str, client: str, now: datetime) -> ApplicationSession | None:
    """Read a transaction that is open while its client does nothing."""
    lsid = _look_up(op, "lsid", "id")
    if lsid is None:
        return None
    number = lsid.hex if isinstance(lsid, UUID) else bytes(lsid).hex()
    opened = timedelta(microseconds=float(_look_up(op, "transaction", "timeOpenMicros") or 0))
    idle = float(_look_up(op, "transaction", "timeInactiveMicros") or 0) / 1e6
    return ApplicationSession(
        identity=SessionIdentity(kind="transaction", number=number, since=now - opened, client=client),
        who=who,
        state="idle in transaction",
        seconds=idle,
    )


def _look_up(document: Document, *path: str) -> Any:
    """Return what is at the path, or None where one of its steps is missing."""
    found: Any = document
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found
