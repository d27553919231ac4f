"""Move a restored MongoDB database into the place of the real one, and back; safe to kill at any moment.

``renameCollection`` is not used: across databases it copies as well, takes neither views nor time series nor
sharded clusters, and some servers forget the options on the way. So a collection of any kind is copied, the
copy is read back and compared, the journal says so, and only then its source is dropped. Of a collection that
is in both places, the journal therefore tells which one is whole: the copy if it has the line, else the
source. What ``list_shapes`` leaves out (``system.*``) stays where it is.

Damaged collections often cannot be copied. Of the old data such a one stays in the real database under a name
that ``list_shapes`` leaves out as well: within a database a rename reads no document.
"""

from prefect.logging import get_run_logger

from tasks.credentials import resolve
from tasks.errors import ConfigurationError, RefusedError, SourceError
from tasks.journal import Journal, JournalEntry
from tasks.mongodb import Client, connect, translated
from tasks.mongodb_collections import fill_collection, make_collection, make_indexes, wake_expiry
from tasks.mongodb_dump import ContentHash
from tasks.mongodb_snapshot import LEFT_IN_PLACE, CollectionShape, list_shapes, open_reader
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

    After a kill it goes on where it was; a swap that never began is no error. Raise ``RefusedError`` if what
    was set aside is gone, and move nothing; ``SourceError`` if a copy is not like its source, which then is
    still there.
    """
    if not journal.has("setting-aside"):
        return
    _require_same_names(journal, {"real": real, "beside": beside, "aside": aside})
    moved_in = journal.has("moving-in")
    with connect(resolve(admin_url), patient=True) as client:
        if not journal.has("putting-back"):
            _require_set_aside(client, journal, real, aside)
        if not journal.has("moving-out") and not journal.has("putting-back"):
            _settle(client, journal, *((beside, real) if moved_in else (real, aside)))
        if moved_in:
            if not journal.has("moving-out"):
                journal.write("moving-out")
            _move_all(client, journal, real, beside, done="moved-out")
        if not journal.has("putting-back"):
            journal.write("putting-back")
        _take_up(client, real, aside)
        _move_all(client, journal, aside, real, done="put-back")


@retried
def drop_left_in_place(admin_url: Reference, real: str, aside: str) -> None:
    """Given a swap that was proven, drop what of the old data could not be set aside."""
    with connect(resolve(admin_url), patient=True) as client:
        for name in _list_left_in_place(client, real, aside):
            client[real].drop_collection(name)


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


def _require_set_aside(client: Client, journal: Journal, real: str, aside: str) -> None:
    """Nothing makes way for old data that is not there to come back."""
    kept = {shape.name for shape in list_shapes(client, aside)}
    if not journal.has("moving-in"):
        # Killed before it was dropped from there, it is whole there.
        kept |= {shape.name for shape in list_shapes(client, real)}
    moved = {"source": real, "target": aside}.items()
    was = {entry.facts["collection"] for entry in _copied(journal) if moved <= entry.facts.items()}
    if gone := sorted(was - kept):
        raise RefusedError(
            f"The old data that was set aside into {aside} is not there any more ({', '.join(gone)}): "
            f"nothing was moved or dropped. Put it back there, and start {journal.runbook} again."
        )


def _take_up(client: Client, real: str, aside: str) -> None:
    """Give what was left in place its name back."""
    for name in _list_left_in_place(client, real, aside):
        _rename(client, real, name, name.removeprefix(_prefix(aside)))


def _list_left_in_place(client: Client, real: str, aside: str) -> list[str]:
    return [name for name in client[real].list_collection_names() if name.startswith(_prefix(aside))]


def _prefix(aside: str) -> str:
    return f"{LEFT_IN_PLACE}{aside}."


def _rename(client: Client, database: str, old: str, new: str) -> None:
    client.admin.command({"renameCollection": f"{database}.{old}", "to": f"{database}.{new}"})


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
        try:
            with translated(f"MongoDB, copying {shape.name} from {source} to {target}"):
                read, copied = _copy(client, shape, source, target)
        except SourceError as error:
            is_set_aside = not journal.has("set-aside") and not journal.has("putting-back")
            if not is_set_aside or shape.kind != "collection":
                raise
            get_run_logger().warning("%s It stays in %s under another name.", error, source)
            _leave_in_place(client, journal, shape.name, source, target)
            return
        _prove_copy(client, shape, source, target, same=read == copied)
        journal.write(_COPIED, collection=shape.name, source=source, target=target, documents=read[0])
    client[source].drop_collection(shape.name)


def _leave_in_place(client: Client, journal: Journal, collection: str, real: str, aside: str) -> None:
    client[aside].drop_collection(collection)
    kept = _prefix(aside) + collection
    journal.write("left-in-place", collection=collection, kept=kept)
    _rename(client, real, collection, kept)


def _settle(client: Client, journal: Journal, source: str, target: str) -> None:
    """Leave every collection in one place only, the one where it is whole."""
    there = {shape.name for shape in list_shapes(client, target)}
    for shape in list_shapes(client, source):
        if shape.name in there:
            rubbish = source if _is_copied(journal, shape.name, source, target) else target
            client[rubbish].drop_collection(shape.name)


def _is_copied(journal: Journal, collection: str, source: str, target: str) -> bool:
    move = {"collection": collection, "source": source, "target": target}
    return any(move.items() <= entry.facts.items() for entry in _copied(journal))


def _copied(journal: Journal) -> list[JournalEntry]:
    return [entry for entry in journal.entries if entry.step == _COPIED]


def _copy(
    client: Client, shape: CollectionShape, source: str, target: str
) -> tuple[tuple[int, str], tuple[int, str]]:
    """Copy a collection; return count and hash of the documents that were read, and of those in the copy."""
    make_collection(client, target, shape)
    read, copied = ContentHash(), ContentHash()
    if shape.kind != "view":
        fill_collection(client, target, shape, read.pass_on(open_reader(client, source).read(shape)))
        make_indexes(client, target, shape)
        for batch in open_reader(client, target).read(shape):
            copied.add(batch)
        wake_expiry(client, target, shape)
    return (read.documents, read.value), (copied.documents, copied.value)


def _prove_copy(client: Client, shape: CollectionShape, source: str, target: str, *, same: bool) -> None:
    """Raise unless the copy held the same documents and is the same kind of collection."""
    (copy,) = [found for found in list_shapes(client, target) if found.name == shape.name]
    if not same or _outline(shape) != _outline(copy):
        raise SourceError(
            f"{source}.{shape.name} is not the same once it is copied to {target}: its source was left as it "
            "is. See that the application is stopped and nobody else writes."
        )


def _outline(shape: CollectionShape) -> tuple[str, set[str], set[str]]:
    """What the server must say of a copy; the words in which it says it may differ with its version."""
    return shape.kind, set(shape.options) - {"autoIndexId"}, {str(index["name"]) for index in shape.indexes}
