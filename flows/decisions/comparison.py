"""What differs between what a set should hold and what was found, by name. No sentence means equal."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from flows.decisions.printed_definitions import is_left_out_of_dumps, normalize_definition
from tasks.records.backup import CollectionFacts, Manifest, PostgresqlFacts, TableFacts
from tasks.records.figures import say_count, shorten

_HASH_DIGITS = 12
_CONTEXT = 40
# What a definition creates, where it says so: an index, a trigger, a routine.
_CREATED = re.compile(r"CREATE (?:[A-Z]+ )*?(?:INDEX|TRIGGER|FUNCTION|PROCEDURE) ([^\s(]+)")
_EXPIRY = "expireAfterSeconds"
# Servers before 4.4 put the namespace into an index: it names the database, which may differ. The others old
# drivers sent along and old servers kept; newer ones leave them away when the index is restored.
_NOT_OF_INDEX = ("ns", "dropDups", "j", "safe", "w", "wtimeout")
_NUMBERS = ("$numberInt", "$numberLong", "$numberDouble")


def compare_restored(
    manifest: Manifest, found: tuple[CollectionFacts, ...] | PostgresqlFacts
) -> tuple[str, ...]:
    """Given a set's manifest and the facts of a database that it was restored into, return what differs."""
    if isinstance(found, PostgresqlFacts):
        return compare_postgresql(manifest.postgresql, found) if manifest.postgresql else ()
    return compare_collections(manifest.mongodb.collections, found) if manifest.mongodb else ()


def compare_asleep(
    manifest: Manifest, found: tuple[CollectionFacts, ...] | PostgresqlFacts
) -> tuple[str, ...]:
    """As ``compare_restored``, but for what makes documents expire: that sleeps until they are in place."""
    if isinstance(found, PostgresqlFacts) or manifest.mongodb is None:
        return compare_restored(manifest, found)
    expected = {facts.collection: facts for facts in manifest.mongodb.collections}
    return compare_collections(
        [_without_expiry(facts, facts) for facts in expected.values()],
        [_without_expiry(facts, expected.get(facts.collection, facts)) for facts in found],
    )


def _without_expiry(facts: CollectionFacts, expected: CollectionFacts) -> CollectionFacts:
    options = _parse_options(facts.options)
    options.pop(_EXPIRY, None)
    expiring = {name for name, index in _parse_indexes(expected.indexes).items() if _EXPIRY in index}
    indexes = _parse_indexes(facts.indexes)
    return facts.model_copy(
        update={
            "options": json.dumps(options),
            "indexes": tuple(json.dumps(index) for name, index in indexes.items() if name not in expiring),
        }
    )


def compare_collections(
    expected: Sequence[CollectionFacts], found: Sequence[CollectionFacts]
) -> tuple[str, ...]:
    """Given collections of two databases, return what differs; the databases' own names may."""
    wanted = {facts.collection: facts for facts in expected}
    there = {facts.collection: facts for facts in found}
    differences = _compare_names("Collection", wanted, there)
    for name in sorted(wanted.keys() & there.keys()):
        differences += _compare_collection(wanted[name], there[name])
    return tuple(differences)


def compare_postgresql(expected: PostgresqlFacts, found: PostgresqlFacts) -> tuple[str, ...]:
    """Given the facts of two PostgreSQL databases, return what differs in tables, rows and definitions."""
    wanted = {facts.table: facts for facts in expected.tables}
    there = {facts.table: facts for facts in found.tables}
    differences = _compare_names("Table", wanted, there)
    for name in sorted(wanted.keys() & there.keys()):
        differences += _compare_table(wanted[name], there[name])
    for kind in sorted(expected.definitions.keys() | found.definitions.keys()):
        differences += _compare_definitions(
            kind, expected.definitions.get(kind, ()), found.definitions.get(kind, ())
        )
    return tuple(differences)


