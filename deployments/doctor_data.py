"""What the doctor looks at of the care of data: whether the profile's rules meet what the database has.

It looks at catalogs and at a few of the newest documents, never at all of a collection: the runbooks do that.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from difflib import get_close_matches

from tasks.environment_file import read_variable
from tasks.mongodb import Client, connect, database_of
from tasks.mongodb_cleanup_facts import value_at
from tasks.opening_indexes import open_index_server
from tasks.postgresql import connect as connect_postgresql
from tasks.postgresql import parse_url
from tasks.postgresql_cleanup_table import find_table, has_time
from tasks.records.data_care import CleanupRule
from tasks.records.service import ServiceProfile

_NEWEST = 50


def examine_indexes(profile: ServiceProfile) -> Iterator[str]:
    """Yield a sentence for each recommended index on a collection or table that is not there."""
    if not profile.indexes:
        return
    there = open_index_server(profile).list_sources()
    for source in dict.fromkeys(index.source for index in profile.indexes):
        if source not in there:
            yield f"{_say_missing(source, there)}: correct indexes in the profile."


def examine_cleanup(profile: ServiceProfile) -> Iterator[str]:
    """Yield a sentence for each cleanup rule whose source is not there, or whose time field is no time."""
    if not profile.cleanup.rules:
        return
    url = read_variable(profile, profile.database.url_variable)
    there = open_index_server(profile).list_sources()
    look = _look_at_collections if profile.database.kind == "mongodb" else _look_at_tables
    yield from look(url, profile.cleanup.rules, there)


def _look_at_collections(url: str, rules: Sequence[CleanupRule], there: Sequence[str]) -> Iterator[str]:
    with connect(url) as client:
        for rule in rules:
            if rule.source not in there:
                yield _correct_source(rule, there)
            else:
                yield from _look_at_newest(client, database_of(url), rule)


def _look_at_newest(client: Client, database: str, rule: CleanupRule) -> Iterator[str]:
    newest = client[database][rule.source].find({}, [rule.time_field]).sort("_id", -1).limit(_NEWEST)
    values = [value_at(document, rule.time_field) for document in newest]
    odd = [value for value in values if value is not None and not isinstance(value, datetime)]
    if values and all(value is None for value in values):
        yield (
            f"none of the newest documents of {rule.source} has {rule.time_field}: correct time_field of the "
            f"cleanup rule {rule.name}."
        )
    if odd:
        yield (
            f"{rule.time_field} of {rule.source} is no time in {len(odd)} of the newest {len(values)} "
            f"documents ({type(odd[0]).__name__}): convert them, the cleanup rule {rule.name} refuses until "
            "then."
        )


def _look_at_tables(url: str, rules: Sequence[CleanupRule], there: Sequence[str]) -> Iterator[str]:
    with connect_postgresql(parse_url(url)) as connection:
        for rule in rules:
            table = find_table(connection, rule.source)
            if table is None:
                yield _correct_source(rule, there)
                continue
            column = table.column(rule.time_field)
            if column is None:
                names = [found.name for found in table.all_columns]
                yield (
                    f"{rule.source} has no column {rule.time_field}{_hint(rule.time_field, names)}: correct "
                    f"time_field of the cleanup rule {rule.name}."
                )
            elif not has_time(table, rule.time_field):
                yield (
                    f"{rule.time_field} of {rule.source} is no time ({column.type}): name another time_field "
                    f"in the cleanup rule {rule.name}."
                )


def _correct_source(rule: CleanupRule, there: Sequence[str]) -> str:
    return f"{_say_missing(rule.source, there)}: correct source of the cleanup rule {rule.name}."


def _say_missing(source: str, there: Sequence[str]) -> str:
    return f"there is no {source} in the database{_hint(source, there)}"


def _hint(name: str, there: Sequence[str]) -> str:
    alike = get_close_matches(name, there, n=1)
    return f" (did you mean {alike[0]}?)" if alike else ""
