"""What the application's own audit log says of refused logins and accesses, the newest first to be read."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pymongo
from prefect import task
from prefect.cache_policies import NO_CACHE
from psycopg import sql

from tasks.environment_file import read_variable
from tasks.errors import RunbookError
from tasks.mongodb_users import aware, must_have, open_application, read_path
from tasks.postgresql_application import Columns, connect_as_application
from tasks.records.accounts import Attempt, AttemptExtract
from tasks.records.figures import shorten
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile
from tasks.records.user_care import AuditSource

_MOST: Final = 10_000
_LONGEST: Final = 254
_QUERY: Final = """
SELECT {time}, {action}::text, {user}::text, {address}::text, count(*) OVER ()
FROM {source} WHERE {time} >= %s AND {time} <= %s AND {action}::text = ANY(%s)
ORDER BY 1 DESC LIMIT %s
"""


@task(cache_policy=NO_CACHE, persist_result=False)
def read_audit(
    profile: ServiceProfile, actions: Sequence[str], since: datetime, until: datetime
) -> AttemptExtract | Unknown:
    """Given actions and two moments, return what the audit log has of them; Unknown if it cannot be read."""
    audit = profile.users.audit
    read = _read_mongodb if profile.database.kind == "mongodb" else _read_postgresql
    try:
        url = read_variable(profile, profile.database.url_variable)
        rows, total = read(url, audit, actions, (since, until))
    except RunbookError as error:
        return Unknown(why=str(error).removesuffix("."))
    return AttemptExtract(
        source="audit log",
        where=audit.source,
        attempts=tuple(_tell(row) for row in reversed(rows)),
        left_out=max(0, total - len(rows)),
    )


def _tell(row: Sequence[Any]) -> Attempt:
    at, action, user, address = row
    return Attempt(
        at=at,
        source="audit log",
        action=str(action),
        # What somebody typed, who may have typed anything.
        user=shorten(str(user), _LONGEST) if user else None,
        address=shorten(str(address), _LONGEST) if address else None,
    )


def _read_mongodb(
    url: str, audit: AuditSource, actions: Sequence[str], span: tuple[datetime, datetime]
) -> tuple[list[tuple[Any, ...]], int]:
    since, until = span
    wanted = {
        audit.time_field: {"$gte": since, "$lte": until},
        audit.action_field: {"$in": list(actions)},
    }
    names = (audit.time_field, audit.action_field, audit.user_field, audit.address_field)
    fields: Mapping[str, bool] = {name: True for name in names if name is not None}
    with open_application(url) as database:
        must_have(database, audit.source, "users.audit")
        entries = database[audit.source]
        found = list(entries.find(wanted, fields).sort(audit.time_field, pymongo.DESCENDING).limit(_MOST))
        total = len(found) if len(found) < _MOST else entries.count_documents(wanted)
    rows = [tuple(read_path(entry, name) for name in names) for entry in found]
    return [(aware(at), *rest) for at, *rest in rows], total


def _read_postgresql(
    url: str, audit: AuditSource, actions: Sequence[str], span: tuple[datetime, datetime]
) -> tuple[list[tuple[Any, ...]], int]:
    since, until = span
    with connect_as_application(url) as connection:
        columns = Columns(connection, audit.source, "users.audit")
        time = columns.expression(audit.time_field)
        if audit.time_field not in columns.types:
            time = sql.SQL("{}::timestamptz").format(time)
        query = sql.SQL(_QUERY).format(
            time=time,
            action=columns.expression(audit.action_field),
            user=columns.expression(audit.user_field),
            address=columns.expression(audit.address_field),
            source=sql.Identifier(audit.source),
        )
        found = connection.execute(query, [since, until, list(actions), _MOST]).fetchall()
    # A column without a zone is UTC, as Prisma writes it.
    rows = [(at.replace(tzinfo=at.tzinfo or UTC).astimezone(UTC), *rest) for at, *rest, _ in found]
    return rows, int(found[0][-1]) if found else 0
