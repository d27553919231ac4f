"""Runbook row I16: whether a user exists and is active, asked with the application's own URL.

Only what tells that is read: no name, no password's hash.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import psycopg
import pymongo
from prefect import task
from prefect.cache_policies import NO_CACHE
from psycopg import sql

from tasks import mongodb, postgresql
from tasks.environment_file import read_variable
from tasks.errors import ConfigurationError, RunbookError
from tasks.postgresql_application import connect_as_application, list_columns
from tasks.postgresql_limits import Limits
from tasks.records.application import Login
from tasks.records.observation import Unknown
from tasks.records.service import ServiceProfile
from tasks.records.user import UserFacts

Values = Mapping[str, Any]

_SECONDS: Final = 4.0
_LIMITS: Final = Limits(statement=3.0, lock=1.0, silence=_SECONDS)
# What applications call it; the first field that is there tells.
_ACTIVE: Final = ("isActive", "is_active", "active", "isEnabled", "is_enabled", "enabled")
_INACTIVE: Final = (
    *("isDisabled", "is_disabled", "disabled", "isLocked", "is_locked", "locked"),
    *("isDeleted", "is_deleted", "deleted", "deletedAt", "deleted_at"),
)
_STATUS: Final = ("status", "state")
_INACTIVE_STATUS: Final = {"inactive", "disabled", "suspended", "locked", "blocked", "banned", "deleted"}
_TELLING: Final = (*_ACTIVE, *_INACTIVE, *_STATUS)


@task(cache_policy=NO_CACHE, persist_result=False)
def observe_user(profile: ServiceProfile, user: str) -> UserFacts | Unknown:
    """Given a service and what a user logs in with, return what its database says of that user."""
    login = profile.application.login
    if login is None:
        return Unknown(why="the profile has no application.login, which says where users are")
    find = _find_in_mongodb if profile.database.kind == "mongodb" else _find_in_postgresql
    try:
        exact, alike = find(read_variable(profile, profile.database.url_variable), login, user)
    except RunbookError as error:
        return Unknown(why=str(error).removesuffix("."))
    return _judge(f"{login.user_source}, {login.user_field}", user, exact, alike)


def _judge(where: str, user: str, exact: Sequence[Values], alike: Sequence[Values]) -> UserFacts:
    if len(exact) != 1:
        found: Any = "several" if exact else "spelled otherwise" if alike else "not found"
        return UserFacts(asked=user, where=where, found=found)
    active, told_by = judge_active(exact[0])
    return UserFacts(asked=user, where=where, found="found", active=active, told_by=told_by)


def judge_active(values: Values) -> tuple[bool | None, str | None]:
    """Given a user's fields, return whether the user is active, and the field that tells it."""
    told = []
    for name in _TELLING:
        value = values.get(name)
        if name in _ACTIVE and isinstance(value, bool):
            told.append((value, name))
        elif name in _INACTIVE and name in values:
            told.append((not value, name))
        elif name in _STATUS and isinstance(value, str):
            told.append((value.lower() not in _INACTIVE_STATUS, name))
    # One field that says no is enough.
    return min(told, default=(None, None), key=lambda one: one[0])


def _find_in_mongodb(url: str, login: Login, user: str) -> tuple[list[Values], list[Values]]:
    fields = {"_id": False, **dict.fromkeys((login.user_field, *_TELLING), True)}
    alike = {"$regex": f"^{re.escape(user)}$", "$options": "i"}
    with pymongo.timeout(_SECONDS), mongodb.connect(url) as client:
        users = client[mongodb.database_of(url)][login.user_source]
        exact: list[Values] = list(users.find({login.user_field: user}, fields).limit(2))
        return exact, [] if exact else list(users.find({login.user_field: alike}, fields).limit(1))


def _find_in_postgresql(url: str, login: Login, user: str) -> tuple[list[Values], list[Values]]:
    with connect_as_application(url, _LIMITS) as connection:
        columns = list_columns(connection, login.user_source)
        if login.user_field not in columns:
            raise ConfigurationError(
                f"{postgresql.parse_url(url)} has no table {login.user_source} with a column "
                f"{login.user_field}: correct application.login in the profile."
            )
        telling = [name for name in _TELLING if name in columns]
        field, source = sql.Identifier(login.user_field), sql.Identifier(login.user_source)
        wanted = sql.SQL(", ").join(sql.Identifier(name) for name in (login.user_field, *telling))
        select = sql.SQL("SELECT {} FROM {} ").format(wanted, source)
        exact = _read(connection, select + sql.SQL("WHERE {} = %s LIMIT 2").format(field), user)
        same = sql.SQL("WHERE lower({}::text) = lower(%s) LIMIT 1").format(field)
        return exact, [] if exact else _read(connection, select + same, user)


def _read(connection: psycopg.Connection, query: sql.Composed, user: str) -> list[Values]:
    with connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
        return list(cursor.execute(query, [user]).fetchall())
