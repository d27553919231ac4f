"""What a MongoDB user may, seen by doing it, and compared with another: a new password's test."""

from collections.abc import Mapping
from typing import Any, Final

from bson import ObjectId
from pymongo.errors import OperationFailure

from tasks.errors import AccessDeniedError
from tasks.mongodb import Client, connect, database_of

# https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml
_UNAUTHORIZED: Final = 13
# A view takes long, and was allowed to begin.
_TOO_LONG: Final = 50
# A validator or a unique index of the application does not like this document, so writing was allowed.
_DISLIKED: Final = {121, 11000}
# A capped collection takes no part in transactions, and a server that is no member of a set has none.
_NOT_THIS_ONE, _NO_TRANSACTIONS = 263, 20
_READ_MILLISECONDS: Final = 1_000


def exercise_permissions(url: str, previous: str | None) -> None:
    """Given a URL, read by a new connection what its user may, and write what is aborted.

    Raise ``AccessDeniedError`` if it may nothing, or less than the user of the previous URL.
    """
    database = database_of(url)
    with connect(url) as client:
        has = _list_abilities(client, database)
    if not has:
        raise AccessDeniedError(f"The new user may not read anything in the MongoDB database {database}.")
    if previous is None:
        return
    with connect(previous) as client:
        had = _list_abilities(client, database)
    if lacks := sorted(had - has):
        raise AccessDeniedError(
            f"The new user of the MongoDB database {database} may not {', '.join(lacks[:3])}; the old may."
        )


def list_readable(client: Client, database: str) -> set[str]:
    """Given a database, return its collections and views of which the client may read a document."""
    return {
        found["name"] for found in _list_collections(client, database) if _may_read(client, database, found)
    }


def _list_abilities(client: Client, database: str) -> set[str]:
    may_write = {f"write to {name}" for name in _list_writable(client, database)}
    return {f"read {name}" for name in list_readable(client, database)} | may_write


def _list_collections(client: Client, database: str) -> list[Mapping[str, Any]]:
    found = client[database].list_collections(nameOnly=True, authorizedCollections=True)
    return [one for one in found if not one["name"].startswith("system.")]


def _may_read(client: Client, database: str, found: Mapping[str, Any]) -> bool:
    try:
        client[database][found["name"]].find_one({}, {"_id": 1}, max_time_ms=_READ_MILLISECONDS)
    except OperationFailure as error:
        if error.code not in {_UNAUTHORIZED, _TOO_LONG}:
            raise
        return error.code == _TOO_LONG
    return True


def _list_writable(client: Client, database: str) -> set[str]:
    """Return the collections that the client may write to; nothing of it is committed."""
    names = [one["name"] for one in _list_collections(client, database) if one["type"] == "collection"]
    return {name for name in names if _may_write(client, database, name)}


def _may_write(client: Client, database: str, name: str) -> bool:
    collection = client[database][name]
    try:
        with client.start_session() as session:
            session.start_transaction()
            collection.insert_one({"_id": ObjectId(), "runbooks": "never committed"}, session=session)
            session.abort_transaction()
    except OperationFailure as error:
        if error.code in {_NOT_THIS_ONE, _NO_TRANSACTIONS}:
            return _may_write_alone(client, database, name)
        if error.code not in {_UNAUTHORIZED, *_DISLIKED}:
            raise
        return error.code in _DISLIKED
    return True


def _may_write_alone(client: Client, database: str, name: str) -> bool:
    """Tell it without a transaction: by a change of a document that is not there."""
    try:
        client[database][name].update_one({"_id": ObjectId()}, {"$set": {"runbooks": "never there"}})
    except OperationFailure as error:
        if error.code != _UNAUTHORIZED:
            raise
        return False
    return True
