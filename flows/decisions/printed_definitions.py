"""One text for what a PostgreSQL server prints in two ways: before it was ever dumped, and after a restore.

Of a list that it compares with a text column, such as ``status IN ('a', 'b')``, a server that was given it by
an application casts the whole, and one that was given it by pg_dump casts each of its members. Both print
what they have, and both mean the same. A moment it prints in the time zone of whoever asks, which may be set
for one database, or one user, and not for another.
"""

import re
from datetime import UTC, datetime

# What is quoted is passed over whole, whatever it looks like: texts, names, and the bodies of routines.
_TEXT = r"'(?:[^']|'')*+'"
_QUOTED_NAME = r'"(?:[^"]|"")*+"'
_BODY = r"\$(?P<tag>\w*)\$.*?\$(?P=tag)\$"
_NAME = rf"(?:[a-z_][a-z0-9_$]*+|{_QUOTED_NAME})"
_QUALIFIED_NAME = rf"{_NAME}(?:\.{_NAME})*+"
# As format_type prints it: ``character varying(20)``, ``timestamp(3) without time zone``, ``app."Kind"``.
_WORDS = r"(?: [a-z]+)*+"
_TYPE = rf"{_QUALIFIED_NAME}{_WORDS}(?:\([0-9,]+\))?+{_WORDS}"
_MEMBER = rf"(?:(?:{_TEXT}|NULL)::{_TYPE}|{_QUALIFIED_NAME})"
_MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?[+-]\d\d(?::\d\d){0,2}"
_PRINTED_IN_TWO_WAYS = re.compile(
    rf"'(?P<moment>{_MOMENT})'(?=::timestamp(?:\(\d\))? with time zone)"
    rf"|(?:{_TEXT}|{_QUOTED_NAME}|{_BODY})"
    rf"|\(ARRAY\[(?P<members>{_MEMBER}(?:, {_MEMBER})*+)\]\)::(?P<type>{_TYPE})\[\]",
    re.DOTALL,
)
_EACH_MEMBER = re.compile(_MEMBER)
_INVALID_INDEX = re.compile(rf"CREATE (?:UNIQUE )?INDEX {_QUALIFIED_NAME} ON (?!ONLY ).* INVALID", re.DOTALL)


def normalize_definition(definition: str) -> str:
    """Return the definition with each member cast of a list that is cast as a whole, and moments in UTC.

    Where it holds neither, that is the definition itself.
    """
    return _PRINTED_IN_TWO_WAYS.sub(_print_one_way, definition)


def is_left_out_of_dumps(definition: str) -> bool:
    """Is this an index that pg_dump leaves out, since CREATE INDEX CONCURRENTLY failed or is under way?

    That of a partitioned table is invalid while a partition has none, and is dumped.
    """
    return _INVALID_INDEX.fullmatch(definition) is not None


def _print_one_way(found: re.Match[str]) -> str:
    if found["moment"] is not None:
        return f"'{_in_utc(found['moment'])}'"
    if found["members"] is None:
        return found[0]
    members = (f"({member[0]})::{found['type']}" for member in _EACH_MEMBER.finditer(found["members"]))
    return f"ARRAY[{', '.join(members)}]"


def _in_utc(moment: str) -> str:
    try:
        return datetime.fromisoformat(moment).astimezone(UTC).isoformat(" ")
    except (ValueError, OverflowError):
        # Of no calendar that we know.
        return moment
