"""What a PostgreSQL database is apart from its content: owner, encoding, locale, privileges and settings.

A dump's content restores into any database; one that is to take another's place must be like it in these.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

# Settings whose stored value is a list of quoted names, which no single literal can give back.
# https://github.com/postgres/postgres/blob/master/src/bin/pg_dump/dumputils.c, variableIsGUCListQuote
_LISTS_OF_NAMES = {
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "temp_tablespaces",
}
# Whole rows as JSON: which columns tell of the locale depends on the server's version.
_DATABASE = """
    SELECT to_jsonb(d), pg_get_userbyid(datdba), pg_encoding_to_char(encoding),
           (SELECT spcname FROM pg_tablespace t WHERE t.oid = dattablespace),
           shobj_description(d.oid, 'pg_database'), datacl IS NOT NULL
    FROM pg_database d WHERE datname = %s"""
_PRIVILEGES = """
    SELECT CASE grantee WHEN 0 THEN NULL ELSE pg_get_userbyid(grantee) END, privilege_type, is_grantable
    FROM pg_database, aclexplode(datacl) WHERE datname = %s"""
_SETTINGS = """
    SELECT CASE setrole WHEN 0 THEN NULL ELSE pg_get_userbyid(setrole) END,
           split_part(setting, '=', 1), substr(setting, strpos(setting, '=') + 1)
    FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase, unnest(setconfig) AS setting
    WHERE datname = %s"""


@dataclass(frozen=True)
class DatabaseProperties:
    """A database without its content.

    ``privileges`` (role, privilege, grantable) is None while the defaults hold; a role that is None is
    everybody. ``settings`` are (role, name, value); a role that is None is every role.
    """

    owner: str
    options: dict[str, str] = field(default_factory=dict)
    connection_limit: int = -1
    comment: str | None = None
    privileges: tuple[tuple[str | None, str, bool], ...] | None = None
    settings: tuple[tuple[str | None, str, str], ...] = ()


def read_properties(connection: psycopg.Connection, database: str) -> DatabaseProperties | None:
    """Given a database's name, return its properties; None if there is no such database."""
    row = connection.execute(_DATABASE, (database,)).fetchone()
    if row is None:
        return None
    columns, owner, encoding, tablespace, comment, has_privileges = row
    privileges = connection.execute(_PRIVILEGES, (database,)).fetchall() if has_privileges else None
    return DatabaseProperties(
        owner=owner,
        options={"ENCODING": encoding, "TABLESPACE": tablespace, **_locale(columns)},
        connection_limit=columns["datconnlimit"],
        comment=comment,
        privileges=None if privileges is None else tuple(privileges),
        settings=tuple(connection.execute(_SETTINGS, (database,)).fetchall()),
    )


def _locale(columns: dict[str, str | None]) -> dict[str, str]:
    # ICU's locale had another name before PostgreSQL 17.
    locale = columns.get("datlocale") or columns.get("daticulocale")
    provider = {"i": "icu", "b": "builtin"}.get(columns.get("datlocprovider") or "c", "libc")
    found = {
        "LC_COLLATE": columns["datcollate"],
        "LC_CTYPE": columns["datctype"],
        "LOCALE_PROVIDER": provider if "datlocprovider" in columns else None,
        "ICU_LOCALE": locale if provider == "icu" else None,
        "ICU_RULES": columns.get("daticurules"),
        "BUILTIN_LOCALE": locale if provider == "builtin" else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def create_database(connection: psycopg.Connection, database: str, properties: DatabaseProperties) -> None:
    """Given a name and properties, make an empty database that has them."""
    name = sql.Identifier(database)
    options = [sql.SQL("TEMPLATE template0"), sql.SQL("OWNER {}").format(sql.Identifier(properties.owner))]
    options.append(sql.SQL("CONNECTION LIMIT {}").format(sql.Literal(properties.connection_limit)))
    for option, value in properties.options.items():
        # A tablespace is a name, and so may be a locale provider; the others are texts.
        written = sql.Identifier(value) if option == "TABLESPACE" else sql.Literal(value)
        options.append(sql.SQL(option) + sql.SQL(" ") + written)
    connection.execute(sql.SQL("CREATE DATABASE {} WITH ").format(name) + sql.SQL(" ").join(options))
    with connection.transaction():
        for statement in (*_describe(name, properties), *_grant(name, properties)):
            connection.execute(statement)
        _set(connection, name, properties.settings)


def _describe(name: sql.Identifier, properties: DatabaseProperties) -> Iterator[sql.Composed]:
    if properties.comment is not None:
        yield sql.SQL("COMMENT ON DATABASE {} IS {}").format(name, sql.Literal(properties.comment))


def _grant(name: sql.Identifier, properties: DatabaseProperties) -> Iterator[sql.Composed]:
    if properties.privileges is None:
        return
    owner = sql.Identifier(properties.owner)
    yield sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC, {}").format(name, owner)
    for role, privilege, grantable in properties.privileges:
        yield sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(
            sql.SQL(privilege),
            name,
            sql.SQL("PUBLIC") if role is None else sql.Identifier(role),
            sql.SQL(" WITH GRANT OPTION" if grantable and role != properties.owner else ""),
        )


def _set(
    connection: psycopg.Connection, name: sql.Identifier, settings: Sequence[tuple[str | None, str, str]]
) -> None:
    for role, setting, value in settings:
        whose = (
            sql.SQL("ALTER DATABASE {}").format(name)
            if role is None
            else sql.SQL("ALTER ROLE {} IN DATABASE {}").format(sql.Identifier(role), name)
        )
        to = sql.SQL("TO {}").format(sql.Literal(value))
        if setting in _LISTS_OF_NAMES:
            connection.execute("SELECT set_config(%s, %s, true)", (setting, value))
            to = sql.Composed([sql.SQL("FROM CURRENT")])
        parts = [sql.Identifier(part) for part in setting.split(".")]
        connection.execute(whose + sql.SQL(" SET ") + sql.SQL(".").join(parts) + sql.SQL(" ") + to)
