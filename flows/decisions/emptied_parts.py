"""Did a collection or table lose all that it held? Beside a large database its size would not show it."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from flows.decisions.backup_judgement import name_units
from tasks.records.backup import CollectionContent, Manifest
from tasks.records.figures import say_count

# How many good sets have to agree that it held something: a queue is full one night and empty the next.
SETS_TO_COMPARE = 3
# Fewer are soon gone by themselves.
_LEAST_ENTRIES = 100
_EXPIRES = "expireAfterSeconds"


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    entries: int
    may_expire: bool = False


def find_emptied(manifest: Manifest, good: Sequence[Manifest], may_empty: Collection[str]) -> tuple[str, ...]:
    """Given a set and the good ones before it, newest first, return a sentence for each part that lost all.

    What expires by itself, and the sources in ``may_empty``, may. Fewer good sets than it takes tell nothing.
    """
    return tuple(_list_emptied(manifest, good[:SETS_TO_COMPARE], may_empty))


def _list_emptied(manifest: Manifest, good: Sequence[Manifest], may_empty: Collection[str]) -> Iterator[str]:
    if len(good) < SETS_TO_COMPARE:
        return
    now = {part.name: part for part in _list_parts(manifest)}
    before = [{part.name: part for part in _list_parts(found)} for found in good]
    what, entry = name_units(manifest)
    for name, part in before[0].items():
        least = min(found[name].entries if name in found else 0 for found in before)
        is_gone = name not in now or now[name].entries == 0
        excused = part.may_expire or {name, name.rpartition(".")[2]} & {*may_empty}
        if is_gone and least >= _LEAST_ENTRIES and not excused:
            yield (
                f"{what.capitalize()} {name} is {'empty' if name in now else 'not there'}, and held "
                f"{say_count(part.entries, entry)} in the last good set {good[0].set_id}: find out who did "
                "that; if it is right, run again with accept_changed_size."
            )


def _list_parts(manifest: Manifest) -> Iterator[_Part]:
    for found in manifest.mongodb.collections if manifest.mongodb is not None else ():
        if found.kind != "view":
            yield _Part(found.collection, found.documents, _may_expire(found))
    for table in manifest.postgresql.tables if manifest.postgresql is not None else ():
        yield _Part(table.table.replace('"', ""), table.rows)


def _may_expire(found: CollectionContent) -> bool:
    return any(_EXPIRES in text for text in (found.options, *found.indexes))
