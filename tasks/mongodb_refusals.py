"""Which of the states of a database an error of MongoDB's driver means."""

from collections.abc import Mapping
from typing import Any, Final

from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    NetworkTimeout,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)

from tasks.mongodb import Client
from tasks.records.evidence import DatabaseState

Judgement = tuple[DatabaseState, str]

CLOSED: Final = (
    "accepts connections and closes them at once, as one does whose limit of connections is reached, or "
    "behind which nobody runs."
)
_LONGEST: Final = 200

# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml; 8000 is Atlas's own.
_BY_CODE: Final[dict[int, Judgement]] = {
    **dict.fromkeys((18, 11, 8000), ("refuses the password", "refuses the user or the password of the URL")),
    **dict.fromkeys((13,), ("does not allow it", "does not allow this user what the application does")),
    **dict.fromkeys((91, 11600), ("is starting or stopping", "is shutting down")),
    **dict.fromkeys(
        (189, 10107, 10058, 11602, 13435, 13436),
        ("has no primary", "has no primary: its members are electing one, or cannot"),
    ),
    50: ("does not answer", "answers, but takes longer than it may"),
}


def judge_refusal(where: str, error: PyMongoError, client: Client) -> Judgement:
    """Given the database, the driver's error and its client, return the state and a sentence that says so."""
    # One that is no primary tells its code in its details only.
    found = getattr(error, "details", None)
    details: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    if (code := details.get("code")) in _BY_CODE:
        state, what = _BY_CODE[code]
        return state, f"{where} {what}."
    if isinstance(error, OperationFailure):
        reason = str(details.get("errmsg", "no reason given"))[:_LONGEST].rstrip(".")
        return "refuses otherwise", f"{where} refuses: {reason} (code {code})."
    if isinstance(error, ServerSelectionTimeoutError):
        return _judge_topology(where, client)
    return _judge_connection(where, error)


def _judge_topology(where: str, client: Client) -> Judgement:
    """No server was fit: say whether they are silent, refuse, or know of no primary."""
    servers = client.topology_description.server_descriptions().values()
    if any(server.is_server_type_known for server in servers):
        state, what = _BY_CODE[189]
        return state, f"{where} {what}."
    judged = [_judge_connection(where, server.error) for server in servers if server.error is not None]
    silent: Judgement = (
        "does not answer",
        f"{where} does not answer: it accepts connections and says nothing.",
    )
    # What one of them says, over the silence of the others.
    return next((one for one in (*judged, silent) if one[0] != "does not answer"), (*judged, silent)[0])


def _judge_connection(where: str, error: Exception) -> Judgement:
    said = str(error)
    if isinstance(error, NetworkTimeout) or "timed out" in said:
        return "does not answer", f"{where} does not answer: it accepts connections and says nothing."
    if "Connection refused" in said:
        return "refuses connections", f"{where} refuses connections: nobody listens there."
    if "SSL handshake failed" in said or "CERTIFICATE" in said:
        return (
            "refuses otherwise",
            f"{where}: no TLS connection comes about: see its tls options and certificate.",
        )
    if isinstance(error, AutoReconnect | ConnectionFailure):
        return "does not answer", f"{where} {CLOSED}"
    return "refuses otherwise", f"{where}: {type(error).__name__}, the driver gave up."