def _compare_names(noun: str, wanted: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    return [
        *(f"{noun} {name} is missing." for name in sorted(wanted.keys() - there.keys())),
        *(f"{noun} {name} is there, but not in the set." for name in sorted(there.keys() - wanted.keys())),
    ]


def _compare_hashes(where: str, content: str, expected: str, found: str) -> list[str]:
    if expected == found:
        return []
    difference = (
        f"{where}: as many {content} as there should be, but their content differs (hash "
        f"{found[:_HASH_DIGITS]}… instead of {expected[:_HASH_DIGITS]}…)."
    )
    return [difference]


def _compare_collection(expected: CollectionFacts, found: CollectionFacts) -> list[str]:
    where = f"Collection {expected.collection}"
    differences = []
    if expected.kind != found.kind:
        differences.append(f"{where}: is a {found.kind} instead of a {expected.kind}.")
    if expected.documents != found.documents:
        differences.append(
            f"{where}: {say_count(found.documents, 'document')} instead of {expected.documents:,}."
        )
    else:
        differences += _compare_hashes(where, "documents", expected.content_hash, found.content_hash)
    differences += _compare_fields(
        where, "option", _parse_options(expected.options), _parse_options(found.options)
    )
    return differences + _compare_fields(
        where, "index", _parse_indexes(expected.indexes), _parse_indexes(found.indexes)
    )


def _compare_fields(
    where: str, noun: str, expected: Mapping[str, object], found: Mapping[str, object]
) -> list[str]:
    differences = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            differences.append(f"{where}: {noun} {name} is missing ({_say(expected[name])}).")
        elif name not in expected:
            differences.append(f"{where}: {noun} {name} is there, but not in the set ({_say(found[name])}).")
        elif _say(expected[name], None) != _say(found[name], None):
            differences.append(
                f"{where}: {noun} {name} differs: "
                f"{_contrast(_say(expected[name], None), _say(found[name], None))}."
            )
    return differences


def _say(value: object, most: int | None = 200) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if most is None else shorten(text, most)


def _parse_options(options: str) -> dict[str, object]:
    """Return the options by name. Their own order means nothing; order inside them does (pipelines, keys)."""
    parsed = json.loads(options or "{}")
    return parsed if isinstance(parsed, dict) else {"": parsed}


def _parse_indexes(indexes: Iterable[str]) -> dict[str, dict[str, object]]:
    """Return the indexes by name, without what says nothing about the index."""
    parsed: dict[str, dict[str, object]] = {}
    for text in indexes:
        fields = _plain_numbers(json.loads(text))
        for name in _NOT_OF_INDEX:
            fields.pop(name, None)
        # Version 2 is what a server makes when nothing else was said.
        fields.setdefault("v", 2)
        name = str(fields.get("name") or _say(fields.get("key")))
        parsed[name] = dict(sorted(fields.items()))
    return parsed


def _plain_numbers(value: Any) -> Any:
    """Return Extended JSON with plain numbers: an index on 1, 1.0 or NumberLong(1) is the same index."""
    if isinstance(value, dict):
        if len(value) == 1:
            ((key, inner),) = value.items()
            if key in _NUMBERS and isinstance(inner, str):
                number = float(inner)
                return int(number) if number.is_integer() else number
        return {key: _plain_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain_numbers(inner) for inner in value]
    return value


def _compare_table(expected: TableFacts, found: TableFacts) -> list[str]:
    where = f"Table {expected.table}"
    differences = []
    if expected.columns != found.columns:
        differences.append(f"{where}: columns are {found.columns} instead of {expected.columns}.")
    if expected.rows != found.rows:
        differences.append(f"{where}: {say_count(found.rows, 'row')} instead of {expected.rows:,}.")
    else:
        differences += _compare_hashes(where, "rows", expected.content_hash, found.content_hash)
    return differences


def _compare_definitions(kind: str, expected: Sequence[str], found: Sequence[str]) -> list[str]:
    """Compare as multisets; where one name is both missing and additional, its definition differs."""
    wanted, there = _count_restorable(expected), _count_restorable(found)
    missing = _group((wanted - there).elements(), kind)
    additional = _group((there - wanted).elements(), kind)
    noun = kind.capitalize()
    differences = []
    for name in sorted(missing.keys() | additional.keys()):
        gone, come = missing.get(name, []), additional.get(name, [])
        if len(gone) == len(come) == 1:
            differences.append(f"{noun} {name} differs: {_contrast(gone[0], come[0])}.")
            continue
        differences += [f"{noun} is missing: {shorten(text)}" for text in gone]
        differences += [f"{noun} is there, but not in the set: {shorten(text)}" for text in come]
    return differences


def _count_restorable(definitions: Iterable[str]) -> Counter[str]:
    """Count what a dump brings back, as one text whichever way the server prints it."""
    return Counter(normalize_definition(text) for text in definitions if not is_left_out_of_dumps(text))


def _group(definitions: Iterable[str], kind: str) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for text in sorted(definitions):
        created = _CREATED.match(text)
        words = 2 if kind == "constraint" else 1
        name = created[1] if created is not None else " ".join(text.split()[:words])
        grouped.setdefault(name, []).append(text)
    return grouped


def _contrast(expected: str, found: str) -> str:
    """Return both texts from shortly before they part, since a long one's beginning is the same."""
    common = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(expected, found, strict=False)))
    start = max(0, common - _CONTEXT)
    ellipsis = "…" if start else ""
    return f"{ellipsis}{shorten(found[start:])} instead of {ellipsis}{shorten(expected[start:])}"
