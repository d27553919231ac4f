"""Move a restored MongoDB database into the place of the real one, and back; safe to kill at any moment.

``renameCollection`` is not used: across databases it copies as well, takes neither views nor time series nor
sharded clusters, and some servers forget the options on the way. So a collection of any kind is copied, the
copy is read back and compared, the journal says so, and only then its source is dropped. Of a collection that
is in both places, the journal therefore tells which one is whole: the copy if it has the line, else the
source. What ``list_shapes`` leaves out (``system.*``) stays where it is.
"""

from tasks.credentials import resolve
from tasks.errors import ConfigurationError, RefusedError, SourceError
from tasks.journal import Journal
from tasks.mongodb import Client, connect, translated
from tasks.mongodb_collections import fill_collection, make_collection, make_indexes
from tasks.mongodb_dump import ContentHash
from tasks.mongodb_snapshot import CollectionShape, list_shapes, open_reader
from tasks.records.section import Reference
from tasks.retrying import retried

_COPIED = "copied"


@retried
def swap_in(admin_url: Reference, real: str, beside: str, aside: str, journal: Journal) -> None:
    """Given a stopped application's database, set its collections aside and move in those from beside it.

    After a kill it goes on where it was. Raise ``RefusedError`` if ``aside`` is taken or the swap is being
    undone; ``SourceError`` if a copy is not like its source, which then is still there.
    """
    names = {"real": real, "beside": beside, "aside": aside}
    if journal.has("moving-out") or journal.has("putting-back"):
        raise RefusedError(f"{real}: this swap is being undone: finish that before another one.")
    _require_same_names(journal, names)
    with connect(resolve(admin_url), patient=True) as client:
        if not journal.has("setting-aside"):
            _require_empty(client, aside)
            journal.write("setting-aside", **names)
        _move_all(client, journal, real, aside, done="set-aside")
        if not journal.has("moving-in"):
            journal.write("moving-in")
        _move_all(client, journal, beside, real, done="moved-in")


@retried
def swap_back(admin_url: Reference, real: str, beside: str, aside: str, journal: Journal) -> None:
    """Given a swap wherever it stopped, undo it: afterwards ``real`` holds exactly the old collections.

    After a kill it goes on where it was; a swap that never began is no error. Raise ``SourceError`` if a copy
    is not like its source, which then is still there.
    """
    if not journal.has("setting-aside"):
        return
    _require_same_names(journal, {"real": real, "beside": beside, "aside": aside})
    moved_in = journal.has("moving-in")
    with connect(resolve(admin_url), patient=True) as client:
        if not journal.has("moving-out") and not journal.has("putting-back"):
            _settle(client, journal, *((beside, real) if moved_in else (real, aside)))
        if moved_in:
            if not journal.has("moving-out"):
                journal.write("moving-out")
            _move_all(client, journal, real, beside, done="moved-out")
        if not journal.has("putting-back"):
            journal.write("putting-back")
        _move_all(client, journal, aside, real, done="put-back")


def _require_same_names(journal: Journal, names: dict[str, str]) -> None:
    begun = journal.find("setting-aside")
    if begun is not None and begun.facts != names:
        raise ConfigurationError(
            f"The journal speaks of the databases {', '.join(begun.facts.values())} and not of "
            f"{', '.join(names.values())}: finish or undo that swap first."
        )


def _require_empty(client: Client, aside: str) -> None:
    """The old data must come back alone."""
    if shapes := list_shapes(client, aside):
        raise RefusedError(
            f"The old data cannot be set aside into {aside}, which holds {shapes[0].name} already: see whose "
            "it is, and drop it."
        )


def _move_all(client: Client, journal: Journal, source: str, target: str, *, done: str) -> None:
    if journal.has(done):
        return
    for shape in list_shapes(client, source):
        with translated(f"MongoDB, moving {shape.name} from {source} to {target}"):
            _move(client, journal, shape, source, target)
    journal.write(done)


def _move(client: Client, journal: Journal, shape: CollectionShape, source: str, target: str) -> None:
    if not _is_copied(journal, shape.name, source, target):
        client[target].drop_collection(shape.name)
        documents = _copy(client, shape, source, target)
        journal.write(_COPIED, collection=shape.name, source=source, target=target, documents=documents)
    client[source].drop_collection(shape.name)


def _settle(client: Client, journal: Journal, source: str, target: str) -> None:
    """Leave every collection in one place only, the one where it is whole."""
    there = {shape.name for shape in list_shapes(client, target)}
    for shape in list_shapes(client, source):
        if shape.name in there:
            rubbish = source if _is_copied(journal, shape.name, source, target) else target
            client[rubbish].drop_collection(shape.name)


def _is_copied(journal: Journal, collection: str, source: str, target: str) -> bool:
    move = {"collection": collection, "source": source, "target": target}
    return any(entry.step == _COPIED and move.items() <= entry.facts.items() for entry in journal.entries)


def _copy(client: Client, shape: CollectionShape, source: str, target: str) -> int:
    """Copy a collection and return its number of documents; raise unless the copy reads like its source."""
    make_collection(client, target, shape)
    before, after = ContentHash(), ContentHash()
    if shape.kind != "view":
        fill_collection(client, target, shape, before.pass_on(open_reader(client, source).read(shape)))
        make_indexes(client, target, shape)
        for batch in open_reader(client, target).read(shape):
            after.add(batch)
    (copy,) = [found for found in list_shapes(client, target) if found.name == shape.name]
    if (before.documents, before.value, _outline(shape)) != (after.documents, after.value, _outline(copy)):
        raise SourceError(
            f"{source}.{shape.name} is not the same once it is copied to {target}: its source was left as it "
            "is. See that the application is stopped and nobody else writes."
        )
    return before.documents


def _outline(shape: CollectionShape) -> tuple[str, set[str], set[str]]:
    """What the server must say of a copy; the words in which it says it may differ with its version."""
    return shape.kind, set(shape.options) - {"autoIndexId"}, {str(index["name"]) for index in shape.indexes}
